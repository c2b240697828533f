"""S4 statements about truth: what is reported is what the kernel has, whoever died on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from corral.engine import exits, journal, names, status
from corral.engine.keeper import Keeper, Monitor, monitor_pid_or_none
from corral.engine.reconcile import reconcile
from corral.errors import FailedPrecondition, Timeout
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")

SOON_S = 5.0


def monitor_of(engine: Engine, container: str) -> int:
    pid = monitor_pid_or_none(engine.places.container_run(container))
    assert pid is not None
    return pid


def keeper_pid(engine: Engine) -> int:
    return int(Path(engine.places.run, "keeper.lock").read_text())


def test_s4_1_exited_is_reported_when_nobody_saw_the_end(engine: Engine) -> None:
    """Monitor, keeper and init all killed at once: it is exited, with a stated source, and no code is invented."""
    container = engine.run("sleep", "1000")
    init = engine.pid(container)
    for pid in (keeper_pid(engine), monitor_of(engine, container), init):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: engine.look(container).status == "exited", SOON_S)
    ended = engine.wait(container)
    assert (ended["source"], ended["code"]) in (("unknown", None), ("recovered", 137))


def test_s4_1_exited_is_reported_when_no_event_was_written(engine: Engine) -> None:
    """The journal is lost: state comes from the kernel and the records all the same."""
    container = engine.run("sh", "-c", "exit 6")
    eventually(lambda: exits.read_record_or_none(engine.places.container(container), 1) is not None)
    os.unlink(f"{engine.places.events}/journal")
    assert engine.wait(container)["code"] == 6


def test_s4_1_running_is_reported_when_it_was_let_go_and_not_before(engine: Engine) -> None:
    """While it is being made it is created at most: who sees it run can use it."""
    seen: list[str] = []
    container = engine.create("sleep", "1000")
    starting = threading.Thread(target=engine.call, args=("start", container))
    starting.start()
    while starting.is_alive():
        seen.append(engine.look(container).status)
    starting.join()
    begun = seen.index("running") if "running" in seen else len(seen)
    assert set(seen[begun:]) <= {"running"}


def test_s4_2_one_exit_event_when_init_dies_under_execs(engine: Engine) -> None:
    """Init killed under running execs: one died event, last of all, and nothing left in the cgroup."""
    container = engine.run("sleep", "1000")
    for _ in range(20):
        engine.call("exec", container, {"command": ["sleep", "1000"]}, is_detached=True)
    groups = engine.groups(container)
    os.kill(engine.pid(container), signal.SIGKILL)
    assert engine.wait(container)["code"] == 137
    told = engine.events(container)
    assert (told.count("died"), told.count("exec_died"), told[-1]) == (1, 20, "died")
    assert [path for path in groups if path.exists()] == []


def test_s4_3_the_code_is_true_when_the_monitor_was_killed(engine: Engine) -> None:
    """A monitor killed while the container runs: it runs on under another, and its code is the real one."""
    container = engine.run("sh", "-c", "trap 'exit 11' USR1; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    init, first = engine.pid(container), monitor_of(engine, container)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: monitor_pid_or_none(engine.places.container_run(container)) not in (None, first))
    assert engine.pid(container) == init
    engine.call("kill", container, signal="USR1")
    ended = engine.wait(container)
    assert (ended["code"], ended["source"]) == (11, "observed")


def test_s4_3_a_new_keeper_adopts_when_both_were_killed(engine: Engine) -> None:
    """Keeper and monitor killed: reconciliation gives init a monitor again; the exit is recovered or unknown."""
    container = engine.run("sleep", "1000")
    init, monitor = engine.pid(container), monitor_of(engine, container)
    os.kill(keeper_pid(engine), signal.SIGKILL)
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{monitor}").exists())
    reconcile(engine.places)
    eventually(lambda: monitor_pid_or_none(engine.places.container_run(container)) is not None)
    assert engine.look(container).status == "running"
    os.kill(init, signal.SIGKILL)
    ended = engine.wait(container)
    assert (ended["source"], ended["code"]) in (("unknown", None), ("recovered", 137))


def test_s4_5_others_are_not_delayed_when_a_monitor_is_stopped(engine: Engine) -> None:
    """A wedged monitor delays nobody: ps, and stopping its own container, go on without it."""
    stuck, other = engine.run("sleep", "1000"), engine.run("sleep", "1000")
    monitor = monitor_of(engine, stuck)
    os.kill(monitor, signal.SIGSTOP)
    began = time.monotonic()
    assert {row["status"] for row in engine.call("ps")} == {"running"}
    engine.call("stop", other, timeout_s=0)
    assert time.monotonic() - began < SOON_S
    shown = engine.call("inspect", stuck)["monitor"]
    assert (shown["pid"], shown["state"], shown["is_responsive"]) == (monitor, "T", False)
    assert shown["stack"]
    ended = engine.call("stop", stuck, timeout_s=0)["exit"]
    assert ended["code"] == 137
    assert engine.look(stuck).status == "exited"


def test_s4_5_the_code_is_told_when_the_monitor_is_stopped(engine: Engine) -> None:
    """The kernel keeps the status of a process that nobody reaps: it is recovered, and nobody waits for the monitor."""
    container = engine.run("sh", "-c", "trap 'exit 12' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    monitor = monitor_of(engine, container)
    os.kill(monitor, signal.SIGSTOP)
    os.kill(engine.pid(container), signal.SIGTERM)
    ended = engine.wait(container)
    os.kill(monitor, signal.SIGCONT)
    assert (ended["code"], ended["source"]) == (12, "recovered")


def freezer_of(engine: Engine, container: str) -> Path | None:
    """The state file of the freezer of the group above the container's, on v1."""
    for group in engine.groups(container):
        path = group.parent / "freezer.state"
        if path.exists():
            return path
    return None


