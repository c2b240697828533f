"""Group directories as fds: open, read, write, walk, always relative to an fd, never through a symlink.

Raises plain OSError; ``from_os_error`` makes errors of it that name the path.
"""

from __future__ import annotations

import errno
import os

from corral.errors import FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.errors import CorralError

__all__ = [
    "from_os_error",
    "open_beneath",
    "open_child",
    "pids_below",
    "pids_in",
    "read_at",
    "subdirectories",
    "threads_in",
    "walk",
    "write_at",
]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def open_beneath(mount_point: str, path: str) -> int:
    """An fd, owned by the caller, of directory ``path`` (absolute within the mount) below ``mount_point``.

    No component may be a symlink or lie on another file system.
    Raises: OSError (ENOENT, ENOTDIR or ELOOP for a symlink, EXDEV for another file system).
    """
    fd = os.open(mount_point, _DIRECTORY)
    try:
        device = os.fstat(fd).st_dev
        for component in path.split("/"):
            if component in ("", "."):
                continue
            if component == "..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), mount_point + path)
            below = os.open(component, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        if os.fstat(fd).st_dev != device:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), mount_point + path)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_child(name: str, directory_fd: int) -> int:
    """An fd, owned by the caller, of a directory right below (or, for "..", above) an open one. Raises: OSError."""
    return os.open(name, _DIRECTORY, dir_fd=directory_fd)


def read_at(directory_fd: int, file: str) -> str:
    """The text of ``file`` in an open directory. Raises: OSError."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(fd, 65536)
            if not part:
                return os.fsdecode(b"".join(parts))
            parts.append(part)
    finally:
        os.close(fd)


def write_at(directory_fd: int, file: str, value: str) -> None:
    """Write ``value`` to ``file`` in an open directory by one write(2). Raises: OSError."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        os.write(fd, os.fsencode(value))
    finally:
        os.close(fd)


def subdirectories(directory_fd: int) -> list[str]:
    """The names of the groups directly below an open one."""
    with os.scandir(directory_fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def pids_in(directory_fd: int) -> list[int]:
    """The processes right in an open group, as our pid namespace numbers them. Raises: OSError."""
    try:
        text = read_at(directory_fd, "cgroup.procs")
    except OSError as exc:
        # A threaded v2 group: its processes are listed in the domain above it, which is ours.
        if exc.errno in (errno.EOPNOTSUPP, errno.ENODEV, errno.ENOENT):
            return []
        raise
    # 0 stands for a process that our pid namespace cannot name.
    return [int(line) for line in text.split() if line != "0"]


def threads_in(directory_fd: int, file: str) -> list[int]:
    """The threads right in an open group, of which ``file`` (``cgroup.threads``, or v1's ``tasks``) is the list."""
    return [int(line) for line in read_at(directory_fd, file).split() if line != "0"]


def pids_below(directory_fd: int) -> Iterator[int]:
    """The processes in an open group and all groups below it. Raises: OSError."""
    for _, fd in walk(directory_fd):
        yield from pids_in(fd)


def walk(directory_fd: int) -> Iterator[tuple[str, int]]:
    """The open group itself (""), then every group below it: its path from there, and an fd borrowed until the next.

    Two fds at a time, however many groups a workload makes and however deep. Groups that vanish meanwhile are
    skipped; groups that appear meanwhile may be.
    """
    yield "", directory_fd
    # For each level: its name and the names still to visit below it.
    trail: list[tuple[str, list[str]]] = [("", subdirectories(directory_fd))]
    while trail:
        if not trail[-1][1]:
            trail.pop()
            continue
        name = trail[-1][1].pop(0)
        names = [level for level, _ in trail[1:]] + [name]
        try:
            fd = _descend(directory_fd, names)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            yield "/".join(names), fd
            trail.append((name, subdirectories(fd)))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENODEV):
                raise
        finally:
            os.close(fd)


def _descend(directory_fd: int, names: list[str]) -> int:
    at = os.dup(directory_fd)
    try:
        for name in names:
            below = open_child(name, at)
            os.close(at)
            at = below
    except OSError:
        os.close(at)
        raise
    return at


def from_os_error(operation: str, path: str, exc: OSError) -> CorralError:
    """``<operation> '<path>': <cause>`` with the kind that the errno means."""
    number = exc.errno or 0
    cause = os.strerror(number).lower() if number else str(exc)
    kinds: dict[int, type[CorralError]] = {
        errno.EACCES: PermissionDenied,
        errno.EPERM: PermissionDenied,
        errno.EROFS: PermissionDenied,
        errno.ENOENT: NotFound,
        errno.ENODEV: NotFound,
        errno.EAGAIN: ResourceExhausted,
        errno.ENOSPC: ResourceExhausted,
        errno.ENOMEM: ResourceExhausted,
        errno.EMFILE: ResourceExhausted,
    }
    hint = ""
    if number == errno.EBUSY and "memory" in path:
        hint = "the group uses more than the new limit and cannot give it back"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "the group must be delegated to this user, and mounted for writing"
    return kinds.get(number, FailedPrecondition)(
        f"{operation} {path!r}: {cause}", hint=hint, path=path, errno=number, phase="cgroup"
    )
