"""A file system in this process whose one file never answers a read, until the connection is given up.

``with mounted(point) as files:`` mounts it; ``files.has_reader()`` tells that somebody waits; ``files.give_up()`` ends
the connection as a server does that dies: whoever waited gets an error. Only in a mount namespace of the test's own.

Source: Linux kernel include/uapi/linux/fuse.h (protocol 7.31).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

NAME = b"hung"
_ROOT, _FILE = 1, 2
_BUFFER = 1 << 17
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_FOREVER_S = 3600
_DIRECT_IO = 1
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT, _OPENDIR, _INTERRUPT, _BATCH_FORGET = 25, 26, 27, 36, 42
_UNANSWERED = frozenset({_FORGET, _INTERRUPT, _BATCH_FORGET})


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o444
    return struct.pack("=QQQQQQIIIIIIIIII", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class HungFiles:
    """The server's end of the connection, served by a thread."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._reader = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def begin(self, point: Path) -> None:
        """Mount it and answer."""
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"corral-test", os.fsencode(point), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount a fuse file system")
        self._thread.start()

    def has_reader(self) -> bool:
        """Whether somebody has asked for the file's content, and waits."""
        return self._reader.is_set()

    def give_up(self) -> None:
        """End the connection. Idempotent."""
        if self._fd >= 0:
            os.write(self._woken, b"x")
            self._thread.join()
            for fd in (self._fd, self._wake, self._woken):
                os.close(fd)
            self._fd = -1

    def _serve(self) -> None:
        import select

        poll = select.poll()
        for fd in (self._fd, self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wake in ready:
                return
            with contextlib.suppress(FileNotFoundError):  # interrupted before it was ours
                self._answer(os.read(self._fd, _BUFFER))

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode == _READ:
            self._reader.set()
            return
        if opcode in _UNANSWERED:
            return
        error, content = self._reply(opcode, node, request[_IN.size :])
        with contextlib.suppress(FileNotFoundError):
            os.write(self._fd, _OUT.pack(_OUT.size + len(content), -error, unique) + content)

    def _reply(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == _INIT:
            return 0, struct.pack("=IIIIHHIIHHI28x", 7, 31, 4096, 0, 12, 9, 4096, 1, 0, 0, 0)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != NAME:
                return errno.ENOENT, b""
            return 0, struct.pack("=QQQQII", _FILE, 0, _FOREVER_S, _FOREVER_S, 0, 0) + _attributes(_FILE)
        if opcode == _GETATTR:
            return 0, struct.pack("=QII", _FOREVER_S, 0, 0) + _attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return 0, struct.pack("=QII", 0, _DIRECT_IO, 0)
        if opcode == _STATFS:
            return 0, struct.pack("=QQQQQIIII24x", 0, 0, 0, 0, 0, 512, 255, 512, 0)
        if opcode in (_RELEASE, _FLUSH):
            return 0, b""
        return errno.ENOSYS, b""


@contextlib.contextmanager
def mounted(point: Path) -> Iterator[HungFiles]:
    """A mount at ``point``, whose connection is given up at the end at the latest."""
    files = HungFiles()
    files.begin(point)
    try:
        yield files
    finally:
        files.give_up()
