"""The container's cgroups in a plan: define, make, limit, attach, read back; and in the pre-rendered programs.

Which directories and values is ``corral.cgroup``'s to say; here they become steps.
"""

from __future__ import annotations

from corral.cgroup.devices import compile_devices
from corral.cgroup.limits import compile_limits
from corral.cgroup.location import (
    CGROUPFS,
    SYSTEMD,
    CgroupfsLocation,
    Placement,
    SystemdLocation,
    parse_cgroups_path,
    place,
)
from corral.cgroup.member import Member
from corral.errors import FailedPrecondition, InvalidArgument, Unsupported
from corral.runtime.plan import FRONT, INIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corral.cgroup.delegate import Delegation
    from corral.cgroup.layout import Hierarchy, Layout
    from corral.cgroup.writes import LimitWrite
    from corral.runtime.job import Job
    from corral.runtime.plan import Plan
    from corral.runtime.scopes import Scope

# CG_DEFINE
CGF_CPUSET = 1
CGF_FREEZER = 2
CGF_KILL = 4
CGF_PIDS = 8

# CG_MAKE
MAKE_REFUSE_POPULATED = 1
MAKE_ABSENT_IS_FINE = 2
MAKE_ADOPT = 8

_SYSTEMDS_V1 = ("cpu", "cpuacct", "blkio", "memory", "devices", "pids")

# CG_ATTACH
ATTACH_HOLDER = 2

SUBGROUP_ANNOTATION = "run.oci.systemd.subgroup"

REMOVE_BUDGET_MS = 10_000


class Groups:
    """The groups of one container. ``members``: (id, hierarchy, path below its mount point), id counting from 0.

    ``outer``: the systemd scope around the container's group, if that is a sub-group, in the hierarchy by which systemd
    tracks it; ``holder``: there, in the engine's layout, the group of the process that keeps the scope.
    """

    __slots__ = (
        "absences",
        "delegated_leaf",
        "delegation",
        "device_program",
        "holder",
        "is_explicit",
        "members",
        "outer",
        "scope",
        "writes",
    )

    def __init__(self, members: list[tuple[int, Hierarchy, str]], *, is_explicit: bool) -> None:
        self.members = members
        self.is_explicit = is_explicit
        self.writes: list[tuple[int, LimitWrite]] = []
        self.absences: list[str] = []
        self.device_program: tuple[int, bytes] | None = None
        self.scope: Scope | None = None
        self.delegation: Delegation | None = None
        self.delegated_leaf = ""
        self.outer: tuple[int, Hierarchy, str] | None = None
        self.holder: tuple[int, Hierarchy, str] | None = None

    def id_of(self, hierarchy_index: int) -> int | None:
        """The group's id in a hierarchy of the layout, None if Corral does not use that hierarchy."""
        for number, hierarchy, _ in self.members:
            if hierarchy.index == hierarchy_index:
                return number
        return None

    @property
    def birthplace(self) -> int:
        """The id of the v2 group in which init can be born, being there before it is; -1 if there is none."""
        if self.scope is not None:
            return -1
        return next((number for number, hierarchy, _ in self.members if hierarchy.version == 2), -1)

    def records(self) -> list[dict[str, object]]:
        """The members for state.json; what became of each is not known yet."""
        return [
            {
                **Member(hierarchy.version, hierarchy.controllers, hierarchy.mount_point, path).to_record(),
                "hierarchy": hierarchy.label,
                "fate": "intended",
            }
            for _, hierarchy, path in self.members
        ]


