"""The other end of `--console-socket`, and of a pty that a foreground command is given."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ConsoleSocket:
    """A listening socket that takes one descriptor: the master of a container's terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(4)
        self._server.settimeout(30)

    def receive(self) -> tuple[int, str]:
        """The descriptor, now the caller's, and the text that came with it."""
        connection, _ = self._server.accept()
        with connection:
            connection.settimeout(30)
            room = socket.CMSG_SPACE(array.array("i").itemsize)
            text, ancillary, _, _ = connection.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                return int(struct.unpack("i", data[:4])[0]), text.decode()
        raise AssertionError(f"no descriptor came over {self.path}")

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


@contextlib.contextmanager
def console_socket(path: Path) -> Iterator[ConsoleSocket]:
    """A `ConsoleSocket` for the length of a block."""
    listener = ConsoleSocket(path)
    try:
        yield listener
    finally:
        listener.close()


def read_until(fd: int, text: str, timeout_s: float = 30) -> str:
    """Read a terminal until this text has come; also ends when the other side hangs up."""
    data = b""
    end = time.monotonic() + timeout_s
    while text.encode() not in data:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise AssertionError(f"{text!r} did not come, but {data!r}")
        try:
            piece = os.read(fd, 65536)
        except OSError:
            piece = b""
        if not piece:
            raise AssertionError(f"hung up before {text!r}: {data!r}")
        data += piece
    return data.decode(errors="replace")


def read_rest(fd: int) -> str:
    """Read a terminal until the other side hangs up."""
    data = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode(errors="replace")


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Change rows and columns of a terminal."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
