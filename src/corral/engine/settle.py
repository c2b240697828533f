"""What follows from the end of a run: the one function that judges it, tells of it, and does what the policy says.

Called by whoever comes first: the foreground ``run``, ``corral _exited``, ``wait``, ``ps``, reconciliation, gc. Each
step is on record before the next, so a second call, also after a crash anywhere, only does what is left.
"""

from __future__ import annotations

import time

from corral.engine import exits, journal, leases, ledger, restart, status
from corral.engine.failpoints import failpoint
from corral.engine.teardown import LAST_TRY_S, tear_down
from corral.errors import CorralError, NotFound, PermissionDenied, ResourceExhausted, Timeout
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["settle", "tell_again", "tell_due", "was_sampled"]

LEASE_S = 120.0
OVERDUE_MS = 1000
# A kill that the counters told of this long before the end was not the one that ended init.
_SAMPLE_SLACK_NS = 500_000_000


def settle(places: Places, container_id: str, *, wait_s: float = 10.0) -> dict[str, Any]:
    """Bring the container's files into line with the end of its last run; returns how it ended, {} if it has not.

    Removes it if it is to be removed then. Idempotent; blocks while another process is at it, at most ``wait_s``.
    Raises: NotFound; Timeout.
    """
    facts = status.look(places, container_id)
    if not _is_due(facts):
        return facts.exit()
    with leases.acquire(places, container_id, "settle", deadline_s=LEASE_S, wait_s=wait_s):
        facts = status.look(places, container_id)
        if not _is_due(facts):
            return facts.exit()
        end = settle_held(facts)
    failpoint("settle.decided")
    wish = _removal_of(facts)
    if wish is not None:
        from corral.engine.removal import remove_container

        try:
            remove_container(places, container_id, with_volumes=bool(wish.get("volumes")))
        except NotFound:
            pass  # somebody else removed it just now
    return end


def _removal_of(facts: Facts) -> dict[str, Any] | None:
    """How it is to be removed now: it was made to go with its run, or an ``rm --force`` could not end it."""
    stop: dict[str, Any] = facts.state.get("stop", {})
    if stop.get("run") == facts.run and "removes" in stop:
        wish: dict[str, Any] = stop["removes"]
        return wish
    return {} if facts.definition.get("auto_remove") else None


def settle_held(facts: Facts) -> dict[str, Any]:
    """``settle`` without its lease and without the removal: for who has a lease that excludes it."""
    failpoint("settle.begin")
    end: dict[str, Any] = facts.state["exit"] if facts.is_settled else _judge(facts)
    failpoint("settle.judged")
    _tell_execs(facts)
    is_told = _tell(facts, end)
    failpoint("settle.told")
    tear_down(facts)
    failpoint("settle.torn_down")
    _decide(facts, end, is_told=is_told)
    return end


def _tell_execs(facts: Facts) -> None:
    """The container's end is the last of all, so those of its execs come before."""
    if paths.isdir(f"{facts.places.container_run(facts.container_id)}/exec"):
        from corral.engine.execends import tell_all

        tell_all(facts)


def _is_due(facts: Facts) -> bool:
    """An end that is not followed up. Whoever starts it just now excludes us by the lease: it may end that fast."""
    if facts.is_live or facts.run == 0 or "removing" in facts.state:
        return False
    return bool(facts.state.get("settled") != facts.run)


def _judge(facts: Facts) -> dict[str, Any]:
    """Find out how the run ended, and put it on file before anybody is told (S4.11)."""
    if facts.state.get("run", {}).get("phase") == "intended" or status.is_before_boot(facts.state):
        record = facts.record_of_end()
    else:
        record = exits.Waiter(facts.places, facts.container_id, facts.run).wait(exits.RECORD_BOUND_S)
    if record is None:
        record = exits.read_zombie_or_none(facts.places, facts.container_id)
    if record is None:
        end = _unknown(facts)
    else:
        end = exits.to_exit(record)
        end["run"] = facts.run
        if isinstance(record.get("oom"), list) and record["oom"]:
            end["oom"] = _judge_oom(facts, record)
            if end["oom"]["init_killed"]:
                end["oom_killed"] = True
                # Who it was only the log tells, and the kernel writes there at most ten times in five seconds.
                end["reason"] = "OOMKilled"
    end["told_from"] = journal.last_number(facts.places)
    with ledger.Update(facts.places, facts.container_id) as state:
        if state.get("runs") == facts.run:
            state["exit"] = end
            run = state.setdefault("run", {})
            run["phase"] = "over"
            run["lasted_ns"] = _lasted_ns(run, record)
            state.pop("health", None)
    return end


def _lasted_ns(run: dict[str, Any], record: dict[str, Any] | None) -> int:
    """How long it ran, by the clock that nobody sets; 0: it did not, or nobody saw its end."""
    began, ended = run.get("started_boot_ns", 0), (record or {}).get("boot_ns", 0)
    return max(0, ended - began) if began and ended else 0


def _unknown(facts: Facts) -> dict[str, Any]:
    """Nobody saw the end, and no code is invented."""
    end: dict[str, Any] = {"run": facts.run, "pid": 0, "code": None, "source": "unknown", "finished_ns": time.time_ns()}
    if facts.state.get("run", {}).get("phase") == "intended":
        end["reason"] = "its start was interrupted"
    elif status.is_before_boot(facts.state):
        end["reason"] = status.REBOOTED
    else:
        end["reason"] = "nobody was left to see its end"
    return end


