"""Directories ``.new-ID`` of what is being made: its maker holds the lock in it, so nobody asks how old it is."""

from __future__ import annotations

import fcntl
import posix

from corral.engine.deadfiles import remove_dead
from corral.engine.locks import FileLock
from corral.runtime.record import is_locked

__all__ = ["make_locked_or_none", "remove_new"]


def make_locked_or_none(folder: str, owner: str) -> int | None:
    """Make ``FOLDER/.new-OWNER`` and return its held lock, the caller's to close; None when it is there already.

    The lock goes along when the directory gets its name: until it is let go its maker is at work. Raises: OSError.
    """
    path = f"{folder}/.new-{owner}"
    with FileLock(f"{folder}/.lock", is_shared=True):
        try:
            posix.mkdir(path, 0o700)
        except FileExistsError:
            return None
        lock = posix.open(f"{path}/lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_new(folder: str, owner: str) -> bool:
    """Take away such a directory whose maker died; whether there was one. Raises: OSError."""
    path, dead = f"{folder}/.new-{owner}", f"{folder}/.dead-{owner}"
    with FileLock(f"{folder}/.lock"):
        if is_locked(f"{path}/lock"):
            return False
        try:
            posix.rename(path, dead)
        except FileNotFoundError:
            return False
    remove_dead(dead)
    return True
