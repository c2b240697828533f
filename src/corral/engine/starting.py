"""Starting a container: from its definition to a process, with everything on record that has to be undone.

::

    intended ── spec compiled, monitor spawned, plan run ──► created ── network, descriptors ──► started
        └────────────── any error: what was made is taken apart, the error is told ──────────────┘

A crash in between leaves a lease with a dead owner; whoever comes next takes apart what is there and starts afresh, or
settles it, if init was already let go.
"""

from __future__ import annotations

import time

from corral.engine import files, journal, leases, ledger, status
from corral.engine.arrange import arrange
from corral.engine.failpoints import failpoint
from corral.engine.launching import create_process, release
from corral.engine.removal import remove_container
from corral.engine.settle import settle_held, tell_due
from corral.engine.spec import compile_spec
from corral.engine.teardown import tear_down
from corral.errors import CorralError, FailedPrecondition
from corral.linux import paths
from corral.linux.procfs import read_boot_id
from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.engine.arrange import Arrangement
    from corral.engine.keeper import Monitor
    from corral.engine.leases import Lease
    from corral.engine.places import Places
    from corral.engine.status import Facts

    BeforeRelease = Callable[[Monitor], None]

__all__ = ["start_container", "undo_start"]

LEASE_S = 300.0
WAIT_S = 60.0


def start_container(
    places: Places,
    container_id: str,
    *,
    before_release: BeforeRelease | None = None,
    is_restart: bool = False,
    is_created_only: bool = False,
) -> dict[str, Any]:
    """Start a container that does not live; one that is ``created`` is let go. One that runs is fine.

    ``before_release`` gets a connection to the monitor when init exists and waits: to attach descriptors.
    ``is_restart``: by policy, so that a stop that came meanwhile is respected. ``is_created_only``: init waits on.
    Returns ``id``, ``run`` and ``pid``. Raises: CorralError; nothing of the try is left then.
    """
    _start_pod(places, container_id)
    with leases.acquire(places, container_id, "start", deadline_s=LEASE_S, wait_s=WAIT_S) as lease:
        facts = status.look(places, container_id)
        _check(facts)
        if facts.status in (status.RUNNING, status.STOPPING):
            return {"id": container_id, "run": facts.run, "pid": facts.pid}
        pid = facts.pid
        if facts.status != status.MADE:
            pid = _make(facts, lease, is_restart=is_restart, waits=is_created_only)
        if not is_created_only:
            _let_go(facts, lease, pid, before_release)
    if not is_created_only:
        _after_start(facts, is_restart=is_restart)
    return {"id": container_id, "run": facts.run, "pid": pid}


def _start_pod(places: Places, container_id: str) -> None:
    """The namespaces that a pod's containers share have to be there first."""
    definition = ledger.read_definition(places, container_id)
    if not definition.get("pod") or definition.get("is_infra"):
        return
    from corral.engine.podfiles import read_pod

    infra = read_pod(places, definition["pod"])["infra"]
    if not status.look(places, infra).is_live:
        start_container(places, infra)


def _check(facts: Facts) -> None:
    name = facts.definition.get("name", facts.container_id)
    if facts.status in (status.REMOVING, status.DEAD):
        raise FailedPrecondition(f"start container {name!r}: it is being removed")
    if facts.status == status.PAUSED_:
        raise FailedPrecondition(f"start container {name!r}: it is paused", hint=f"corral unpause {name}")


def _make(facts: Facts, lease: Lease, *, is_restart: bool, waits: bool) -> int:
    """A new run as far as init, waiting, whose pid is returned. Undone on any error.

    ``waits``: another start lets it go. ``facts`` have the state with the new run from here on.
    """
    places, container_id = facts.places, facts.container_id
    _finish_last_run(facts)
    run = _intend(facts, is_restart=is_restart)
    failpoint("start.intended")
    try:
        _prepare_run_directory(places, container_id)
        arrangement = arrange(places, facts.definition)
        failpoint("start.arranged")
        pid = create_process(facts, arrangement, run, lambda: _write_spec(facts, arrangement, lease))
        failpoint("start.created")
        if waits:
            with ledger.Update(places, container_id) as state:
                state["run"]["phase"] = "created"
                state["run"]["pid"] = pid
        _attach_network(facts, pid)
        failpoint("start.networked")
        return pid
    except leases.Lost:
        raise
    except BaseException as exc:
        _undo(facts, exc)
        raise


def _write_spec(facts: Facts, arrangement: Arrangement, lease: Lease) -> None:
    """config.json, the last that is done before the process is made. Raises: CorralError; Lost."""
    spec = compile_spec(facts.definition, arrangement.image, arrangement.place)  # type: ignore[arg-type]
    files.replace(f"{facts.places.bundle(facts.container_id)}/config.json", dumps(spec).encode())
    failpoint("start.compiled")
    lease.check()


