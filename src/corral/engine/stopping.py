"""Ending a container: the stop signal, the grace, SIGKILL, and what to say when not even that ends it (S4.6).

The intent is on file first, so that no restart policy undoes it and whoever finds its owner dead finishes it.
"""

from __future__ import annotations

import posix
import time

from corral.engine import exits, groups, journal, leases, ledger, status
from corral.engine.failpoints import failpoint
from corral.engine.settle import settle
from corral.engine.signals import SIGKILL, SIGTERM, open_init, parse_signal, send_pidfd, signal_name
from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.keeper import Monitor
    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = [
    "finish_stop",
    "intend_removal",
    "intend_stop",
    "is_being_stopped",
    "stop_container",
    "stop_signal_of",
]

GRACE_S = 10.0
# After SIGKILL: a process that is not in the kernel's hands for good is gone by then.
BOUND_S = 10.0
THAW_S = 1.0
# For another SIGKILL to what an earlier one did not end.
AGAIN_S = 0.1
_START_S = 60.0
# A monitor tells of the end right after the record is on disk.
_TELL_S = 2.0


def stop_signal_of(facts: Facts) -> int:
    """The signal that asks it to end: the definition's, the image's, or SIGTERM, also where they name no signal.

    What an image says is not ours to refuse here: a container that cannot be stopped would be the answer.
    """
    text = facts.definition.get("process", {}).get("stop_signal", "")
    if not text and facts.record is not None:
        annotations = facts.record.read_config().get("annotations", {})
        text = annotations.get("org.opencontainers.image.stopSignal", "")
    try:
        return parse_signal(text) if text else SIGTERM
    except InvalidArgument:
        return SIGTERM


def intend_stop(places: Places, container_id: str, grace_s: float) -> None:
    """Put down that someone wants it to end: its run is not followed by a restart, and the intent survives us."""
    with ledger.Update(places, container_id, needs_no_room=True) as state:
        owner = leases.me()
        until = ledger.boot_ns() + int((grace_s + BOUND_S) * 1e9)
        state["stop"] = {
            "by": "user",
            "run": state.get("runs", 0),
            "at_ns": time.time_ns(),
            "kill_ns": ledger.boot_ns() + int(grace_s * 1e9),
            "until_ns": until,
            "owner": {**owner, "deadline_ns": until},
            **_removal_of(state),
        }
        state.get("restart", {}).pop("due_ns", None)
        leases.forget_dead(state, "restart")


def _removal_of(state: dict[str, Any]) -> dict[str, Any]:
    """The wish of an earlier ``rm --force`` of this run, which a stop does not take back."""
    stop: dict[str, Any] = state.get("stop", {})
    return {"removes": stop["removes"]} if "removes" in stop and stop.get("run") == state.get("runs", 0) else {}


def intend_removal(places: Places, container_id: str, *, with_volumes: bool) -> None:
    """Put down that it goes as soon as its run is over, which a stop could not bring about. Raises: NotFound."""
    with ledger.Update(places, container_id, needs_no_room=True) as state:
        stop = state.setdefault("stop", {"by": "user", "run": state.get("runs", 0), "at_ns": time.time_ns()})
        stop["removes"] = {"volumes": with_volumes}


def is_being_stopped(places: Places, container_id: str) -> bool:
    """Whether a process that lives is just ending its run, and does what follows from the end. Raises: OSError."""
    state = ledger.read(places, container_id)
    stop = state.get("stop", {})
    is_of_this_run = bool(stop) and stop.get("run") == state.get("runs", 0)
    return is_of_this_run and not stop.get("is_given_up") and leases.is_owned(stop.get("owner"))


