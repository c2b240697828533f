"""A container's processes and control groups, by the runtime's record: kill all, list, tell who is left and where."""

from __future__ import annotations

from corral.cgroup.removal import Survivor
from corral.errors import CorralError, NotFound
from corral.linux.procfs import read_stat_or_none, read_wchan
from corral.runtime.containers import open_container_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.group import Group
    from corral.runtime.record import Record

__all__ = ["describe", "kill_everything", "list_processes", "open_group_or_none", "survivors"]

_SHOWN = 32


def open_group_or_none(record: Record | None) -> Group | None:
    """The container's group, owned by the caller; None if it has none (any more)."""
    if record is None:
        return None
    try:
        return open_container_group(record)
    except (CorralError, KeyError):
        return None


def kill_everything(record: Record, *, deadline_s: float) -> list[str]:
    """SIGKILL every process in the container's group, and init; returns what was tried, for messages.

    Only a group that was made for this container is swept: in one that was joined others may live.
    """
    from corral.engine.signals import SIGKILL, open_init, send_pidfd

    tried = []
    group = open_group_or_none(record)
    if group is not None:
        with group:
            if _is_own(record):
                try:
                    group.kill_all(SIGKILL, deadline_s=deadline_s)
                    tried.append("SIGKILL to every process of its cgroup")
                except CorralError as exc:
                    tried.append(f"SIGKILL to its cgroup ({exc.message})")
    try:
        pidfd = open_init(record)
    except ProcessLookupError:
        return tried
    import posix

    try:
        send_pidfd(pidfd, SIGKILL)
        tried.append("SIGKILL to its first process")
    finally:
        posix.close(pidfd)
    return tried


def _is_own(record: Record) -> bool:
    fates = [group["fate"] for group in record.state.get("cgroups", []) if group["fate"] in ("created", "joined")]
    return bool(fates) and all(fate == "created" for fate in fates)


def list_processes(record: Record | None) -> list[int]:
    """The pids in the container's group, or init's alone where it has no group."""
    group = open_group_or_none(record)
    if group is None:
        return [record.pid] if record is not None and record.pid else []
    with group:
        return group.list_pids()


def describe(pid: int) -> Survivor | None:
    """Pid, command, state and where in the kernel it waits; None when it is gone."""
    stat = read_stat_or_none(pid)
    if stat is None:
        return None
    try:
        wchan = read_wchan(pid)
    except (OSError, ProcessLookupError):
        wchan = ""
    return Survivor(pid, stat.comm, stat.state, wchan)


def survivors(record: Record | None) -> list[Survivor]:
    """Who is left in the container, dead ones that wait to be reaped included."""
    found = []
    pids = list_processes(record)
    if record is not None and record.pid and record.pid not in pids:
        pids = [record.pid, *pids]
    for pid in pids[:_SHOWN]:
        described = describe(pid)
        if described is not None:
            found.append(described)
    return found


def require_group(record: Record | None, shown: str) -> Group:
    """The container's group, owned by the caller. Raises: NotFound."""
    group = open_group_or_none(record)
    if group is None:
        raise NotFound(f"open the cgroup of container {shown!r}: it has none", hint="it does not run, or runs without")
    return group