def _finish_last_run(facts: Facts) -> None:
    """The end of the last run is followed up before its record makes way for the next."""
    now = facts
    if facts.run and facts.state.get("settled") != facts.run:
        phase = facts.state.get("run", {}).get("phase")
        if phase in ("intended", "created") and not facts.state.get("run", {}).get("started_ns"):
            # A start that broke off: nothing of it ran.
            tear_down(facts)
        else:
            # This process has the lease that settling would ask for.
            settle_held(facts)
        now = status.look(facts.places, facts.container_id)
    # The network as well: what is on record of it would be written over, and then is nobody's.
    if paths.exists(facts.places.record(facts.container_id)) or now.state.get("network"):
        stays = tear_down(now)
        if stays:
            raise FailedPrecondition(
                f"start container {facts.definition.get('name', '')!r}: {stays[0]['why']}",
                hint="what its last run left has to go first; it is tried again by itself",
            )


def _intend(facts: Facts, *, is_restart: bool) -> int:
    with ledger.Update(facts.places, facts.container_id) as state:
        if is_restart and state.get("stop", {}).get("run") == state.get("runs", 0):
            raise FailedPrecondition(
                f"restart container {facts.definition.get('name', '')!r}: it was stopped meanwhile",
            )
        run: int = state.get("runs", 0) + 1
        state["runs"] = run
        state["run"] = {"number": run, "phase": "intended", "begun_ns": time.time_ns(), "boot": read_boot_id()}
        state.pop("error", None)
        state.pop("stop", None)
        leases.forget_dead(state, "restart")
        if is_restart:
            state.get("restart", {}).pop("due_ns", None)
        else:
            state.pop("restart", None)
    facts.state = state
    ledger.remove_exit_record(facts.places, facts.container_id)
    return run


def _prepare_run_directory(places: Places, container_id: str) -> None:
    directory = places.container_run(container_id)
    files.remove_tree(directory)
    for path in (directory, places.bundle(container_id), f"{directory}/rootfs"):
        paths.make_directories(path, 0o700)


def _attach_network(facts: Facts, pid: int) -> None:
    mode = facts.definition.get("network", {}).get("mode")
    if mode in ("none", "host", "container", "pod"):
        return
    from corral.engine.network import attach

    attach(facts.places, facts.definition, pid)


def _undo(facts: Facts, exc: BaseException) -> None:
    """Take apart what a start has made; the container is then as before it, and says why."""
    try:
        now = status.look(facts.places, facts.container_id)
        tear_down(now)
        with ledger.Update(facts.places, facts.container_id) as state:
            state["run"] = {"number": now.run, "phase": "over", "begun_ns": state["run"].get("begun_ns", 0)}
            state["settled"] = now.run
            state["exit"] = {
                "run": now.run,
                "pid": 0,
                "code": start_error_code(exc),
                "source": "observed",
                "finished_ns": time.time_ns(),
                "reason": "it was not started",
            }
            state["error"] = str(exc)
    except CorralError:
        # The error of the start is what counts; what stays is found again by its lease.
        return


def undo_start(places: Places, container_id: str) -> bool:
    """Take apart a start whose owner died before init was let go; whether there was one.

    A container that was to be removed after its run is removed.
    """
    with leases.acquire(places, container_id, "start", deadline_s=LEASE_S):
        facts = status.look(places, container_id)
        run = facts.state.get("run", {})
        is_begun = run.get("phase") in ("intended", "created") and not run.get("started_ns")
        if not is_begun and facts.status != status.MADE:
            return False
        _undo(facts, FailedPrecondition("its start was interrupted"))
    if facts.definition.get("auto_remove"):
        remove_container(places, container_id)
    return True


def start_error_code(exc: BaseException) -> int:
    """What a shell says of a command that could not be run: 127 not found, 126 not executable, else 125."""
    text = str(exc)
    if "executable file not found" in text or "no such file or directory" in text:
        return 127
    return 126 if "permission denied" in text else 125


def _let_go(facts: Facts, lease: Lease, pid: int, before_release: BeforeRelease | None) -> None:
    places, container_id = facts.places, facts.container_id
    try:
        failpoint("start.made")
        with ledger.Update(places, container_id) as state:
            lease.check_in(state)
            state["run"]["pid"] = pid
            state["run"]["started_ns"] = time.time_ns()
            state["run"]["started_boot_ns"] = ledger.boot_ns()
            state["run"]["phase"] = "started"
        failpoint("start.releasing")
        release(places.container_run(container_id), before_release)
    except leases.Lost:
        raise
    except BaseException as exc:
        # A monitor that died at it may have let init go before: then it runs, whoever was to tell us.
        if status.look(places, container_id).status != status.RUNNING:
            _undo(facts, exc)
            raise
    failpoint("start.released")
    journal.emit(
        places,
        "container",
        "start",
        container_id,
        name=facts.definition.get("name", ""),
        attributes={
            "labels": facts.definition.get("labels", {}),
            "image": facts.definition.get("root", {}).get("image", ""),
        },
    )
    if facts.definition.get("pid_file"):
        files.replace(facts.definition["pid_file"], f"{pid}".encode(), mode=0o644)


def _after_start(facts: Facts, *, is_restart: bool) -> None:
    """What goes on from here by itself: health checks; for one that ended at once, its end."""
    health = facts.definition.get("health", {})
    if health and health.get("command", ["NONE"])[:1] != ["NONE"]:
        from corral.engine.health import begin

        begin(facts)
        tell_due(facts.places, facts.container_id)
    if is_restart:
        journal.emit(
            facts.places, "container", "restart", facts.container_id, name=facts.definition.get("name", "")
        )  # fmt: skip