def stop_container(
    places: Places, container_id: str, *, grace_s: float | None = None, signal: int = 0
) -> dict[str, Any]:
    """End the container; returns how it ended, {} if it never ran. Safe to repeat, and to do by several at once.

    Returns within the grace and 10 s, or as long as a start that is under way takes before.
    Raises: NotFound; Timeout, with every process that is left, where it waits, and what was tried.
    """
    facts = status.look(places, container_id)
    if grace_s is None:
        grace_s = float(facts.definition.get("process", {}).get("stop_timeout_s", GRACE_S))
    intend_stop(places, container_id, grace_s)
    failpoint("stop.intended")
    facts = _after_start(places, container_id)
    if not facts.is_live:
        return settle(places, container_id)
    from corral.engine.keeper import Monitor

    # What follows from the end is done here, so that no command has to be started for it; should we die at it, our
    # connection closes, and the keeper starts one after all.
    attended = Monitor.attending_or_none(places.container_run(container_id))
    try:
        end = _end(facts, grace_s, signal)
        if attended is not None:
            _say_done(attended)
    finally:
        if attended is not None:
            attended.close()
    journal.emit(places, "container", "stop", container_id, name=facts.definition.get("name", ""))
    return end


def _say_done(attended: Monitor) -> None:
    """Tell the monitor that its end was followed up; what it has told is read first, or closing would discard ours."""
    try:
        if attended.receive_exit(_TELL_S) is not None:
            attended.done()
    except (CorralError, OSError):
        return  # it is stopped: the keeper sees to it


def _end(facts: Facts, grace_s: float, signal: int) -> dict[str, Any]:
    """Ask it to end, kill it when the grace is over; how it ended. Raises: Timeout."""
    ask_s = grace_s if facts.status != status.MADE else 0.0
    first = signal or stop_signal_of(facts)
    if ask_s > 0:
        _ask(facts, first)
    failpoint("stop.asked")
    waiter = exits.Waiter(facts.places, facts.container_id, facts.run)
    if not (ask_s > 0 and waiter.wait_init(ask_s)):
        tried = [f"{signal_name(first)}, and {grace_s:g} s to react"] if ask_s > 0 else []
        _kill(facts, waiter, tried)
    failpoint("stop.dead")
    return _await_end(facts, waiter)


def finish_stop(places: Places, container_id: str) -> bool:
    """Go on with a stop whose owner died at it; whether there was one. Raises: Timeout.

    One that was given up is not waited for again: what is left of it ends when it can, and others wait for us.
    """
    facts = status.look(places, container_id)
    stop = facts.state.get("stop", {})
    if not facts.is_live or stop.get("run") != facts.run or leases.is_owned(stop.get("owner")):
        return False
    if not stop.get("until_ns"):
        return False
    if stop.get("is_given_up"):
        if facts.record is not None:
            groups.kill_everything(facts.record, deadline_s=AGAIN_S)
        return False
    left = max(0.0, (stop.get("kill_ns", 0) - ledger.boot_ns()) / 1e9)
    stop_container(places, container_id, grace_s=min(left, 3600.0))
    return True


def _after_start(places: Places, container_id: str) -> Facts:
    """A look at it when nobody is just starting it: a stop then meets a container that is whole."""
    until = time.monotonic() + _START_S
    pause = 0.002
    while True:
        facts = status.look(places, container_id)
        if not leases.is_owned(facts.state.get("leases", {}).get("start")) or time.monotonic() > until:
            return facts
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _ask(facts: Facts, number: int) -> None:
    assert facts.record is not None
    try:
        pidfd = open_init(facts.record)
    except ProcessLookupError:
        return
    try:
        send_pidfd(pidfd, number)
    finally:
        posix.close(pidfd)
    if facts.status == status.PAUSED_:
        # A frozen process gets its signals when it thaws.
        group = groups.open_group_or_none(facts.record)
        if group is not None:
            with group:
                try:
                    group.thaw(deadline_s=THAW_S)
                except CorralError:
                    pass  # a group above it is frozen: what that keeps from ending is told at the end


