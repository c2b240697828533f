"""Terminals, execs, OOM and the size of monitors."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from conformance.spec import Spec
from corral.cgroup.layout import read_layout
from root.monitor.bench import Bench, is_gone, output_of, wait_until

pytestmark = pytest.mark.requires("root", "busybox")


def read_until(fd: int, text: bytes) -> bytes:
    """What comes until ``text`` is in it."""
    seen = b""
    while text not in seen:
        seen += os.read(fd, 65536)
    return seen


def test_terminal_has_size_and_echo_when_one_is_asked_for(bench: Bench) -> None:
    """The monitor keeps the master: resize, input and output go through it."""
    made = bench.create(["/bin/sh", "-c", "tty; read x; stty size; echo got $x"], terminal="1")
    source, source_end = os.pipe()
    out, out_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdin=source, stdout=out_end)
        os.close(source)
        os.close(out_end)
        bench.start(made)
        seen = read_until(out, b"/dev/pts/")
        client.resize(33, 101)
        os.write(source_end, b"word\n")
        seen += read_until(out, b"got word")
        assert b"33 101" in seen
        client.wait_detached(60)
    os.close(source_end)
    os.close(out)
    assert bench.wait_exit(made)["status"] == 0
    assert "got word" in output_of(bench.log(made))


def test_terminal_works_on_when_the_monitor_was_killed(bench: Bench) -> None:
    """The keeper holds the master, too: nobody sees a hang-up."""
    made = bench.create(["/bin/sh", "-c", "read x; echo got $x; exit 4"], terminal="1")
    bench.start(made)
    first = bench.monitor_pid(made)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: is_gone(first), "its death")
    bench.monitor_pid(made)
    source, source_end = os.pipe()
    with bench.monitor(made) as client:
        client.attach(stdin=source)
        os.close(source)
        os.write(source_end, b"word\n")
        assert bench.wait_exit(made)["status"] == 4 << 8
    os.close(source_end)
    assert "got word" in output_of(bench.log(made))


def test_exec_has_its_own_record_and_log_when_it_ends(bench: Bench) -> None:
    """A further process has a monitor of its own, and the container's goes on."""
    made = bench.run(["/bin/sleep", "1000"])
    session = bench.exec(made, ["/bin/sh", "-c", "echo in; hostname; exit 6"])
    assert session.refusal is None
    folder = bench.exec_folder(made)
    record = bench.wait_record(folder)
    assert (record["status"], record["source"], record["pid"]) == (6 << 8, "observed", session.pid)
    assert (folder / "log").read_text().splitlines()[0].endswith(" stdout F in")
    wait_until(bench.called, "the engine's command")
    assert bench.called() == [f"_exited {made} e1"]
    assert not (Path(bench.places.container(made)) / "exit").exists()


def test_exec_gives_all_output_when_its_client_comes_late(bench: Bench) -> None:
    """With awaits_attach, what it writes before stays in its pipe, even if it has ended by then."""
    made = bench.run(["/bin/sleep", "1000"])
    session = bench.exec(made, ["/bin/echo", "quick"], awaits_attach="1", log="none")
    assert session.refusal is None
    wait_until(lambda: is_gone(session.pid), "its end")
    out, out_end = os.pipe()
    with bench.monitor_of(bench.exec_folder(made)) as client:
        client.attach(stdout=out_end, attends=True)
        os.close(out_end)
        record = client.receive_exit(60)
        assert os.read(out, 100) == b"quick\n"
        assert record is not None
        assert record["status"] == 0
        client.done()
    os.close(out)


def test_exec_in_a_terminal_reads_and_writes(bench: Bench) -> None:
    """As a container's first process does."""
    made = bench.run(["/bin/sleep", "1000"])
    session = bench.exec(made, ["/bin/sh", "-c", "read x; echo got $x"], terminal="1", awaits_attach="1")
    assert session.refusal is None, session.refusal
    source, source_end = os.pipe()
    out, out_end = os.pipe()
    with bench.monitor_of(bench.exec_folder(made)) as client:
        client.attach(stdin=source, stdout=out_end)
        os.close(source)
        os.close(out_end)
        os.write(source_end, b"word\n")
        assert b"got word" in read_until(out, b"got word")
        client.wait_detached(60)
    os.close(source_end)
    os.close(out)


def test_exec_says_why_when_its_program_is_missing(bench: Bench) -> None:
    """And leaves no monitor."""
    made = bench.run(["/bin/sleep", "1000"])
    session = bench.exec(made, ["/bin/no-such-program"])
    assert "/bin/no-such-program" in str(session.refusal)
    wait_until(lambda: not (bench.exec_folder(made) / "monitor.spec").exists(), "the monitor's end")


def test_exec_exit_code_is_true_when_its_monitor_was_killed(bench: Bench) -> None:
    """Execs are adopted as containers are."""
    made = bench.run(["/bin/sleep", "1000"])
    session = bench.exec(made, ["/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 8"])
    with bench.monitor_of(bench.exec_folder(made)) as client:
        first = client.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: is_gone(first), "its death")
    (Path(bench.places.bundle(made)) / "rootfs/go").touch()
    record = bench.wait_record(bench.exec_folder(made))
    assert (record["status"], record["source"], record["pid"]) == (8 << 8, "observed", session.pid)


def _limit_memory(spec: Spec) -> None:
    spec["linux"]["resources"]["memory"] = {"limit": 16 << 20}


def _counter(bench: Bench, container_id: str) -> str:
    hierarchy = read_layout().hierarchy_for("memory")
    assert hierarchy is not None
    name = "memory.oom_control" if hierarchy.version == 1 else "memory.events"
    return f"{hierarchy.mount_point}/{bench.mark}/{container_id}/{name}"


def test_record_counts_the_kill_when_init_dies_of_oom(bench: Bench) -> None:
    """Counters of before the start and of after the end, and a line for what was seen while it ran."""
    made = bench.run(
        ["/bin/sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done"],
        _limit_memory,
        oom=_counter(bench, "c1"),
    )
    record = bench.wait_exit(made)
    assert record["status"] == signal.SIGKILL
    first = record["oom"][0]
    assert first["before"]["oom_kill"] == 0
    assert first["after"]["oom_kill"] >= 1
    lines = Path(bench.places.container(made), "oom").read_text().splitlines()
    assert max(json.loads(line.split(" ", 2)[2]).get("oom_kill", 0) for line in lines) >= 1


def test_oom_is_noted_when_only_a_child_dies(bench: Bench) -> None:
    """S4.8: while the container runs on."""
    script = "sh -c 'x=aaaaaaaa; while :; do x=$x$x; done'; sleep 1000"
    made = bench.run(["/bin/sh", "-c", script], _limit_memory, oom=_counter(bench, "c1"))
    noted = Path(bench.places.container(made), "oom")
    wait_until(lambda: noted.exists() and '"oom_kill":1' in noted.read_text(), "a line about the child")
    assert not is_gone(bench.init_pid(made))


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


def test_monitor_is_small_at_rest(bench: Bench) -> None:
    """At most 0.3 MB, even alone, soon after output too."""
    made = bench.run(["/bin/sh", "-c", "seq 1 5000; sleep 1000"])
    wait_until(lambda: output_of(bench.log(made)).endswith("5000\n"), "its output")
    pid = bench.monitor_pid(made)
    wait_until(lambda: _pss_kb(pid) <= 300, "a small monitor")
