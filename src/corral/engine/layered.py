"""One file of a root filesystem that is not mounted anywhere: looked up through its layers as overlayfs would.

The layers are hostile: each component is opened by descriptor without following links, links are read and walked
here, ``..`` goes back along descriptors that are held. Whiteouts (a character device 0, 0) end the search below them,
opaque directories too.

Source: Documentation/filesystems/overlayfs.rst "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT, _LINK, _DIRECTORY, _REGULAR, _CHARACTER = 0o170000, 0o120000, 0o040000, 0o100000, 0o020000
_MAX_LINKS = 40
_MAX_COMPONENTS = 256
_PATH_FLAGS = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def read_layered(layers: Sequence[str], path: str, limit_bytes: int) -> bytes | None:
    """At most the first ``limit_bytes`` of ``path`` in ``layers`` (directories, top first).

    None if there is no such regular file, or too many links lead to it. Raises: OSError where a layer cannot be read.
    """
    roots = [posix.open(layer, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC) for layer in layers]
    walk = _Walk(roots)
    try:
        return walk.read(path, limit_bytes)
    finally:
        walk.close()


class _Walk:
    """``trail``: for each directory on the way, the descriptors that make it up, top layer first. It owns them."""

    __slots__ = ("trail",)

    def __init__(self, roots: list[int]) -> None:
        self.trail = [roots]

    def close(self) -> None:
        while self.trail:
            self._leave()

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        pending = _components(path)
        links = 0
        for _ in range(_MAX_COMPONENTS):
            if not pending:
                return None
            name = pending.pop()
            if name == "..":
                if len(self.trail) > 1:
                    self._leave()
                continue
            found, leaf = self._look_up(name)
            if found:
                self.trail.append(found)
                continue
            if leaf is None:
                return None
            try:
                target = _link_or_none(leaf)
                if target is None:
                    return None if pending else _read_regular(leaf, limit_bytes)
            finally:
                posix.close(leaf)
            links += 1
            if links > _MAX_LINKS:
                return None
            if target.startswith("/"):
                while len(self.trail) > 1:
                    self._leave()
            pending += _components(target)
        return None

    def _leave(self) -> None:
        for fd in self.trail.pop():
            posix.close(fd)

    def _look_up(self, name: str) -> tuple[list[int], int | None]:
        """The directories called ``name``, or else the topmost thing of that name; both owned by the caller."""
        found: list[int] = []
        for parent in self.trail[-1]:
            try:
                fd = posix.open(name, _PATH_FLAGS, dir_fd=parent)
            except OSError as exc:
                if exc.errno in _ABSENT:
                    continue
                for held in found:
                    posix.close(held)
                raise
            status = posix.fstat(fd)
            kind = status.st_mode & _FORMAT
            if kind == _DIRECTORY:
                found.append(fd)
                if _is_opaque(fd):
                    break
                continue
            if found or (kind == _CHARACTER and status.st_rdev == 0):
                posix.close(fd)
                break
            return [], fd
        return found, None


def _components(path: str) -> list[str]:
    """The parts of ``path``, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if posix.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            pass  # no such attribute, or no right to see it: a caller without it made no such directory either
    return False


def _link_or_none(fd: int) -> str | None:
    if posix.fstat(fd).st_mode & _FORMAT != _LINK:
        return None
    return posix.readlink("", dir_fd=fd)


def _read_regular(handle: int, limit_bytes: int) -> bytes | None:
    if posix.fstat(handle).st_mode & _FORMAT != _REGULAR:
        return None
    fd = posix.open(f"/proc/self/fd/{handle}", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    try:
        parts = []
        while limit_bytes > 0 and (chunk := posix.read(fd, min(limit_bytes, 65536))):
            parts.append(chunk)
            limit_bytes -= len(chunk)
        return b"".join(parts)
    finally:
        posix.close(fd)