def place_groups(job: Job, *, manager: str, environ: Mapping[str, str]) -> Groups:
    """Where the container's groups are. Raises: InvalidArgument (S0.4), and what stands in systemd's way."""
    text = job.spec.get("linux", {}).get("cgroupsPath", "")
    if manager == "disabled":
        groups = Groups([], is_explicit=False)
        groups.absences.append("the cgroup manager is disabled")
        return groups
    _check_layout(job.options.cgroup_layout, manager)
    location = parse_cgroups_path(text, driver=manager, container_id=job.container_id)
    scope = None
    if isinstance(location, SystemdLocation):
        from corral.runtime.scopes import place_scope

        scope = place_scope(job, location, environ)
        location = CgroupfsLocation(scope.place.path, is_explicit=location.is_explicit)
    try:
        placement: Placement = place(location, job.host.layout)
    except FailedPrecondition as exc:
        # A view that does not show our own group, as in a container's cgroup namespace: then there is none to have.
        if location.is_explicit or not job.host.is_rootless:
            raise
        groups = Groups([], is_explicit=False)
        groups.absences.append(exc.message)
        job.warnings.append(absence_warning(exc.message))
        return groups
    members: list[tuple[int, Hierarchy, str]] = []
    for hierarchy, path in zip(job.host.layout.hierarchies, placement.paths, strict=True):
        if path is not None:
            members.append((len(members), hierarchy, path))
    groups = Groups(members, is_explicit=location.is_explicit)
    groups.absences.extend(reason for reason in placement.absences if reason)
    groups.scope = scope
    if scope is not None:
        _enter_subgroup(job, groups)
    return groups


def absence_warning(reason: str) -> str:
    """What to tell of a container that gets no group, for ``reason``."""
    return f"the container has no cgroup of its own: {reason}; it cannot be limited, paused or counted"


def _check_layout(layout: str, manager: str) -> None:
    if layout not in ("", "scope", "engine"):
        raise InvalidArgument(f"flag --cgroup-layout: {layout!r} is neither 'scope' nor 'engine'")
    if layout == "engine" and manager != SYSTEMD:
        raise InvalidArgument(
            f"flag --cgroup-layout: 'engine' is a layout of systemd's scopes, and the driver is {manager}",
            hint="add --systemd-cgroup, or leave the layout out: a plain directory stays without a process in it",
        )


def _enter_subgroup(job: Job, groups: Groups) -> None:
    """Put the container into a sub-group of its scope: in the engine's layout, or where an annotation names one.

    The annotation's (CRI-O's ``container``) is on v2 alone, as with crun; the layout's is in every hierarchy.
    """
    name = job.annotations.get(SUBGROUP_ANNOTATION, "")
    is_engine = job.options.cgroup_layout == "engine"
    if not name and not is_engine:
        return
    from corral.cgroup.systemd_layout import CONTAINER, HOLDER

    name = name or CONTAINER
    if "/" in name or name in (".", "..") or name.startswith("cgroup.") or (is_engine and name == HOLDER):
        job.refuse(
            f"make the sub-group {name!r}: this is not a group's name",
            f'annotations["{SUBGROUP_ANNOTATION}"]',
            hint="name it like a directory",
        )
        return
    tracking = _tracking_hierarchy(job.host.layout) if is_engine else job.host.layout.unified
    for place_in_list, (number, hierarchy, path) in enumerate(groups.members):
        if hierarchy is tracking:
            groups.outer = (len(groups.members), hierarchy, path)
            # Between the two is the leaf of a delegation.
            groups.holder = (len(groups.members) + 2, hierarchy, f"{path}/{HOLDER}") if is_engine else None
        if hierarchy is tracking or is_engine:
            groups.members[place_in_list] = (number, hierarchy, f"{path}/{name}")


def _tracking_hierarchy(layout: Layout) -> Hierarchy | None:
    """The one by which systemd knows what is in a unit: v2 where there is v2, else its own named one."""
    return layout.unified or layout.hierarchy_for("name=systemd")