def test_s4_6_stop_says_where_it_waits_when_it_cannot_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that not even SIGKILL ends: pid, comm, state, wchan and what was tried; a retry is safe."""
    monkeypatch.setattr("corral.engine.stopping.BOUND_S", 1.0)
    container = engine.run("sleep", "1000")
    freezer = freezer_of(engine, container)
    if freezer is None:
        pytest.skip("cgroup v2 ends frozen processes")
    freezer.write_text("FROZEN")
    try:
        began = time.monotonic()
        with pytest.raises(Timeout) as caught:
            engine.call("stop", container, timeout_s=0.1)
        assert time.monotonic() - began < 30
    finally:
        freezer.write_text("THAWED")
    told = str(caught.value)
    assert f"pid {engine.pid(container) or ''}".strip() in told
    assert "(sleep) state D" in told
    assert "tried SIGTERM, and 0.1 s to react, then SIGKILL" in told
    assert engine.call("stop", container)["exit"]["code"] == 137


def test_s4_10_a_subscriber_resumes_when_it_was_away(engine: Engine) -> None:
    """Who has seen event N gets what comes after N, each once, in order."""
    container = engine.run("true")
    engine.wait(container)
    seen = engine.call("events")[-1]["n"]
    engine.call("rm", container)
    assert [(e["n"], e["action"]) for e in engine.call("events", after=seen)] == [(seen + 1, "remove")]


def test_s4_11_the_exit_is_on_disk_when_its_event_comes(engine: Engine) -> None:
    """At the moment of the died event the record can be read."""
    found: list[bool] = []
    after = journal.last_number(engine.places)

    def listen() -> None:
        follow = __import__("corral.engine.verbs.events", fromlist=["follow"]).follow
        for event in follow(engine.places, after=after):
            if event["action"] == "died":
                directory = engine.places.container(event["id"])
                found.append(exits.read_record_or_none(directory, 1) is not None)
                return

    listener = threading.Thread(target=listen)
    listener.start()
    container = engine.run("true")
    engine.wait(container)
    listener.join(60)
    assert found == [True]


def test_s4_12_cleaning_up_is_tried_again_when_it_cannot_end(engine: Engine) -> None:
    """Somebody's process in the container's cgroup keeps it: that is on record, tried again, and then gone."""
    container = engine.run("sleep", "1000")
    # The unified hierarchy is where processes are killed; in another one a stranger survives that.
    keeps = next((path for path in engine.groups(container) if (path / "pids.max").exists()), None)
    if keeps is None or (keeps / "cgroup.kill").exists():
        pytest.skip("pure cgroup v2: whoever is in the group is killed with it")
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], dict(os.environ))
    (keeps / "cgroup.procs").write_text(str(child))
    try:
        engine.call("stop", container, timeout_s=0)
        pending = engine.look(container).state["pending"]
        assert [row["what"] for row in pending] == ["cgroup"]
        assert f"{child} sleep" in pending[0]["why"]
        assert "cleanup-pending" in engine.events(container)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    eventually(lambda: "pending" not in engine.look(container).state)
    assert not keeps.exists()


def test_s4_13_exec_is_refused_when_init_has_ended(engine: Engine) -> None:
    """No process can be added to a container that is over."""
    container = engine.run("true", name="over")
    engine.wait(container)
    with pytest.raises(FailedPrecondition, match="exec in container 'over': it is exited"):
        engine.call("exec", "over", {"command": ["true"]})


def test_s4_13_exec_ends_with_all_it_left_when_its_time_is_over(engine: Engine) -> None:
    """At the timeout the exec and its leaked children die; the container goes on."""
    container = engine.run("sleep", "1000")
    script = "setsid sleep 7777 & setsid sleep 7777 & exec sleep 7777"
    with pytest.raises(Timeout, match="did not end within"):
        engine.call("exec", container, {"command": ["sh", "-c", script]}, timeout_s=1.0)
    commands = [row["command"] for row in engine.call("top", container)]
    assert commands == ["sleep 1000"]
    assert engine.look(container).status == "running"


def test_s4_13_exec_returns_its_code_when_it_ends(engine: Engine) -> None:
    """An exec's code is its own; the container's is not touched."""
    container = engine.run("sleep", "1000")
    ended = engine.call("exec", container, {"command": ["sh", "-c", "exit 21"]})
    assert ended["exit"]["code"] == 21
    assert engine.events(container)[-2:] == ["exec", "exec_died"]


def test_s4_14_the_name_is_free_when_a_start_was_refused(engine: Engine) -> None:
    """The same request can be made again at once, though the first one did not come to anything."""
    for _ in range(3):
        with pytest.raises(FailedPrecondition):
            engine.run("/no/such/program", name="again", auto_remove=True)
    assert names.list_ids(engine.places) == []
    assert engine.wait(engine.run("true", name="again"))["code"] == 0


def test_s4_15_others_go_on_when_a_stop_takes_long(engine: Engine) -> None:
    """While one client waits for a stop, others inspect and kill the same container at once."""
    container = engine.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    slow = threading.Thread(target=lambda: engine.call("stop", container, timeout_s=30))
    slow.start()
    eventually(lambda: engine.look(container).status == "stopping")
    began = time.monotonic()
    assert engine.call("inspect", container)["state"]["status"] == "stopping"
    engine.call("kill", container)
    slow.join(20)
    assert not slow.is_alive()
    assert time.monotonic() - began < 20
    assert engine.look(container).exit()["code"] == 137


def test_the_keeper_lists_what_runs_when_it_is_asked(engine: Engine) -> None:
    """What the keeper says of a container is what the kernel has."""
    container = engine.run("sleep", "1000")
    with Keeper.open(engine.places) as keeper:
        rows = [row for row in keeper.list() if row["id"] == container]
    assert [row["init"] for row in rows] == [engine.pid(container)]
    with Monitor.connect(engine.places.container_run(container)) as monitor:
        assert monitor.pid == rows[0]["monitor"]
    assert status.look(engine.places, container).is_live
