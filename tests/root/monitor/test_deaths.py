"""Monitors and keepers that are killed: the workload goes on, and its end is told truly."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from conformance.spec import Spec
from corral.engine.keeper import has_monitor
from corral.errors import CorralError
from root.monitor.bench import Bench, is_gone, output_of, wait_until

pytestmark = pytest.mark.requires("root", "busybox")

WAIT = ["/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; echo end; exit 5"]


def kill(pid: int) -> None:
    """SIGKILL, and wait for the death."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), f"the death of {pid}")


def let_end(bench: Bench, container_id: str) -> None:
    """The container of WAIT goes on to its end."""
    (Path(bench.places.bundle(container_id)) / "rootfs/go").touch()


def test_exit_code_is_true_when_the_monitor_was_killed(bench: Bench) -> None:
    """Another monitor looks after the container; the keeper, its parent now, sees the end."""
    made = bench.run(WAIT)
    first = bench.monitor_pid(made)
    kill(first)
    assert bench.monitor_pid(made) != first
    let_end(bench, made)
    record = bench.wait_exit(made)
    assert (record["status"], record["source"]) == (5 << 8, "observed")
    wait_until(bench.called, "the engine's command")
    assert bench.called() == [f"_exited {made}"]
    assert output_of(bench.log(made)) == "end\n"


def test_exit_code_is_true_when_init_ends_while_no_monitor_lives(bench: Bench) -> None:
    """Monitor and init are killed together."""
    made = bench.run(["/bin/sleep", "1000"])
    monitor, init = bench.monitor_pid(made), bench.init_pid(made)
    os.kill(monitor, signal.SIGKILL)
    os.kill(init, signal.SIGKILL)
    record = bench.wait_exit(made)
    assert (record["status"], record["source"], record["pid"]) == (signal.SIGKILL, "observed", init)


def test_container_starts_when_the_monitor_was_killed_before(bench: Bench) -> None:
    """A created container waits for its start, whoever's it is."""
    made = bench.create(WAIT)
    first = bench.monitor_pid(made)
    kill(first)
    bench.monitor_pid(made)
    bench.start(made)
    let_end(bench, made)
    assert bench.wait_exit(made)["status"] == 5 << 8


@pytest.mark.parametrize("step", ["SPAWN:after", "CG_ATTACH", "COMMIT", "DONE"])
def test_nothing_lives_when_the_monitor_dies_in_a_create(bench: Bench, step: str) -> None:
    """Before the commit the container is not: its stub ends, and the engine hears that the monitor is gone."""
    bench.write_bundle("cut", WAIT, None, is_terminal=False)
    words = ["create", "--bundle", bench.places.bundle("cut"), "cut"]
    session = bench.converse(bench.spec("cut", failpoint=f"front:{step}:kill"), words)
    assert "its monitor ended" in str(session.refusal)
    bench.wait_monitor_gone("cut")
    live = Path(bench.places.record("cut"), "live")
    assert not live.exists() or is_gone(bench.init_pid("cut"))
    assert not has_monitor(bench.places.container_run("cut"))
    bench.wait_nothing_kept()


def test_create_is_whole_or_not_at_all_when_the_monitor_dies_at_any_step(bench: Bench) -> None:
    """S4.3: killed before each step of the front. What was not committed is undone, with its name and groups."""
    bench.write_bundle("cut", ["/bin/true"], None, is_terminal=False)
    words = ["create", "--bundle", bench.places.bundle("cut"), "cut"]
    for step in range(1, 400):
        session = bench.converse(bench.spec("cut", failpoint=f"front:{step}:kill"), words)
        if session.refusal is None:
            break
        bench.wait_monitor_gone("cut")
        assert not Path(bench.places.record("cut")).exists(), f"step {step}"
        assert bench.groups() == [], f"step {step}"
    # After the last of the front's steps there is a container, and nothing else in the way.
    assert step > 10
    bench.start("cut")
    assert bench.wait_exit("cut")["status"] == 0


