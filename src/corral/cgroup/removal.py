"""Removing a group: bottom-up, bounded in time, never beyond the recorded directories, with a report of what is left.

Source: cgroup-v2.rst "Basic Operations" (a group with children or processes cannot be removed: EBUSY).
"""

from __future__ import annotations

import errno
import os
import time

from corral.cgroup.group import Group
from corral.cgroup.handles import open_beneath, open_child, subdirectories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.cgroup.member import Member

    Rmdir = Callable[[str, int], None]

__all__ = ["Pending", "RemovalResult", "Survivor", "remove_group", "remove_parents"]

# Of a group with ever so many processes, the first tell enough.
_SURVIVORS_SHOWN = 32
# No errno: rmdir may say ENOENT of a directory that is still there (a race, an odd file system).
_GONE = -1


class Survivor:
    """A process that keeps a group from going. ``wchan`` is "" where it cannot be read, ``state`` as in proc(5)."""

    __slots__ = ("comm", "pid", "state", "wchan")

    def __init__(self, pid: int, comm: str, state: str, wchan: str) -> None:
        self.pid = pid
        self.comm = comm
        self.state = state
        self.wchan = wchan

    def __str__(self) -> str:
        where = f" in {self.wchan}" if self.wchan and self.wchan != "0" else ""
        return f"pid {self.pid} ({self.comm}) state {self.state}{where}"


class Pending:
    """A directory that is still there, the last errno and its cause, and the processes in it."""

    __slots__ = ("cause", "directory", "errno", "survivors")

    def __init__(self, directory: str, number: int, survivors: tuple[Survivor, ...]) -> None:
        self.directory = directory
        self.errno = number
        self.cause = os.strerror(number).lower()
        self.survivors = survivors

    def __str__(self) -> str:
        text = f"remove group {self.directory!r}: {self.cause}"
        return text + "".join(f"; {survivor}" for survivor in self.survivors)


class RemovalResult:
    """``removed`` by this call, ``missing`` already (or another group has the name now), ``pending`` still there."""

    __slots__ = ("missing", "pending", "removed")

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.missing: list[str] = []
        self.pending: list[Pending] = []

    @property
    def is_done(self) -> bool:
        return not self.pending

    def __repr__(self) -> str:
        return f"RemovalResult(removed={self.removed}, missing={self.missing}, pending={list(map(str, self.pending))})"


def _rmdir(name: str, parent_fd: int) -> None:
    os.rmdir(name, dir_fd=parent_fd)


def remove_group(
    members: Sequence[Member], *, deadline_s: float, proc: str = "/proc", rmdir: Rmdir = _rmdir
) -> RemovalResult:
    """Remove ``members`` and all groups below them. Idempotent; kills nobody; one failure does not stop the rest.

    Blocks at most about ``deadline_s`` in all, while processes that were killed are still on their way out (EBUSY).
    Only a directory that is no longer there counts as gone, whatever rmdir said. A directory whose inode is not the
    recorded one belongs to somebody else and is left alone.
    """
    until = time.monotonic() + deadline_s
    result = RemovalResult()
    for member in members:
        _remove_member(member, until, result, proc=proc, rmdir=rmdir)
    return result


def remove_parents(members: Sequence[Member], *, rmdir: Rmdir = _rmdir) -> RemovalResult:
    """Remove each of ``members`` (intermediate groups that we made), deepest first, if it is empty; one try each.

    One that is in use by others is not pending: it simply stays.
    """
    result = RemovalResult()
    for member in sorted(members, key=lambda m: m.path.count("/"), reverse=True):
        number = _try_member(member, rmdir, walk=False)
        if number == 0:
            result.removed.append(member.directory)
        elif number == _GONE:
            result.missing.append(member.directory)
    return result


def _remove_member(member: Member, until: float, result: RemovalResult, *, proc: str, rmdir: Rmdir) -> None:
    pause = 0.0005
    while True:
        number = _try_member(member, rmdir)
        if number == 0:
            result.removed.append(member.directory)
            return
        if number == _GONE:
            result.missing.append(member.directory)
            return
        left = until - time.monotonic()
        if number not in (errno.EBUSY, errno.ENODEV, errno.ENOENT, errno.ENOTEMPTY) or left <= 0:
            result.pending.append(Pending(member.directory, number, _survivors(member, proc)))
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.05)


def _try_member(member: Member, rmdir: Rmdir, *, walk: bool = True) -> int:
    """One try: 0 removed, ``_GONE`` not there (or not ours any more), else the errno that keeps it."""
    above, _, name = member.path.rpartition("/")
    try:
        parent = open_beneath(member.mount_point, above or "/")
    except OSError as exc:
        return _GONE if exc.errno == errno.ENOENT else exc.errno or errno.EIO
    try:
        inode = _inode(parent, name)
        if inode is None or (member.inode and inode != member.inode):
            return _GONE
        number = _try_rmdir(rmdir, name, parent)
        if walk and number in (errno.EBUSY, errno.ENOTEMPTY) and _remove_below(name, parent, rmdir):
            number = _try_rmdir(rmdir, name, parent)
        if number and _inode(parent, name) is None:
            return _GONE
        return number
    finally:
        os.close(parent)


def _remove_below(name: str, parent: int, rmdir: Rmdir) -> bool:
    """Remove what can be removed of the groups below ``name``; whether any was.

    Keeps one fd at a time, however deep a workload has nested its groups: down by name, up by "..", which on a
    cgroup file system cannot be moved elsewhere meanwhile.
    """
    try:
        at = open_child(name, parent)
    except OSError:
        return False
    trail: list[str] = []
    kept: list[set[str]] = [set()]
    removed = False
    try:
        while True:
            below = [child for child in subdirectories(at) if child not in kept[-1]]
            if below:
                at = _step(at, below[0])
                trail.append(below[0])
                kept.append(set())
                continue
            if not trail:
                return removed
            at = _step(at, "..")
            child = trail.pop()
            kept.pop()
            if _try_rmdir(rmdir, child, at) in (0, errno.ENOENT):
                removed = True
            else:
                kept[-1].add(child)
    except OSError:
        # Somebody else removes the same tree; the next try sees what is left.
        return removed
    finally:
        os.close(at)


def _step(at: int, name: str) -> int:
    following = open_child(name, at)
    os.close(at)
    return following


def _try_rmdir(rmdir: Rmdir, name: str, parent: int) -> int:
    try:
        rmdir(name, parent)
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


def _inode(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _survivors(member: Member, proc: str) -> tuple[Survivor, ...]:
    from corral.linux.procfs import read_stat_or_none, read_wchan

    try:
        group = Group([(member, open_beneath(member.mount_point, member.path))])
    except OSError:
        return ()
    found = []
    with group:
        try:
            pids = group.list_pids()
        except OSError:
            return ()
        for pid in pids[:_SURVIVORS_SHOWN]:
            stat = read_stat_or_none(pid, proc=proc)
            if stat is not None:
                found.append(Survivor(pid, stat.comm, stat.state, _wchan(pid, proc, read_wchan)))
    return tuple(found)


def _wchan(pid: int, proc: str, read_wchan: Callable[..., str]) -> str:
    try:
        return read_wchan(pid, proc=proc)
    except OSError:
        return ""