def add_definitions(plan: Plan, groups: Groups, layout: Layout) -> None:
    """The CG_DEFINE steps with which every plan and program that touches the groups begins."""
    freezer = layout.hierarchy_for("freezer")
    counter = layout.unified or (groups.members[0][1] if groups.members else None)
    for number, hierarchy, path in groups.members:
        flags = 0
        if hierarchy.version == 1 and "cpuset" in hierarchy.controllers:
            flags |= CGF_CPUSET
        if hierarchy is freezer:
            flags |= CGF_FREEZER
        if hierarchy.version == 2:
            flags |= CGF_KILL
        if hierarchy is counter:
            flags |= CGF_PIDS
        plan.front(
            "CG_DEFINE", number, hierarchy.version, hierarchy.mount_point, path, flags, pointer="linux.cgroupsPath"
        )


def compile_limits_of(job: Job) -> None:
    """Find out all limits, before any step of the groups: a systemd unit is told of them when it starts."""
    _collect_limits(job)
    if job.groups.scope is not None:
        from corral.runtime.scopes import complete_scope

        complete_scope(job, job.groups.scope)


def is_systemds(hierarchy: Hierarchy, *, is_user: bool) -> bool:
    """Whether a unit's groups in ``hierarchy`` are made by systemd. In the others what is there is somebody else's.

    Source: systemd's "Control Group APIs and Delegation", "Controller Support"; a user's manager has no v1 controllers.
    """
    if hierarchy.version == 2 or "name=systemd" in hierarchy.controllers:
        return True
    return not is_user and any(name in _SYSTEMDS_V1 for name in hierarchy.controllers)


def compile_groups(job: Job) -> None:
    """Make and limit the groups: everything that may, and cpuset that must, happen before a process enters."""
    groups, plan = job.groups, job.plan
    limited = {number for number, write in groups.writes if write.controller != "devices"}
    scope = groups.scope
    in_unit = [scope is not None and is_systemds(item[1], is_user=scope.is_user) for item in groups.members]
    # The unit's first: once they are in the journal, a refusal in another hierarchy takes all of them back.
    for is_units, (number, hierarchy, _) in sorted(zip(in_unit, groups.members, strict=True), key=lambda it: not it[0]):
        flags = MAKE_ADOPT if is_units else MAKE_REFUSE_POPULATED
        # A scope was asked for, and a user's manager makes it on none but its own hierarchy.
        is_asked = groups.is_explicit and (is_units or scope is None)
        if job.host.is_rootless and not is_asked and number not in limited:
            flags |= MAKE_ABSENT_IS_FINE
        plan.front("CG_MAKE", number, flags, _to_enable(job, number, hierarchy), pointer="linux.cgroupsPath")
    for number, write in groups.writes:
        plan.front("CG_WRITE", number, write.file, write.value, 1 if write.is_optional else 0, pointer=write.pointer)
    if groups.device_program is not None:
        hierarchy_index, program = groups.device_program
        group = groups.id_of(hierarchy_index)
        if group is not None:
            plan.front("CG_DEVICES", group, program, pointer="linux.resources.devices")


def compile_scope(job: Job, scope: Scope) -> None:
    """Start the unit with the stub in it, then make the groups in it, which delegation makes ours."""
    groups, plan = job.groups, job.plan
    if groups.holder is not None:
        plan.front("HOLD", job.container_id, pointer="linux.cgroupsPath")
    plan.front("SCOPE", scope.place.unit, pointer="linux.cgroupsPath")
    if groups.outer is not None:
        _compile_subgroup(job, groups.outer)
    compile_groups(job)


def _compile_subgroup(job: Job, outer: tuple[int, Hierarchy, str]) -> None:
    """Leave the scope for the sub-group before controllers are enabled for it: no v2 group with processes may do that.

    Source: cgroup-v2.rst "No Internal Process Constraint".
    """
    number, hierarchy, path = outer
    job.plan.front("CG_DEFINE", number, hierarchy.version, hierarchy.mount_point, path, 0)
    job.plan.front("CG_MAKE", number, MAKE_ADOPT, "", pointer="linux.cgroupsPath")
    if job.groups.holder is not None:
        holder = job.groups.holder[0]
        job.plan.front("CG_DEFINE", holder, hierarchy.version, hierarchy.mount_point, job.groups.holder[2], 0)
        job.plan.front("CG_MAKE", holder, 0, "", pointer="linux.cgroupsPath")
        job.plan.front("CG_ATTACH", holder, ATTACH_HOLDER, pointer="linux.cgroupsPath")
    for member, other, _ in job.groups.members:
        if other is hierarchy:
            job.plan.front("CG_MAKE", member, MAKE_ADOPT, "", pointer="linux.cgroupsPath")
            add_attach(job.plan, member, hierarchy.version, pointer="linux.cgroupsPath")


