"""The image store's own files: written whole or not at all, under one lock, with errors that say what to do.

Cheap to import.
"""

from __future__ import annotations

import fcntl
import posix

from corral.errors import CorralError, PermissionDenied, ResourceExhausted, Unavailable
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_ENOSPC, _EDQUOT, _EMFILE, _ENFILE, _EACCES, _EPERM, _EROFS = 28, 122, 24, 23, 13, 1, 30


def storage_error(act: str, path: str, exc: OSError) -> CorralError:
    """What an ``OSError`` of the store's own files means to the caller, as one of Corral's errors."""
    code = exc.errno or 0
    message = f"{act} {path}: {(exc.strerror or str(exc)).lower()}"
    if code in (_ENOSPC, _EDQUOT):
        hint = "make room: `corral system prune` removes unused images; what was fetched so far is kept and continued"
        return ResourceExhausted(message, hint=hint, path=path, errno=code)
    if code in (_EMFILE, _ENFILE):
        return ResourceExhausted(message, hint="raise the limit of open files (ulimit -n)", path=path, errno=code)
    if code in (_EACCES, _EPERM, _EROFS):
        return PermissionDenied(message, hint="is this store yours, and writable? see --store", path=path, errno=code)
    return Unavailable(message, path=path, errno=code)


class Lock:
    """``root/lock``, shared or exclusive, for a ``with`` block. Blocks; never held across slow work."""

    __slots__ = ("_fd", "_is_shared", "_root")

    def __init__(self, root: str, *, is_shared: bool = False) -> None:
        self._root = root
        self._is_shared = is_shared
        self._fd = -1

    def __enter__(self) -> None:
        path = f"{self._root}/lock"
        try:
            paths.make_directories(self._root, 0o700)
            self._fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_SH if self._is_shared else fcntl.LOCK_EX)
        except OSError as exc:
            raise storage_error("lock", path, exc) from exc

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        posix.close(self._fd)


def unique() -> str:
    """A part of a file's name that nobody else uses."""
    return posix.urandom(8).hex()


def write_atomically(path: str, data: bytes, *, mode: int, temporary: str = "", is_synced: bool = True) -> None:
    """Make ``path`` hold ``data``, so that others see the old content or all of the new.

    ``is_synced``: durably, also after a loss of power.
    """
    temporary = temporary or f"{path}.new-{unique()}"
    try:
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[posix.write(fd, view) :]
            posix.fchmod(fd, mode)
            if is_synced:
                posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
        if is_synced:
            sync_directory(paths.dirname(path))
    except OSError as exc:
        try:
            posix.unlink(temporary)
        except OSError:
            pass  # it was renamed, or never made
        raise storage_error("write", path, exc) from exc


def write_complete(path: str, write: Callable[[int], None]) -> None:
    """Have ``write`` fill a file of a person's, which appears when it is complete, in place of one that was there.

    What is no plain file (a pipe, /dev/stdout) is written to as it is. Raises: what ``write`` raises; CorralError.
    """
    if paths.exists(path) and not paths.isfile(path):
        try:
            fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        except OSError as exc:
            raise storage_error("open", path, exc) from exc
        try:
            write(fd)
        finally:
            posix.close(fd)
        return
    growing = f"{path}.part-{posix.getpid()}"
    try:
        fd = posix.open(growing, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise storage_error("make", growing, exc) from exc
    try:
        write(fd)
        posix.fsync(fd)
        posix.rename(growing, path)
    except BaseException:
        posix.unlink(growing)
        raise
    finally:
        posix.close(fd)


def sync_directory(path: str) -> None:
    """Make the directory's names durable."""
    fd = posix.open(path or ".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)
