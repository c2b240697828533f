"""What the Python commands share: finding a container's record and its groups from a command line."""

from __future__ import annotations

import os

from corral.cgroup.group import Group, open_group
from corral.cgroup.member import Member
from corral.errors import FailedPrecondition, NotFound
from corral.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


class NoCgroup(FailedPrecondition):
    """The container has no cgroup, so what was asked of it cannot be done. It has an exit code of its own."""

    kind = "no-cgroup"


def absolute_root(line: CommandLine) -> str:
    """The state root of a command line. Raises: InvalidArgument without one."""
    return os.path.abspath(line.root())


def open_container(line: CommandLine) -> Record:
    """The record that the command line names. Raises: NotFound, InvalidArgument."""
    return Record(absolute_root(line), line.container_id())


def open_container_group(record: Record) -> Group:
    """The container's groups, those that it has. Raises: NoCgroup, with the reason on record."""
    groups = record.state["cgroups"]
    members = [Member.from_record(group) for group in groups if group["fate"] in ("created", "joined")]
    try:
        return open_group(members)
    except NotFound as exc:
        reasons = [f"{group['hierarchy']}: {group['reason']}" for group in groups if group.get("reason")]
        reasons += record.state.get("cgroupAbsences", [])
        why = reasons[0] if reasons else "it was removed"
        raise NoCgroup(
            f"container {record.container_id!r} has no cgroup ({why})",
            hint="give the container a cgroup: see `corral-runtime check` for what stands in the way",
        ) from exc


def bundle_line(line: CommandLine) -> CommandLine:
    """``explain BUNDLE`` and ``check BUNDLE`` name the bundle by position, too."""
    if line.args and not line.text("bundle"):
        line.values["bundle"] = line.args[0]
    return line
