"""Processes of containers: monitors are asked for, plans made for them, and the processes let go.

The engine is the planner here: it serves the conversation that a front would have with one (docs/design/plan.md), over
a socket of which the keeper gives the other end to the monitor.
"""

from __future__ import annotations

import posix

from corral.cgroup.location import CGROUPFS, SYSTEMD, SystemdLocation, parse_cgroups_path
from corral.engine.arrange import uses_systemd
from corral.engine.counters import counter_files
from corral.engine.keeper import Keeper, Monitor
from corral.engine.parents import keeper_arguments
from corral.engine.places import is_rootless
from corral.engine.programs import exit_command
from corral.engine.spec import runtime_flags
from corral.errors import Unavailable
from corral.linux.sockets import seqpacket_pair
from corral.runtime.host import read_layout_of
from corral.runtime.prepare import Surroundings
from corral.runtime.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.engine.arrange import Arrangement
    from corral.engine.places import Places
    from corral.engine.status import Facts
    from corral.runtime.rootfs import RootfsPlan

__all__ = ["converse", "create_process", "monitor_spec", "release"]

_DRIVERS = {"k8s-file": "cri", "json-file": "json", "none": "none"}
LOG_MAX_BYTES = 16 << 20
LOG_FILES = 3


def create_process(facts: Facts, arrangement: Arrangement, run: int, write_spec: Callable[[], None]) -> int:
    """Have a monitor make the container's init, which then waits; returns its pid.

    ``write_spec`` puts config.json into the bundle; it is called while the monitor starts.
    Raises: CorralError with what the plan or the kernel refused; nothing is left then but an empty run directory.
    """
    places, container_id = facts.places, facts.container_id
    is_systemd = uses_systemd(facts.definition)
    words = ["--root", places.runtime_root, f"--cgroup-manager={SYSTEMD if is_systemd else CGROUPFS}", "create"]
    if is_systemd:
        # Its counters are read after its end, when systemd would have taken an empty scope away.
        words.append("--cgroup-layout=engine")
    words += [*runtime_flags(facts.definition), "--bundle", places.bundle(container_id), container_id]  # type: ignore[arg-type]

    def write_and_plan() -> RootfsPlan | None:
        write_spec()
        return _root_plan(facts, arrangement)

    return converse(places, monitor_spec(facts, run, arrangement), words, write_and_plan)


def _root_plan(facts: Facts, arrangement: Arrangement) -> RootfsPlan | None:
    if facts.definition["root"].get("is_direct"):
        return None
    from corral.engine.rootfs import describe

    plan: RootfsPlan = describe(facts.definition, arrangement.layers, facts.places)
    return plan


def converse(
    places: Places, spec: dict[str, str], words: list[str], prepare: Callable[[], RootfsPlan | None] | None = None
) -> int:
    """Spawn a monitor and be its planner until its process exists; returns the pid of that. Raises: CorralError.

    ``prepare`` does what the plan needs, while the monitor starts, and returns the layers of the container's root.
    """
    ours, theirs = seqpacket_pair()
    try:
        try:
            planner = theirs.fileno()
            with Keeper.open(
                places,
                cgroups=lambda: keeper_arguments(places),
                first=lambda keeper: keeper.send_spawn(spec, planner),
            ) as keeper:
                rootfs = prepare() if prepare is not None else None
                monitor_pid = keeper.spawned(spec, planner)
        finally:
            theirs.close()
        session = Session(ours, monitor_pid)
        session.begin(words, Surroundings("/", _bus_environment()), rootfs=rootfs)
        while not session.is_over:
            session.receive()
        if session.refusal is not None:
            raise session.refusal
    finally:
        ours.close()
    return session.pid


def _bus_environment() -> dict[str, str]:
    """What tells where a user's own systemd is."""
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    given = {name: posix.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape") for name in names}
    return {name: value for name, value in given.items() if value}


def release(run_directory: str, before_release: Callable[[Monitor], None] | None) -> None:
    """Let the process that waits go. Raises: CorralError with the words of who would not start it."""
    try:
        monitor = Monitor.connect(run_directory)
    except OSError as exc:
        raise Unavailable(
            f"start what waits in {run_directory}: its monitor does not answer", hint="start the container again"
        ) from exc
    with monitor:
        if before_release is not None:
            before_release(monitor)
        monitor.start()


def monitor_spec(facts: Facts, run: int, arrangement: Arrangement) -> dict[str, str]:
    """What the monitor of a run has to know."""
    places, definition = facts.places, facts.definition
    process, log = definition["process"], definition.get("log", {})
    spec = {
        "id": facts.container_id,
        "dir": places.container(facts.container_id),
        "run": places.container_run(facts.container_id),
        "runtime_root": places.runtime_root,
        "command": "\x1f".join(exit_command(places)),
        "runs": str(run),
        "terminal": "1" if process.get("terminal") else "0",
        "stdin": "1" if process.get("stdin") else "0",
        "stdin_once": "1" if process.get("stdin_once") else "0",
        "log": _DRIVERS[log.get("driver", "k8s-file")],
        "log_max_bytes": str(log.get("max_bytes", LOG_MAX_BYTES)),
        "log_files": str(log.get("files", LOG_FILES)),
    }
    counters = _counters(facts.container_id, arrangement.place["cgroups_path"])
    if counters:
        # One key a file: the items of a spec are separated by NULs.
        spec["oom"] = "\0oom=".join(counters)
    return spec


def _counters(container_id: str, cgroups_path: str) -> list[str]:
    """Files of the group that will be made; of a user's scope none, since only the user's manager knows where it is."""
    if not cgroups_path:
        return []
    layout = read_layout_of("self")
    hierarchy = layout.hierarchy_for("memory")
    if hierarchy is None:
        return []
    if not cgroups_path.startswith("/"):
        if is_rootless():
            return []
        from corral.cgroup.slices import place_unit
        from corral.cgroup.systemd_layout import CONTAINER

        location = parse_cgroups_path(cgroups_path, driver=SYSTEMD, container_id=container_id)
        assert isinstance(location, SystemdLocation)
        cgroups_path = f"{place_unit(location).path}/{CONTAINER}"
    return counter_files(hierarchy.version, hierarchy.mount_point, cgroups_path)
