"""Trees that are made once and then kept: under a lock, beside their place, and there only when they are complete."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DIRECTORY", "make_once"]

# How a directory of a tree is opened: itself, never what a link leads to.
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_once(final: str, fill: Callable[[int], None], *, mode: int = 0o755) -> str:
    """The directory ``final``; if it is missing, ``fill`` gets the descriptor (borrowed) of an empty one for it.

    Of several that want it one makes it and the others wait. ``fill`` sets the directory's own owner and mode. What
    ``fill`` had done when it raised, or was killed, is taken away by the next. ``mode``: of the directory of the work.
    Raises: what ``fill`` raises, OSError.
    """
    new = f"{final}.new"
    while not os.path.isdir(final):
        os.makedirs(new, mode=mode, exist_ok=True)
        try:
            fd = os.open(new, DIRECTORY)
        except FileNotFoundError:
            continue  # another has just completed it
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever completed it has removed the directory of the work, and one of us may have made that anew.
            if os.fstat(fd).st_nlink:
                if not os.path.isdir(final):
                    _make(fd, final, fill)
                os.rmdir(new)
        finally:
            os.close(fd)
    return final


def _make(fd: int, final: str, fill: Callable[[int], None]) -> None:
    for name in os.listdir(fd):
        shutil.rmtree(name, dir_fd=fd)
    os.mkdir("root", 0o700, dir_fd=fd)
    target = os.open("root", DIRECTORY, dir_fd=fd)
    try:
        fill(target)
    finally:
        os.close(target)
    os.rename("root", final, src_dir_fd=fd)
