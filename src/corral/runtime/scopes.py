"""Containers as systemd scopes: where the unit is, what it is told, and its start once the stub exists.

Imported only where the systemd driver is asked for: nothing of it is on the cgroupfs driver's path.
"""

from __future__ import annotations

from corral.cgroup.devices import allowed_devices
from corral.cgroup.limits import compile_limits
from corral.cgroup.slices import place_unit
from corral.cgroup.systemd_bus import is_systemd_running, system_manager, user_manager
from corral.cgroup.systemd_layout import with_allowance
from corral.cgroup.systemd_properties import device_properties, limit_properties, unit_properties
from corral.errors import AlreadyExists, FailedPrecondition, Unsupported
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.cgroup.layout import Layout
    from corral.cgroup.location import SystemdLocation
    from corral.cgroup.slices import UnitPlace
    from corral.cgroup.systemd_bus import Manager, StartedUnit
    from corral.cgroup.systemd_properties import UnitProperty
    from corral.runtime.job import Job

# --cgroup-layout
SCOPE = "scope"
ENGINE = "engine"

DEADLINE_S = 25.0
_PATH_DEADLINE_S = 5.0


class Scope:
    """The unit of one container. ``environ`` is the caller's, by which a user's manager is found.

    ``directories``: where its group is, in each hierarchy. ``layout``: ``SCOPE``, or ``ENGINE`` with a holder in it.
    """

    __slots__ = ("directories", "environ", "is_user", "layout", "place", "properties")

    def __init__(
        self, place: UnitPlace, hosts: Layout, *, layout: str, is_user: bool, environ: Mapping[str, str]
    ) -> None:
        self.place = place
        self.layout = layout
        self.directories = [hierarchy.directory(place.path) for hierarchy in hosts.hierarchies]
        self.is_user = is_user
        self.environ = dict(environ)
        self.properties: list[UnitProperty] = []

    def manager(self) -> Manager:
        """The manager that runs the unit; the caller closes it."""
        return user_manager(self.environ) if self.is_user else system_manager()

    def start(self, pids: Sequence[int]) -> None:
        """Start the unit with ``pids`` in it, and be sure that it is where the plan expects it.

        Raises: CorralError of ``corral.cgroup.systemd_bus``'s table; FailedPrecondition for another place.
        """
        with self.manager() as manager:
            started = self._start(manager, pids)
            if started.control_group != self.place.path:
                manager.stop_unit(self.place.unit, deadline_s=DEADLINE_S)
                raise FailedPrecondition(
                    f"start unit {self.place.unit!r}: systemd put it in {started.control_group!r}, "
                    f"not in {self.place.path!r}",
                    hint="a slice of another type, or a unit of the same name, changes its place",
                    phase="cgroup",
                )

    def _start(self, manager: Manager, pids: Sequence[int]) -> StartedUnit:
        """As ``start_transient_scope``; a unit whose group is gone, since its container was deleted, gives way."""
        try:
            return manager.start_transient_scope(self.place.unit, pids, self.properties, deadline_s=DEADLINE_S)
        except AlreadyExists:
            if any(paths.isdir(directory) for directory in self.directories):
                raise
            # systemd has not noticed yet that the scope is empty, and dropped it.
            manager.stop_unit(self.place.unit, deadline_s=DEADLINE_S)
        return manager.start_transient_scope(self.place.unit, pids, self.properties, deadline_s=DEADLINE_S)

    def to_record(self) -> dict[str, object]:
        """For state.json: which unit it is, how it is laid out, and whose manager runs it."""
        return {"unit": self.place.unit, "layout": self.layout, "isUser": self.is_user}


def update_scope(
    record: Mapping[str, object], resources: Mapping[str, object], layout: Layout, environ: Mapping[str, str]
) -> None:
    """Tell systemd of limits that were changed in the files, so that its next reload keeps them.

    Raises: as ``corral.cgroup.systemd_bus``; the files have the new limits by then.
    """
    properties = limit_properties(compile_limits(resources, layout).writes, layout)
    if record.get("layout") == ENGINE:
        properties = with_allowance(properties)
    if not properties:
        return
    with user_manager(environ) if record["isUser"] else system_manager() as manager:
        manager.set_unit_properties(str(record["unit"]), properties, deadline_s=DEADLINE_S)


def end_scope(record: Mapping[str, object], environ: Mapping[str, str]) -> None:
    """Have systemd forget the unit of a container that was deleted, in case it has not noticed.

    It learns that a v2 group is empty by an event of a file in it, and none comes for a file that is removed meanwhile:
    a unit without processes would be there until the next reload. Raises: as ``corral.cgroup.systemd_bus``.
    """
    with user_manager(environ) if record["isUser"] else system_manager() as manager:
        manager.stop_unit(str(record["unit"]), deadline_s=DEADLINE_S)


def place_scope(job: Job, location: SystemdLocation, environ: Mapping[str, str]) -> Scope:
    """Where the container's unit is. Raises: Unsupported without systemd, and what its bus answers."""
    is_user = job.host.is_rootless
    if not is_user and not is_systemd_running():
        raise Unsupported(
            f"place the container in unit {location.unit!r}: this host is not run by systemd",
            hint="leave --systemd-cgroup out and give cgroupsPath as a path; podman: --cgroup-manager cgroupfs",
            pointer="linux.cgroupsPath",
            phase="cgroup",
        )
    above = ""
    if is_user:
        with user_manager(environ) as manager:
            above = manager.manager_path(deadline_s=_PATH_DEADLINE_S)
    place = place_unit(location, is_user=is_user, manager_path=above)
    return Scope(place, job.host.layout, layout=job.options.cgroup_layout or SCOPE, is_user=is_user, environ=environ)


def complete_scope(job: Job, scope: Scope) -> None:
    """Tell systemd what the files will say, so that no reload reverts it."""
    layout = job.host.layout
    limits = limit_properties([write for _, write in job.groups.writes if write.controller != "devices"], layout)
    scope.properties = [
        *unit_properties(scope.place, description=f"corral container {job.container_id}"),
        *(with_allowance(limits) if scope.layout == ENGINE else limits),
    ]
    if not scope.is_user:
        entries = job.spec.get("linux", {}).get("resources", {}).get("devices", [])
        is_v1 = layout.hierarchy_for("devices") is not None
        scope.properties += device_properties(allowed_devices(entries), is_v1=is_v1)