def test_container_is_looked_after_when_the_monitor_dies_after_the_commit(bench: Bench) -> None:
    """Then it is created, and a successor answers for it."""
    bench.write_bundle("done", WAIT, None, is_terminal=False)
    words = ["create", "--bundle", bench.places.bundle("done"), "done"]
    bench.converse(bench.spec("done", failpoint="front:DONE:after:kill"), words)
    bench.monitor_pid("done")
    bench.start("done")
    let_end(bench, "done")
    assert bench.wait_exit("done")["status"] == 5 << 8


def test_monitor_goes_on_when_the_keeper_is_killed(bench: Bench) -> None:
    """It starts another one, which holds what the first held."""
    made = bench.run(WAIT)
    monitor, keeper_pid = bench.monitor_pid(made), bench.keeper_pid()
    kill(keeper_pid)
    wait_until(lambda: bench.keeper_pid() != keeper_pid, "another keeper")
    wait_until(lambda: _kept(bench) == [(made, monitor)], "the monitor at the new keeper")
    let_end(bench, made)
    record = bench.wait_exit(made)
    assert (record["status"], record["source"]) == (5 << 8, "observed")
    wait_until(bench.called, "the engine's command")


def _kept(bench: Bench) -> list[tuple[str, int]]:
    with bench.keeper() as keeper:
        return [(str(item["id"]), int(item["monitor"])) for item in keeper.list() if item["init"]]


def test_all_monitors_find_the_new_keeper_when_theirs_is_killed(bench: Bench) -> None:
    """One new keeper for all, whoever started it."""
    made = [bench.run(["/bin/sleep", "1000"]) for _ in range(5)]
    old = bench.keeper_pid()
    kill(old)
    wait_until(lambda: sorted(name for name, _ in _kept(bench)) == made, "five monitors at the new keeper")


def test_log_is_complete_when_keeper_and_then_monitor_are_killed(bench: Bench) -> None:
    """The second keeper has the pipes from the monitor, and the third holder of them loses nothing."""
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; [ -e /go ] || sleep 0.001; done; exit 3"
    made = bench.run(["/bin/sh", "-c", script])
    keeper_pid, monitor = bench.keeper_pid(), bench.monitor_pid(made)
    kill(keeper_pid)
    wait_until(lambda: _kept(bench) == [(made, monitor)], "the monitor at the new keeper")
    kill(monitor)
    assert bench.monitor_pid(made) != monitor
    let_end(bench, made)
    record = bench.wait_exit(made)
    assert output_of(bench.log(made)) == "".join(f"line {n}\n" for n in range(1, 3001))
    # Nobody of ours is the parent, so the status is what the kernel tells, or nothing.
    assert record["source"] in ("recovered", "unknown")
    assert record["status"] == (3 << 8 if record["source"] == "recovered" else None)


def kill_both(bench: Bench, container_id: str) -> None:
    """Neither has the time to replace the other."""
    monitor, keeper_pid = bench.monitor_pid(container_id), bench.keeper_pid()
    for pid in (keeper_pid, monitor):
        os.kill(pid, signal.SIGSTOP)
    for pid in (keeper_pid, monitor):
        kill(pid)


def test_running_container_is_found_when_both_were_killed(bench: Bench) -> None:
    """The next keeper finds it by its files; the kernel tells its end if it can (6.15), else it is unknown."""
    made = bench.run(["/bin/sleep", "1000"])
    init = bench.init_pid(made)
    kill_both(bench, made)
    assert not is_gone(init)
    with bench.keeper():
        bench.monitor_pid(made)
    os.kill(init, signal.SIGKILL)
    record = bench.wait_exit(made)
    assert record["pid"] == init
    assert record["source"] in ("recovered", "unknown")
    assert record["status"] == (signal.SIGKILL if record["source"] == "recovered" else None)


def test_status_is_unknown_when_nobody_was_there(bench: Bench) -> None:
    """S4.3: no code is invented for an end that nobody saw."""
    made = bench.run(["/bin/sleep", "1000"])
    init = bench.init_pid(made)
    kill_both(bench, made)
    kill(init)
    with bench.keeper():
        record = bench.wait_exit(made)
    assert (record["status"], record["source"], record["pid"]) == (None, "unknown", init)


