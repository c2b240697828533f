"""Reading the files that a caller names on the command line."""

from __future__ import annotations

import posix

from corral.errors import InvalidArgument

LIMIT_BYTES = 64 << 20


def read_file(path: str) -> bytes:
    """The content of a regular file: a FIFO or a device would keep, or fill, a planner that others use, too.

    Raises: OSError with ``path``, InvalidArgument for what is no such file or longer than ``LIMIT_BYTES``.
    """
    fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    try:
        mode, size = posix.fstat(fd).st_mode & 0o170000, posix.fstat(fd).st_size
        if mode == 0o040000:
            raise InvalidArgument(f"read {path}: is a directory", path=path)
        if mode != 0o100000:
            raise InvalidArgument(f"read {path}: not a regular file", path=path)
        if size > LIMIT_BYTES:
            raise InvalidArgument(f"read {path}: longer than {LIMIT_BYTES} bytes", path=path)
        chunks = []
        # It may grow meanwhile; what is read does not.
        while size > 0 and (chunk := posix.read(fd, size)):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)
    finally:
        posix.close(fd)
