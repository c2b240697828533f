"""Clocks that somebody sets, and another boot: what counts is the clock since boot, and which boot that was.

In a machine of tests/vm its own clock is set; elsewhere that of this process, which the verbs run in.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.engine import journal, leases, ledger
from corral.engine.keeper import Keeper, Monitor
from corral.engine.reconcile import reconcile
from corral.engine.settle import settle
from corral.linux.procfs import read_boot_id
from root.engine.apart import python, see_apart
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")

WORKER = Path(__file__).with_name("rebooted.py")
YEAR_S = 365 * 86400
TEN_DAYS_NS = 10 * 86400 * 10**9
Jump = Callable[[int], object]


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jump]:
    """Moves the wall clock by so many seconds; at the end it is where it was."""
    if not os.environ.get("CORRAL_VM_CELL"):
        real_ns, moved = time.time_ns, [0]
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + moved[0] * 10**9)
        monkeypatch.setattr(time, "time", lambda: real_ns() / 1e9 + moved[0])
        yield lambda seconds: moved.append(moved.pop() + seconds)
        return
    offset_ns = time.time_ns() - ledger.boot_ns()
    yield lambda seconds: time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + seconds * 10**9)
    time.clock_settime_ns(time.CLOCK_REALTIME, ledger.boot_ns() + offset_ns)


@pytest.mark.parametrize("seconds", [YEAR_S, -YEAR_S])
def test_life_goes_on_when_the_clock_jumps(engine: Engine, jump: Jump, seconds: int) -> None:
    """A container that ran before runs, ends in time with its own code, and starts again; the events have no gap."""
    container = engine.run("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", name="clocked")
    eventually(lambda: engine.output(container) == [b"ready"])
    jump(seconds)
    assert reconcile(engine.places) == []
    assert [row["status"] for row in engine.call("ps")] == ["running"]
    assert engine.call("exec", container, {"command": ["sh", "-c", "exit 4"]})["exit"]["code"] == 4
    assert engine.call("stop", container, timeout_s=20)["exit"]["code"] == 9
    jump(-seconds)
    engine.call("start", container)
    jump(seconds)
    assert engine.call("stop", container, timeout_s=0)["exit"]["code"] == 137
    told = list(journal.read(engine.places))
    assert [event["n"] for event in told] == list(range(told[0]["n"], told[0]["n"] + len(told)))
    assert engine.events(container).count("died") == 2


def test_restarts_pause_as_long_when_the_clock_jumps(engine: Engine, jump: Jump) -> None:
    """A run that was short is short, whatever the clock said at its end: the pause doubles, the bound holds."""
    container = engine.run("sleep", "1000", restart={"policy": "on-failure", "max_retries": 1})
    with Monitor.connect(engine.places.container_run(container)) as monitor:
        # Attended, so that this process follows the end up, with its own clock.
        monitor.send_attend()
        jump(YEAR_S)
        os.kill(engine.pid(container), signal.SIGKILL)
        eventually(lambda: settle(engine.places, container))
    again = ledger.read(engine.places, container)["restart"]
    assert (again["count"], again["row"], again["delay_ms"]) == (1, 1, 100)
    eventually(lambda: engine.look(container).run == 2 and engine.look(container).status == "running")
    with Monitor.connect(engine.places.container_run(container)) as monitor:
        monitor.send_attend()
        jump(YEAR_S)
        os.kill(engine.pid(container), signal.SIGKILL)
        eventually(lambda: settle(engine.places, container))
    assert ledger.read(engine.places, container)["restart"].get("due_ns") is None


def test_lease_is_held_when_the_clock_jumps(engine: Engine, jump: Jump) -> None:
    """Who is at work stays at work; nobody takes it over because a clock was set."""
    container = engine.create("true")
    for seconds in (YEAR_S, -2 * YEAR_S):
        with leases.acquire(engine.places, container, "commit", deadline_s=60.0):
            jump(seconds)
            assert leases.is_owned(ledger.read(engine.places, container)["leases"]["commit"])
            with pytest.raises(leases.Busy):
                leases.acquire(engine.places, container, "start", deadline_s=60.0)


def test_pod_stays_when_the_clock_jumps(engine: Engine, jump: Jump) -> None:
    """Also while it is being made: its age by the clock says nothing."""
    pod = engine.call("pod_create", {"name": "clocked"})["id"]
    jump(YEAR_S)
    assert reconcile(engine.places) == []
    assert [row["id"] for row in engine.call("pod_ps")] == [pod]
    engine.call("pod_rm", pod, force=True)


def test_restart_is_due_when_it_was_planned_in_an_earlier_boot(engine: Engine) -> None:
    """A clock since boot begins anew: what was due after ten days of the last one does not wait ten days."""
    container = engine.run("sleep", "1000", restart={"policy": "always"})
    engine.call("stop", container, timeout_s=0)
    with ledger.Update(engine.places, container) as state:
        del state["stop"]
        state["restart"] = {"count": 1, "row": 1, "delay_ms": 100, "due_ns": ledger.boot_ns() + TEN_DAYS_NS}
    assert engine.look(container).to_json()["restart_in_s"] == 0
    reconcile(engine.places)
    assert engine.look(container).status == "running"


def test_command_is_run_when_it_was_planned_in_an_earlier_boot(engine: Engine) -> None:
    """What a keeper of that boot put down for days ahead, by its clock, the next one does at once."""
    container = engine.run("sleep", "1000", restart={"policy": "always"})
    engine.call("stop", container, timeout_s=0)
    with ledger.Update(engine.places, container) as state:
        del state["stop"]
        state["restart"] = {"count": 1, "row": 1, "delay_ms": 100, "due_ns": ledger.boot_ns() + TEN_DAYS_NS}
    eventually(engine.is_quiet)
    planned = Path(engine.places.run, "due", container)
    planned.parent.mkdir(exist_ok=True)
    planned.write_text(f"{(ledger.boot_ns() + TEN_DAYS_NS) // 10**6} 100 ")
    Keeper.open(engine.places).close()
    eventually(lambda: engine.look(container).status == "running")


def reboot(tmp_path: Path, step: str) -> dict[str, Any]:
    """What ``step`` of the worker saw after a loss of power."""
    place, boot_id = tmp_path / "rebooted", tmp_path / "boot_id"
    boot_id.write_text("11111111-2222-4333-8444-555555555555\n")
    seen: dict[str, Any] = see_apart(
        f"{python(WORKER, place, 'before')} && mount --bind {boot_id} /proc/sys/kernel/random/boot_id"
        f" && exec {python(WORKER, place, step, read_boot_id())}"
    )
    assert seen["boot"]
    return seen


def test_nothing_is_lost_and_nobody_killed_when_the_host_was_restarted(engine: Engine, tmp_path: Path) -> None:
    """S4.1 in another boot: leases are void, ends unknown, policies hold, who has the old numbers is left alone."""
    seen = reboot(tmp_path, "after")
    lost = {name: ["exited", None] for name in ("always", "plain", "leased")}
    # Its state was cut off, and nothing of this boot tells that it ever ran.
    assert seen["ends"] == {**lost, "cut": ["configured", None]}
    assert seen["reason"] == "the host was restarted"
    assert (seen["stop"], seen["rm"], seen["problems"]) == ("", "", [])
    assert seen["kill"] == "kill container 'plain': it is not running, it is exited"
    assert seen["rows"] == {
        "always": ["running", 2],
        "plain": ["exited", 1],
        "cut": ["configured", 0],
        "ended": ["exited", 1],
        "made": ["configured", 0],
        "failing": ["exited", 6],
    }
    assert (seen["start"], seen["lines"], seen["stranger"]) == ("", 2, None)


def test_policies_hold_when_others_come_first_after_the_hosts_restart(engine: Engine, tmp_path: Path) -> None:
    """A keeper that meets the last boot's files invents no end, and who is at one keeps nothing from being started."""
    seen = reboot(tmp_path, "late")
    assert seen["problems"] == []
    assert (seen["reason"], seen["oom"], seen["lasted_ns"]) == ("the host was restarted", None, 0)
    assert seen["always"] == "running"
