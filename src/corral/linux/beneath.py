"""Files inside a directory tree that somebody hostile may rearrange at any moment, without ever leaving the tree.

Each component is opened by descriptor without following links; links are read and walked by us, absolute ones from
the tree's root. ``..`` goes back along the descriptors already held, so no rename can make it lead outside. This is
openat2's RESOLVE_IN_ROOT for callers who may not pay for ctypes (see ``corral.linux.syscalls.openat2``).
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# As many as the kernel follows (MAXSYMLINKS).
MAX_LINKS = 40
# Components walked in all, links included: bounds the work, and the descriptors held, that a hostile tree can cause.
MAX_COMPONENTS = 512

_FORMAT, _LINK, _DIRECTORY, _REGULAR = 0o170000, 0o120000, 0o040000, 0o100000


def _components(path: str) -> list[str]:
    """The parts of ``path``, last first, so that the next one is popped from the end."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


class _Walk:
    """The descriptors held during a walk: ``trail`` from the root (borrowed) down to where we are."""

    __slots__ = ("links", "path", "trail")

    def __init__(self, root_fd: int, path: str) -> None:
        self.path = path
        self.trail = [root_fd]
        self.links = 0

    def up(self) -> None:
        if len(self.trail) > 1:
            os.close(self.trail.pop())

    def to_root(self) -> None:
        while len(self.trail) > 1:
            os.close(self.trail.pop())

    def fail(self, code: int) -> OSError:
        return OSError(code, os.strerror(code), self.path)

    def enter(self, name: str) -> list[str]:
        """Open ``name`` onto the trail; of a link, answer the components to walk instead."""
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.trail[-1])
        except OSError as exc:
            raise self.fail(exc.errno or errno.EIO) from exc
        if os.fstat(fd).st_mode & _FORMAT != _LINK:
            self.trail.append(fd)
            return []
        try:
            self.links += 1
            if self.links > MAX_LINKS:
                raise self.fail(errno.ELOOP)
            target = os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)
        if target.startswith("/"):
            self.to_root()
        return _components(target)


def open_path(root_fd: int, path: str) -> int:
    """An O_PATH descriptor, owned by the caller, of what ``path`` names inside the tree of ``root_fd``.

    All links are followed, the last one too, as if ``root_fd`` were /. Raises: OSError with ``path`` (ELOOP for more
    than 40 links or 512 components).
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    walk = _Walk(root_fd, path)
    pending = _components(path)
    try:
        for _ in range(MAX_COMPONENTS + 1):
            if not pending:
                if len(walk.trail) > 1:
                    return walk.trail.pop()
                # Not dup: the root is borrowed, and may be a descriptor that can read.
                return os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root_fd)
            name = pending.pop()
            if name == "..":
                _require_directory(walk)
                walk.up()
            else:
                pending += walk.enter(name)
        raise walk.fail(errno.ELOOP)
    finally:
        walk.to_root()


def _require_directory(walk: _Walk) -> None:
    if os.fstat(walk.trail[-1]).st_mode & _FORMAT != _DIRECTORY:
        raise walk.fail(errno.ENOTDIR)


def open_regular(root_fd: int, path: str) -> int:
    """A descriptor for reading, owned by the caller, of a regular file inside the tree; see ``open_path``.

    Anything else (directory, FIFO, device, socket) is EINVAL without having been opened: opening a device acts.
    """
    handle = open_path(root_fd, path)
    try:
        if os.fstat(handle).st_mode & _FORMAT != _REGULAR:
            raise OSError(errno.EINVAL, "Not a regular file", path)
        try:
            # The very file that was looked at, not whatever bears its name now.
            return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, path) from exc
    finally:
        os.close(handle)


def _chunks(fd: int, limit: int) -> Iterator[bytes]:
    while limit > 0 and (chunk := os.read(fd, min(limit, 65536))):
        limit -= len(chunk)
        yield chunk


def read_regular(root_fd: int, path: str, limit_bytes: int) -> bytes:
    """At most the first ``limit_bytes`` of a regular file inside the tree. Raises: OSError as ``open_regular``."""
    fd = open_regular(root_fd, path)
    try:
        return b"".join(_chunks(fd, limit_bytes))
    finally:
        os.close(fd)