def test_keeper_writes_the_record_when_monitors_keep_dying(bench: Bench) -> None:
    """A crash loop ends; the container's end is told all the same."""
    made = bench.run(["/bin/sleep", "1000"])
    for _ in range(4):
        pid = bench.monitor_pid(made)
        kill(pid)
    with bench.keeper() as keeper:
        wait_until(lambda: [item["state"] for item in keeper.list()] == ["crashing"], "the end of the crash loop")
    os.kill(bench.init_pid(made), signal.SIGKILL)
    record = bench.wait_exit(made)
    assert (record["status"], record["source"]) == (signal.SIGKILL, "observed")
    wait_until(bench.called, "the engine's command")


def test_record_is_written_once_when_the_monitor_dies_while_it_is_attended(bench: Bench) -> None:
    """What is on disk stays as it was told."""
    made = bench.create(["/bin/false"])
    with bench.monitor(made) as attendant:
        attendant.send_attend()
        bench.start(made)
        told = attendant.receive_exit(60)
        kill(bench.monitor_pid(made))
    wait_until(bench.called, "the engine's command")
    assert bench.wait_exit(made) == told


def test_due_command_runs_when_its_time_comes(bench: Bench) -> None:
    """One time for a container: the later wish counts."""
    made = bench.run(["/bin/sleep", "1000"])
    with bench.keeper() as keeper:
        keeper.run_at(made, 3_600_000)
        keeper.run_at(made, 10)
        wait_until(bench.called, "the engine's command")
    assert bench.called() == [f"_due {made}"]


def test_due_command_runs_when_the_keeper_was_killed(bench: Bench) -> None:
    """What is due is on disk."""
    made = bench.run(["/bin/sleep", "1000"])
    with bench.keeper() as keeper:
        keeper.run_at(made, 1500)
    kill(bench.keeper_pid())
    wait_until(bench.called, "the engine's command")
    assert bench.called() == [f"_due {made}"]


def test_command_is_tried_again_when_it_fails(bench: Bench) -> None:
    """An engine that dies in the middle does not keep an end from being told."""
    bench.hook().write_text(f"#!/bin/sh\necho x >> {bench.folder}/called\n[ $(wc -l < {bench.folder}/called) -gt 1 ]\n")
    bench.run(["/bin/true"])
    wait_until(lambda: len(bench.called()) == 2, "the second try")


def test_keeper_survives_when_it_is_sent_garbage(bench: Bench) -> None:
    """Packets of any bytes, too short, of unknown kinds; on either socket."""
    made = bench.run(["/bin/sleep", "1000"])
    paths = [f"{bench.places.run}/keeper.sock", f"{bench.places.container_run(made)}/monitor.sock"]
    for path in paths:
        for packet in (b"x", b"\0" * 16, b"\x42\0\0\0" + b"\xff" * 4000, b"\x51\0\0\0" + b"\xff" * 12, os.urandom(300)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(path)
                client.send(packet)
    crowd = []
    for _ in range(100):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(paths[1])
        crowd.append(client)
    for client in crowd:
        client.close()
    os.kill(bench.init_pid(made), signal.SIGKILL)
    assert bench.wait_exit(made)["status"] == signal.SIGKILL


def test_spec_is_refused_when_it_is_wrong(bench: Bench) -> None:
    """With the name of what is wrong."""
    with bench.keeper() as keeper, pytest.raises(CorralError, match="log_files"):
        keeper.spawn({**bench.spec("x"), "log_files": "0"})


def _no_pids(spec: Spec) -> None:
    spec["linux"]["namespaces"] = [item for item in spec["linux"]["namespaces"] if item["type"] != "pid"]


def test_orphans_of_the_container_are_reaped(bench: Bench) -> None:
    """In the host's pid namespace they come to the keeper, which leaves no zombie."""
    made = bench.run(["/bin/sh", "-c", "(sleep 0.05 & echo $!); sleep 0.2; cat /go"], _no_pids)
    bench.wait_exit(made)
    orphan = int(output_of(bench.log(made)))
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan's end")
