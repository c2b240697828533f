"""Who becomes the parent of orphans of our children: this process while a test wants them, the host's init otherwise.

Set by one helper, and put back by it: no suite depends on which other one ran before it in the same process.

Source: PR_SET_CHILD_SUBREAPER(2const).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["adopting_orphans", "is_subreaper"]

_SET, _GET = 36, 37


def is_subreaper() -> bool:
    """Whether orphans come to this process now."""
    value = ctypes.c_int()
    _prctl(_GET, ctypes.byref(value))
    return bool(value.value)


@contextlib.contextmanager
def adopting_orphans(value: bool = True) -> Iterator[None]:
    """Have orphans come to this process (``value``), or not, within the block; as it was before afterwards."""
    before = is_subreaper()
    _prctl(_SET, int(value))
    try:
        yield
    finally:
        _prctl(_SET, int(before))


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl {option}")
