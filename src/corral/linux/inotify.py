"""Waiting for changes of files: inotify(7), as far as a reader that follows logs needs it.

Source: inotify(7); include/uapi/linux/inotify.h.
"""

from __future__ import annotations

import os

from corral.linux.closing import Closing

IN_MODIFY = 0x0002
IN_MOVED_TO = 0x0080
IN_CREATE = 0x0100
IN_DELETE_SELF = 0x0400
IN_MOVE_SELF = 0x0800

_BUFFER = 1 << 16


class DirectoryWatch(Closing):
    """Tells when files of one directory are written, made or put in place. Owns a descriptor; ``close`` is idempotent.

    Where the kernel grants no watch (a limit per user), ``wait`` is a pause of a tenth of a second instead.
    """

    __slots__ = ("_fd",)

    def __init__(self, directory: str) -> None:
        self._fd = -1
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if fd < 0:
            return
        mask = IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF
        if int(libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(mask))) < 0:
            os.close(fd)
            return
        self._fd = fd

    def close(self) -> None:
        """Stop watching."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def fileno(self) -> int:
        """Readable when something changed; -1 without a watch. Borrowed."""
        return self._fd

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change; whether there was one, or may have been. What is told has been taken."""
        if self._fd < 0:
            import time

            time.sleep(min(timeout_s, 0.1))
            return True
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return False
        try:
            while os.read(self._fd, _BUFFER):
                pass
        except BlockingIOError:
            pass
        return True