def add_attach(plan: Plan, number: int, version: int, flags: int = 0, *, pointer: str = "") -> None:
    """The process's move into a group: on v1 it moves itself, which spares it the kernel's grace period."""
    plan.add(INIT if version == 1 else FRONT, "CG_ATTACH", number, flags, pointer=pointer)


def compile_attach(job: Job) -> None:
    """Move the stub into its groups, then read every limit back (S0.8); the planner judges what comes."""
    for number, hierarchy, _ in job.groups.members:
        add_attach(job.plan, number, hierarchy.version, pointer="linux.cgroupsPath")
    for number, write in job.groups.writes:
        if write.read_file:
            job.plan.front("CG_READ", number, write.read_file, 1, pointer=write.pointer)


def _collect_limits(job: Job) -> None:
    resources = job.spec.get("linux", {}).get("resources", {})
    old = job.spec["ociVersion"].startswith(("1.0", "1.1", "1.2"))
    compiled = compile_limits(resources, job.host.layout, pids_zero_is_limit=not old)
    job.problems.extend(compiled.problems)
    job.warnings.extend(f"{pointer}: {text}" for pointer, text in compiled.warnings)
    writes = list(compiled.writes)
    # A device list is for the host's root to set: elsewhere the kernel refuses, and mknod is refused anyway.
    if job.groups.members and not job.host.is_rootless:
        writes.extend(_compile_devices(job))
    for write in writes:
        number = job.groups.id_of(write.hierarchy_index)
        if number is not None:
            job.groups.writes.append((number, write))
            continue
        if write.controller != "devices":
            why = "; ".join(job.groups.absences) or "this host has no control groups that can be used"
            job.problem(
                Unsupported(
                    f"set {write.file} to {write.value!r}: the container has no cgroup for it: {why}",
                    hint="drop the limit, or let the container have a cgroup",
                    pointer=write.pointer,
                    phase="cgroup",
                )
            )


def _to_enable(job: Job, number: int, hierarchy: Hierarchy) -> str:
    """Controllers for CG_MAKE: those that a limit needs, then, as "?name", all others for statistics' sake.

    On a hybrid host only what is needed: there the v2 ancestors are nobody's place to account.
    """
    if hierarchy.version == 1:
        return ""
    needed = []
    for owner, write in job.groups.writes:
        if owner == number and write.controller in hierarchy.controllers and write.controller not in needed:
            needed.append(write.controller)
    if job.host.layout.mode != "v2":
        return " ".join(needed)
    return " ".join(needed + [f"?{name}" for name in hierarchy.controllers if name not in needed])


def _compile_devices(job: Job) -> list[LimitWrite]:
    """The writes of a v1 device list; on v2 the program is put aside for the group, to be attached once it is made."""
    devices = compile_devices(job.spec.get("linux", {}).get("resources", {}).get("devices", []), job.host.layout)
    job.problems.extend(devices.problems)
    if devices.bpf_hierarchy is not None and not devices.is_allow_all:
        from corral.linux.bpf_devices import assemble_device_program

        job.groups.device_program = (devices.bpf_hierarchy, assemble_device_program(devices.bpf_rules))
    return devices.writes


def choose_manager(manager: str, *, systemd_flag: bool) -> str:
    """The cgroup driver in force: ``--cgroup-manager``, else ``--systemd-cgroup``, else cgroupfs. The one place."""
    return manager or ("systemd" if systemd_flag else CGROUPFS)
