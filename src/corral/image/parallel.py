"""Several transfers at once, which end together when one of them cannot be done."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.image.progress import Cancel

__all__ = ["do_all"]


def do_all(jobs: Sequence[Callable[[], None]], *, at_once: int, cancel: Cancel, name: str) -> None:
    """Do all ``jobs`` in threads called ``name``, ``at_once`` of them at a time; blocks until none runs any more.

    The first that raises, or Ctrl-C, sets ``cancel``, by which those that run stop, and the rest are not begun.
    Raises: what that first one raised.
    """
    if not jobs:
        return
    with ThreadPoolExecutor(max(1, min(at_once, len(jobs))), name) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            finished, _pending = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        except BaseException:
            cancel.set()
            for future in futures:
                future.cancel()
            raise
