"""Direct mode: one delegated parent for a whole store, and below it a plain directory for each container.

Below a parent that is ours to manage a group is one mkdir: no D-Bus for each container, and nothing that systemd would
collect, or rewrite at a reload, behind our back. With systemd the parent is one transient scope with ``Delegate=yes``;
a process in a leaf of it, the holder, keeps it alive. Without, it is a directory, which stays by itself.

Everything here is idempotent, and two callers at once end with the same parent. Which process holds it, and for how
long, is the caller's.

Source: systemd's "Control Group APIs and Delegation"; cgroup-v2.rst "No Internal Process Constraint"; runc#4853.
"""

from __future__ import annotations

import errno
import os
import time

from corral.cgroup.creation import make_directories, prepare_group
from corral.cgroup.handles import from_os_error, open_beneath, pids_in, read_at, subdirectories, write_at
from corral.cgroup.location import CgroupfsLocation, SystemdLocation, place
from corral.cgroup.member import Member, members_of
from corral.cgroup.removal import remove_group, remove_parents
from corral.cgroup.slices import place_unit
from corral.cgroup.systemd_layout import HOLDER
from corral.cgroup.systemd_properties import INFINITY, UnitProperty, unit_properties
from corral.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.layout import Hierarchy, Layout
    from corral.cgroup.removal import RemovalResult
    from corral.cgroup.slices import UnitPlace
    from corral.cgroup.systemd_bus import Manager

__all__ = ["DelegatedParent", "ensure_delegated_parent", "remove_delegated_parent", "verify_delegated_parent"]

_PAUSE_S = 0.02


class DelegatedParent:
    """A group of the caller's own: ``path`` is absolute within each hierarchy.

    ``unit`` is the scope's name, "" without systemd. ``controllers``: those that the groups below can have on v2.
    ``made``: the groups that were made for it, with those above it, to be removed with it. ``is_new``: the unit, or
    the directory, was not there before; then ``holder_pid`` of the call is its holder, else whoever was before.
    """

    __slots__ = ("controllers", "is_new", "made", "path", "unit")

    def __init__(self, path: str, unit: str, *, controllers: tuple[str, ...], made: list[Member], is_new: bool) -> None:
        self.path = path
        self.unit = unit
        self.controllers = controllers
        self.made = made
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"DelegatedParent({self.path!r}, unit={self.unit!r}, controllers={self.controllers!r})"

    @property
    def holder_path(self) -> str:
        """The leaf in which the holder is; no other group below the parent may have its name."""
        return f"{self.path}/{HOLDER}"

    def location(self, name: str) -> CgroupfsLocation:
        """Where the container ``name`` belongs: a ``cgroupsPath`` for the cgroupfs driver. Raises: InvalidArgument."""
        if name == HOLDER or not name or "/" in name or name in (".", ".."):
            raise InvalidArgument(f"place container {name!r} below {self.path!r}: this is not a container's name there")
        return CgroupfsLocation(f"{self.path}/{name}")

    def to_record(self) -> dict[str, object]:
        """For the caller's ledger."""
        return {
            "path": self.path,
            "unit": self.unit,
            "controllers": list(self.controllers),
            "made": [member.to_record() for member in self.made],
        }

    @classmethod
    def from_record(cls, record: dict[str, object]) -> DelegatedParent:
        """The inverse of ``to_record``. Raises: InvalidArgument for a record that is not one."""
        path, unit, controllers, made = (record.get(key) for key in ("path", "unit", "controllers", "made"))
        if not (isinstance(path, str) and path.strip("/") and isinstance(unit, str)):
            raise InvalidArgument(f"read record of the delegated parent {path!r}: a field is missing or wrong")
        if not (isinstance(controllers, list) and isinstance(made, list)):
            raise InvalidArgument(f"read record of the delegated parent {path!r}: a field is missing or wrong")
        members = [Member.from_record(item) for item in made]
        return cls(path, unit, controllers=tuple(map(str, controllers)), made=members, is_new=False)


