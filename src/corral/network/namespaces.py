"""Network namespaces that bear a name in /run/netns, where outsiders look for them (``ip netns``, plugins).

A namespace is known by device and inode number: what bears the name is only touched while it is the same.

Source: ip-netns(8); namespaces(7) "Namespace lifetime"; umount(2).
"""

from __future__ import annotations

import errno
import os

from corral.errors import FailedPrecondition, PermissionDenied
from corral.linux.mounting import MS_BIND, mount, unmount

__all__ = ["DIRECTORY", "identity", "identity_or_none", "keep", "let_go"]

DIRECTORY = "/run/netns"


def identity(path: str) -> str:
    """``device:inode`` of a namespace's file. Raises: OSError."""
    info = os.stat(path)
    return f"{info.st_dev}:{info.st_ino}"


def identity_or_none(path: str) -> str | None:
    """The same; None where there is nothing."""
    try:
        return identity(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def keep(source: str, path: str) -> None:
    """Give the namespace ``source`` (/proc/PID/ns/net) the name ``path``; one that it has already is fine.

    Raises: FailedPrecondition when another bears it; PermissionDenied.
    """
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    wanted = identity(source)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444))
    except FileExistsError as exc:
        if identity(path) == wanted:
            return
        if not _is_bare(path):
            raise FailedPrecondition(f"name a network namespace {path}: another has the name") from exc
    try:
        mount(source, path, flags=MS_BIND)
    except PermissionError as exc:
        raise PermissionDenied(f"name a network namespace {path}: permission denied", path=path) from exc


def _is_bare(path: str) -> bool:
    """Whether it is only a file, left by somebody who was ended before or after the mount."""
    info = os.lstat(path)
    return info.st_size == 0 and info.st_dev == os.stat(os.path.dirname(path)).st_dev


def let_go(path: str, known: str) -> None:
    """Take the name from the namespace ``known``; from any other it is not taken. Idempotent. Raises: OSError."""
    now = identity_or_none(path)
    if now is None:
        return
    if now == known:
        try:
            unmount(path)
        except OSError as exc:
            # Not a mount here: its name was given in a mount namespace that is not ours.
            if exc.errno != errno.EINVAL:
                raise
    elif not _is_bare(path):
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
