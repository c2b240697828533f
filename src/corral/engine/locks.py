"""A lock between processes and threads: flock(2) on a file, held for a few file operations and never across slow work.

Each holder opens the file anew, so that threads of one process exclude each other as processes do.
"""

from __future__ import annotations

import fcntl
import posix

from corral.linux.closing import Closing

__all__ = ["FileLock"]


class FileLock(Closing):
    """Holds the lock of ``path`` from its making to ``close``. The file is made if need be.

    Raises: FileNotFoundError when the directory is gone, or goes while we wait.
    """

    __slots__ = ("fd",)

    def __init__(self, path: str, *, is_shared: bool = False) -> None:
        self.fd = -1
        while True:
            fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
                held, now = posix.fstat(fd), posix.stat(path, follow_symlinks=False)
            except BaseException:
                posix.close(fd)
                raise
            if (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino):
                self.fd = fd
                return
            posix.close(fd)

    def close(self) -> None:
        """Let go. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            posix.close(fd)
