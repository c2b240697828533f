"""The counters of a group, read again and again through descriptors that stay open.

Opening a file of a group costs several times what reading it does, so a program that samples hundreds of groups keeps
them open: 15 descriptors a group on v2, about 25 on v1 (see RLIMIT_NOFILE). Files that a host lacks are asked for once.
"""

from __future__ import annotations

import errno
import os

from corral.cgroup.handles import from_os_error
from corral.cgroup.stats import Stats, read_counters, v1_controllers
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.group import Group

__all__ = ["StatsSampler"]

_ROOM = 16384


class StatsSampler(Closing):
    """Samples one group. A context manager; ``group`` is borrowed, and may be closed once this object exists.

    Raises: PermissionDenied, ResourceExhausted (descriptors).
    """

    __slots__ = ("_files", "_group", "_is_v1")

    def __init__(self, group: Group) -> None:
        self._is_v1 = v1_controllers(group.members)
        self._files: dict[tuple[str, str], int] = {}
        self._group: Group | None = group
        try:
            self.sample()
        except BaseException:
            self.close()
            raise
        # Whatever is read has been read once, so nothing is opened any more.
        self._group = None

    def close(self) -> None:
        """Close all descriptors."""
        files, self._files = self._files, {}
        for fd in files.values():
            if fd >= 0:
                os.close(fd)

    def sample(self) -> Stats:
        """The counters of now: CPU, memory, I/O, processes and pressure.

        Left empty are the cpuset, huge pages, and of v1's kernel memory everything but the usage.

        Raises: NotFound when the group is gone.
        """
        stats = Stats()
        read_counters(self, stats, self._is_v1)
        return stats

    def read_or_none(self, controller: str, file: str) -> str | None:
        """The text of a counter's file now, None if this host has no such file. Raises: NotFound."""
        fd = self._files.get((controller, file))
        if fd is None:
            fd = self._files[controller, file] = self._open(controller, file)
        if fd < 0:
            return None
        try:
            data = os.pread(fd, _ROOM, 0)
            if len(data) == _ROOM:
                data += _read_rest(fd)
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                return None  # pressure on a kernel that was told not to count it
            raise from_os_error("sample", os.readlink(f"/proc/self/fd/{fd}"), exc) from exc
        return data.decode()

    def _open(self, controller: str, file: str) -> int:
        """A descriptor of the file, -1 without."""
        directory = self._group.fd_for(controller) if self._group is not None else None
        if self._group is None or directory is None:
            return -1
        try:
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
        except FileNotFoundError:
            return -1
        except OSError as exc:
            raise from_os_error("open", f"{self._group.directory_for(controller)}/{file}", exc) from exc


def _read_rest(fd: int) -> bytes:
    data = b""
    while more := os.pread(fd, _ROOM, _ROOM + len(data)):
        data += more
    return data