def _kill(facts: Facts, waiter: exits.Waiter, tried: list[str]) -> None:
    """SIGKILL, and a wait that is bounded. Raises: Timeout."""
    record = facts.record
    assert record is not None
    tried += groups.kill_everything(record, deadline_s=BOUND_S / 2)
    failpoint("stop.killed")
    if waiter.wait_init(BOUND_S):
        return
    _give_up(facts)
    left = groups.survivors(exits.runtime_record_or_none(facts.places, facts.container_id) or record)
    shown = "; ".join(str(item) for item in left) or "its processes cannot be seen"
    raise Timeout(
        f"stop container {facts.definition.get('name', facts.container_id)!r}: {shown}; tried {', then '.join(tried)}",
        hint="a process in state D waits in the kernel and ends when that is over; stopping again is safe",
        phase="stop",
    )


def _give_up(facts: Facts) -> None:
    try:
        with ledger.Update(facts.places, facts.container_id, needs_no_room=True) as state:
            if state.get("stop", {}).get("run") == facts.run:
                state["stop"]["is_given_up"] = True
    except (CorralError, OSError):
        return  # what is said about the processes counts more


def _await_end(facts: Facts, waiter: exits.Waiter) -> dict[str, Any]:
    """Its end, judged. A monitor that does not react any more is ended: the keeper has its descriptors."""
    record = waiter.wait(exits.RECORD_BOUND_S)
    if record is None:
        end_stuck_monitor(facts)
    try:
        return settle(facts.places, facts.container_id)
    except NotFound:
        return exits.to_exit(record) if record is not None else {}


def end_stuck_monitor(facts: Facts) -> bool:
    """SIGKILL a monitor that is stopped, or hangs, while its init is dead; whether there was one."""
    from corral.engine.keeper import monitor_pid_or_none

    pid = monitor_pid_or_none(facts.places.container_run(facts.container_id))
    if not pid:
        return False
    try:
        posix.kill(pid, SIGKILL)
    except ProcessLookupError:
        return False
    exits.Waiter(facts.places, facts.container_id, facts.run).wait(exits.RECORD_BOUND_S)
    return True


def kill_container(places: Places, container_id: str, number: int, *, is_for_all: bool = False) -> None:
    """Send a signal to the container's first process, or to all. Raises: NotFound, FailedPrecondition."""
    facts = status.look(places, container_id)
    name = facts.definition.get("name", container_id)
    if not facts.is_live or facts.record is None:
        raise FailedPrecondition(f"kill container {name!r}: it is not running, it is {facts.status}")
    if number in (SIGKILL, stop_signal_of(facts)):
        with ledger.Update(places, container_id, needs_no_room=True) as state:
            state["stop"] = {"by": "kill", "run": state.get("runs", 0), "at_ns": time.time_ns()}
    failpoint("kill.intended")
    if number == SIGKILL:
        groups.kill_everything(facts.record, deadline_s=BOUND_S)
    elif is_for_all:
        with groups.require_group(facts.record, name) as group:
            group.kill_all(number, deadline_s=BOUND_S)
    else:
        try:
            pidfd = open_init(facts.record)
        except ProcessLookupError as exc:
            raise FailedPrecondition(f"kill container {name!r}: it has just ended") from exc
        try:
            send_pidfd(pidfd, number)
        finally:
            posix.close(pidfd)
    journal.emit(
        places, "container", "kill", container_id, name=name, attributes={"signal": signal_name(number)}
    )  # fmt: skip


def kill_init(facts: Facts, number: int, *, restarts: bool) -> None:
    """A signal that no user sent: what follows is the policy's. ``restarts``: and if it has none, one restart."""
    if restarts and facts.definition.get("restart", {}).get("policy", "no") == "no":
        with ledger.Update(facts.places, facts.container_id) as state:
            state["restart_once"] = facts.run
    if facts.record is not None:
        if number == SIGKILL:
            groups.kill_everything(facts.record, deadline_s=BOUND_S)
        else:
            _ask(facts, number)