def ensure_delegated_parent(
    location: CgroupfsLocation | SystemdLocation,
    layout: Layout,
    *,
    holder_pid: int = 0,
    manager: Manager | None = None,
    deadline_s: float = 10.0,
) -> DelegatedParent:
    """Make the parent at ``location``, or take the one that is there, ready for groups below it. Blocks ``deadline_s``.

    ``holder_pid``: a process of the caller's that is to keep the scope; it is moved to the leaf, and must live as long
    as the parent is needed. When the scope was there already it is left where it is, and not needed. Without systemd
    it is optional. ``manager``: the systemd manager for a ``SystemdLocation``, borrowed.
    Raises: InvalidArgument for a relative path or a slice's name; NotFound when there is no scope and no holder;
    FailedPrecondition when the unit is not delegated, or elsewhere; what the bus and the kernel refuse.
    """
    until = time.monotonic() + deadline_s
    if isinstance(location, SystemdLocation):
        if manager is None:
            raise InvalidArgument(f"make delegated parent {location}: a unit needs systemd's manager")
        path, unit = "", location.unit
        scope = place_unit(location, is_user=manager.is_user, manager_path=manager.manager_path(deadline_s=deadline_s))
        path, is_new = scope.path, _start_or_adopt(manager, scope, holder_pid, until)
    else:
        path, unit, is_new = location.path, "", not _exists(location, layout)
    made: list[Member] = []
    controllers: tuple[str, ...] = ()
    for hierarchy, own in zip(layout.hierarchies, place(CgroupfsLocation(path), layout).paths, strict=True):
        if own is None:
            continue
        make_directories(hierarchy, own, made, made)
        if hierarchy.version == 1:
            prepare_group(layout, hierarchy, own, ())
            continue
        make_directories(hierarchy, f"{own}/{HOLDER}", made, made)
        if not unit:
            _attach(hierarchy, f"{own}/{HOLDER}", holder_pid)
        controllers = _settle(layout, hierarchy, own, is_unit=bool(unit), until=until)
    return DelegatedParent(path, unit, controllers=controllers, made=made, is_new=is_new)


def _exists(location: CgroupfsLocation, layout: Layout) -> bool:
    if location.is_relative:
        raise InvalidArgument(
            f"make delegated parent {location.path!r}: the path is relative",
            hint="begin it with '/': containers are placed below it by processes that live in other groups",
        )
    return any(os.path.isdir(path) for path in place(location, layout).directories if path is not None)


def _start_or_adopt(manager: Manager, scope: UnitPlace, holder_pid: int, until: float) -> bool:
    """Whether the scope was started with ``holder_pid`` in it; False: it runs already, by another caller's doing."""
    if scope.is_slice:
        raise InvalidArgument(
            f"make delegated parent {scope.unit!r}: systemd delegates scopes, not slices",
            hint="name a scope; it may lie in a slice of your own",
        )
    properties = unit_properties(scope, description="corral: the parent of a store's containers")
    # Otherwise all containers together would share what systemd allows to one unit.
    properties.append(UnitProperty("TasksMax", "t", INFINITY))
    while not _is_running(manager, scope, until):
        if holder_pid <= 0:
            raise NotFound(
                f"adopt delegated parent {scope.unit!r}: no such unit runs, and no process was given to hold it",
                hint="give a process that lives as long as the containers",
                phase="cgroup",
            )
        try:
            started = manager.start_transient_scope(scope.unit, [holder_pid], properties, deadline_s=_left(until))
        except AlreadyExists:
            # Another caller was faster, or the unit of before is just ending.
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
            continue
        _check_place(scope, started.control_group)
        return True
    return False


def _is_running(manager: Manager, scope: UnitPlace, until: float) -> bool:
    try:
        while True:
            state = manager.active_state(scope.unit, deadline_s=_left(until))
            if state != "activating" or time.monotonic() >= until:
                break
            time.sleep(_PAUSE_S)
        if state != "active":
            return False
        is_delegated = manager.is_delegated(scope.unit, deadline_s=_left(until))
        group = manager.control_group(scope.unit, deadline_s=_left(until))
    except NotFound:
        return False
    if not is_delegated:
        raise FailedPrecondition(
            f"adopt delegated parent {scope.unit!r}: the unit is not delegated",
            hint="another program made it: choose another name, or stop it",
            phase="cgroup",
        )
    _check_place(scope, group)
    return True


def _check_place(scope: UnitPlace, group: str) -> None:
    if group != scope.path:
        raise FailedPrecondition(
            f"make delegated parent {scope.unit!r}: systemd has it at {group!r}, not at {scope.path!r}",
            hint="a unit of the same name in another slice: choose another name, or stop it",
            phase="cgroup",
        )


def _left(until: float) -> float:
    return max(0.1, until - time.monotonic())


def _attach(hierarchy: Hierarchy, path: str, pid: int) -> None:
    if pid <= 0:
        return
    fd = _open(hierarchy, path)
    try:
        write_at(fd, "cgroup.procs", str(pid))
    except OSError as exc:
        raise from_os_error(f"move process {pid} to", hierarchy.directory(path), exc) from exc
    finally:
        os.close(fd)