def _judge_oom(facts: Facts, record: dict[str, Any]) -> dict[str, Any]:
    # Not at the top: a start imports this module, and only an end needs what judges it.
    from corral.engine import oom

    counters = record["oom"]
    signal = (record.get("status") or 0) & 0x7F
    judged = oom.judge(counters, pid=record.get("pid", 0), signal=signal, kills=None)
    if judged["kills"] == 0:
        return judged
    # Only now the log, which takes a while to read.
    kills = oom.read_kills(facts.container_id) if oom.is_log_ours() else None
    return oom.judge(
        counters,
        pid=record.get("pid", 0),
        signal=signal,
        kills=kills,
        is_sampled=was_sampled(facts, record),
    )


def was_sampled(facts: Facts, record: dict[str, Any]) -> bool:
    """Whether the last kill was counted well before init's end, and none after."""
    from corral.engine.files import read_bytes_or_none
    from corral.oci.json import loads

    text = read_bytes_or_none(f"{facts.places.container(facts.container_id)}/oom") or b""
    own = [line.split(b" ", 2) for line in text.splitlines() if line.split(b" ", 2)[1:2] == [b"0"]]
    if not own or len(own[-1]) != 3 or not own[-1][0].isdigit():
        return False
    try:
        counted = loads(own[-1][2], "the sample")
    except CorralError:
        return False  # cut off
    after = record["oom"][0].get("after") or {}
    if not isinstance(counted, dict) or counted.get("oom_kill") != after.get("oom_kill"):
        return False
    ended: int = record.get("boot_ns", 0)
    return int(own[-1][0]) < ended - _SAMPLE_SLACK_NS


def tell_again(places: Places, container_id: str) -> bool:
    """Tell of an end that could not be told when it was followed up; whether there was one. Raises: NotFound."""
    with leases.acquire(places, container_id, "settle", deadline_s=LEASE_S):
        facts = status.look(places, container_id)
        if facts.state.get("untold") != facts.run or not _tell(facts, facts.state["exit"]):
            return False
        with ledger.Update(places, container_id) as state:
            state.pop("untold", None)
    return True


def _tell(facts: Facts, end: dict[str, Any]) -> bool:
    """The events of an end, each once: a crash between two of them repeats none. False if they cannot be written."""
    key = f"{facts.container_id}/{facts.run}"
    since = end.get("told_from", 0)
    name = facts.definition.get("name", "")
    killed = end.get("oom", {})
    try:
        if killed.get("kills"):
            shown = {k: killed[k] for k in ("kills", "whose", "limit_of", "victim") if k in killed}
            shown["init_killed"] = bool(killed.get("init_killed"))
            journal.append_once(
                facts.places, f"{key}/oom", since, "container", "oom",
                subject=facts.container_id, name=name, attributes=shown,
            )  # fmt: skip
        shown = {k: end[k] for k in ("code", "signal", "source", "reason", "oom_killed") if k in end}
        shown["labels"] = facts.definition.get("labels", {})
        shown["image"] = facts.definition.get("root", {}).get("image", "")
        journal.append_once(
            facts.places, f"{key}/died", since, "container", "died",
            subject=facts.container_id, name=name, attributes=shown,
        )  # fmt: skip
    except OSError:
        # A full disc keeps an event from being told, not an end from being followed up.
        return False
    return True


def _decide(facts: Facts, end: dict[str, Any], *, is_told: bool) -> None:
    """Put down that the end is settled, what is still to be told, and when the container starts again if it does."""
    with ledger.Update(facts.places, facts.container_id) as state:
        if state.get("runs") != facts.run:
            return
        state["settled"] = facts.run
        if not is_told:
            state["untold"] = facts.run
        again = restart.after_exit(facts.definition, state, end)
        if again is None:
            if "restart" in state:
                state["restart"].pop("due_ns", None)
        else:
            again["due_ns"] = ledger.boot_ns() + again["delay_ms"] * 1_000_000
            state["restart"] = again
    tell_due(facts.places, facts.container_id)


def tell_due(places: Places, container_id: str) -> None:
    """Have the keeper run ``corral _due ID`` when the next thing is due: a restart, a health check, a second try."""
    try:
        state = ledger.read(places, container_id)
    except OSError:
        return
    now = ledger.boot_ns()
    moments = [restart.due_at(state.get("restart", {}), now), state.get("health", {}).get("due_ns")]
    # No try is planned for later than that; what is, was planned before the host's restart.
    moments += [min(row.get("due_ns", 0), now + int(LAST_TRY_S * 1e9)) for row in state.get("pending", [])]
    known = [moment for moment in moments if moment]
    if not known:
        return
    delay_ms = (min(known) - now) // 1_000_000
    if delay_ms <= 0:
        # Overdue: it could not be done just now (it is paused, another is at work on it). Not in a tight loop.
        delay_ms = OVERDUE_MS
    from corral.engine.keeper import Keeper

    try:
        with Keeper.open(places) as keeper:
            keeper.run_at(container_id, int(delay_ms))
    except (CorralError, OSError):
        # No keeper, no timer: the next engine action finds what is due in the state.
        return


def settle_quietly(places: Places, container_id: str) -> None:
    """Settle on the way, in a verb that has another purpose: what does not work now is tried again by others."""
    taken = ledger.read(places, container_id).get("leases", {})
    if any(leases.is_owned(taken.get(name)) for name in leases.EXCLUSIVE):
        return
    try:
        settle(places, container_id, wait_s=1.0)
    except (NotFound, Timeout, ResourceExhausted, PermissionDenied):
        # Looking needs no room in the store, nor a store that can be written to.
        return
