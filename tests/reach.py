"""A checkout that ordinary users reach: below /root, or in a directory of mktemp, they would not, and a third of the
rootless tests could not even start the program."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

__all__ = ["open_the_way"]

_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000


def open_the_way(checkout: Path) -> None:
    """Let other users pass through all directories above ``checkout``, in a mount namespace of this process's own.

    Each closed directory is covered by an open one with the same entries; the real one keeps its mode. Does nothing
    where nothing is closed, and for who is not root: then it is that user who runs the tests.
    """
    folders = [*reversed(checkout.parents), checkout]
    if os.geteuid() != 0 or all(_is_open(folder) for folder in folders):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return
    _mount(libc, "none", "/", "", _MS_SLAVE | _MS_REC)
    here = Path.cwd()
    for folder in folders:
        if not _is_open(folder):
            _cover(libc, folder)
    os.chdir(here)


def _is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _cover(libc: ctypes.CDLL, folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode) | stat.S_IXGRP | stat.S_IXOTH
    real = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        entries = list(os.scandir(folder))
        _mount(libc, "tmpfs", str(folder), "tmpfs", 0, f"mode={mode:o}")
        for entry in entries:
            target = folder / entry.name
            if entry.is_symlink():
                target.symlink_to(os.readlink(entry.name, dir_fd=real))
                continue
            if entry.is_dir():
                target.mkdir()
            else:
                target.touch()
            _mount(libc, f"/proc/self/fd/{real}/{entry.name}", str(target), "", _MS_BIND | _MS_REC)
    finally:
        os.close(real)


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