def _settle(layout: Layout, hierarchy: Hierarchy, path: str, *, is_unit: bool, until: float) -> tuple[str, ...]:
    """Empty the v2 group itself into its leaf, and enable its controllers; returns those that it has now.

    Above a unit everything is systemd's. A process that comes between is moved as well, and the rest tried again.
    """
    top = _open(hierarchy, path)
    try:
        while True:
            _vacate(hierarchy, path, top)
            if not is_unit:
                prepare_group(layout, hierarchy, f"{path}/{HOLDER}", ())
            elif layout.mode == "v2":
                _enable(top)
            if not pids_in(top) or time.monotonic() >= until:
                break
            time.sleep(_PAUSE_S)
        return tuple(read_at(top, "cgroup.subtree_control").split())
    except OSError as exc:
        raise from_os_error("prepare group", hierarchy.directory(path), exc) from exc
    finally:
        os.close(top)


def _vacate(hierarchy: Hierarchy, path: str, top: int) -> None:
    for pid in pids_in(top):
        try:
            write_at(top, f"{HOLDER}/cgroup.procs", str(pid))
        except OSError as exc:
            if exc.errno not in (errno.ESRCH, errno.ENODEV):
                where = hierarchy.directory(f"{path}/{HOLDER}")
                raise from_os_error(f"move process {pid} to", where, exc) from exc


def _enable(top: int) -> None:
    """Each controller that the group has, for its children; one that refuses is told by what is enabled afterwards."""
    enabled = read_at(top, "cgroup.subtree_control").split()
    for name in read_at(top, "cgroup.controllers").split():
        if name in enabled:
            continue
        try:
            write_at(top, "cgroup.subtree_control", f"+{name}")
        except OSError:
            continue


def verify_delegated_parent(parent: DelegatedParent, layout: Layout) -> None:
    """See that the parent is as it was made: there in every hierarchy, and on v2 with its controllers.

    Raises: NotFound when it is gone, in which case ``ensure_delegated_parent`` makes it anew; FailedPrecondition when
    somebody has put processes into it, or has taken controllers away.
    """
    for hierarchy, own in zip(layout.hierarchies, place(CgroupfsLocation(parent.path), layout).paths, strict=True):
        if own is None:
            continue
        fd = _open(hierarchy, own)
        try:
            pids = pids_in(fd) if hierarchy.version == 2 else []
            enabled = read_at(fd, "cgroup.subtree_control").split() if hierarchy.version == 2 else []
        except OSError as exc:
            raise from_os_error("read group", hierarchy.directory(own), exc) from exc
        finally:
            os.close(fd)
        missing = [name for name in parent.controllers if name not in enabled] if hierarchy.version == 2 else []
        if pids or missing:
            cause = (
                f"process {pids[0]} is in it" if pids else f"controller {missing[0]!r} is not enabled in it any more"
            )
            raise FailedPrecondition(
                f"use delegated parent {hierarchy.directory(own)!r}: {cause}",
                hint="make it anew; nothing but its owner may change a delegated group",
                path=hierarchy.directory(own),
                phase="cgroup",
            )


def remove_delegated_parent(
    parent: DelegatedParent, layout: Layout, *, manager: Manager | None = None, deadline_s: float = 10.0
) -> RemovalResult:
    """Remove the parent and what was made above it; with systemd, stop the unit, which ends the holder. Idempotent.

    Without systemd the holder is the caller's to end, before.
    Raises: FailedPrecondition while a container's group is there; what the bus refuses. What cannot be removed within
    ``deadline_s`` is in the result.
    """
    until = time.monotonic() + deadline_s
    members = members_of(layout, place(CgroupfsLocation(parent.path), layout))
    for member in members:
        _check_unused(member)
    if parent.unit and manager is not None:
        manager.stop_unit(parent.unit, deadline_s=_left(until))
    result = remove_group(members, deadline_s=_left(until))
    above = remove_parents([member for member in parent.made if not _is_within(member.path, parent.path)])
    result.removed += above.removed
    return result


def _is_within(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _check_unused(member: Member) -> None:
    try:
        fd = open_beneath(member.mount_point, member.path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise from_os_error("open group", member.directory, exc) from exc
    try:
        others = [name for name in subdirectories(fd) if name != HOLDER]
    finally:
        os.close(fd)
    if others:
        raise FailedPrecondition(
            f"remove delegated parent {member.directory!r}: group {others[0]!r} is in it",
            hint="delete the containers first",
            path=member.directory,
            phase="cgroup",
        )


def _open(hierarchy: Hierarchy, path: str) -> int:
    try:
        return open_beneath(hierarchy.mount_point, path)
    except OSError as exc:
        raise from_os_error("open group", hierarchy.directory(path), exc) from exc
