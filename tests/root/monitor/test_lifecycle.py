"""A container under a monitor: created, started, ended, recorded, and told of."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from conformance.spec import Spec
from corral.engine.keeper import Monitor
from corral.errors import AlreadyExists, FailedPrecondition
from root.monitor.bench import Bench, output_of, wait_until


def share_pids(spec: Spec) -> None:
    """The host's pid namespace."""
    spec["linux"]["namespaces"] = [item for item in spec["linux"]["namespaces"] if item["type"] != "pid"]


pytestmark = pytest.mark.requires("root", "busybox")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_record_has_the_exit_code_when_init_exits(bench: Bench, code: int) -> None:
    """The wait status is what the kernel told the parent."""
    made = bench.run(["/bin/sh", "-c", f"exit {code}"])
    record = bench.wait_exit(made)
    assert (record["status"], record["source"], record["run"]) == (code << 8, "observed", 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_record_has_the_signal_when_init_is_killed(bench: Bench, number: signal.Signals) -> None:
    """The record says which. (The first process of a pid namespace would not die of what it does not handle.)"""
    made = bench.run(["/bin/sleep", "1000"], share_pids)
    os.kill(bench.init_pid(made), number)
    assert bench.wait_exit(made)["status"] & 0x7F == number


def test_log_has_both_streams_when_both_are_written(bench: Bench) -> None:
    """Each line is a record with its stream; a line without its end is marked as partial."""
    made = bench.run(["/bin/sh", "-c", "echo one; echo two >&2; printf three"])
    bench.wait_exit(made)
    rows = bench.log(made)
    assert sorted(rows) == [("stderr", "F", "two"), ("stdout", "F", "one"), ("stdout", "P", "three")]


def test_log_is_complete_when_the_record_is_there(bench: Bench) -> None:
    """Output is drained before the record is written."""
    made = bench.run(["/bin/sh", "-c", "seq 1 20000"])
    bench.wait_exit(made)
    assert output_of(bench.log(made)) == "".join(f"{n}\n" for n in range(1, 20001))


def test_command_runs_when_nobody_attends(bench: Bench) -> None:
    """The keeper tells the engine of the end, once."""
    made = bench.run(["/bin/true"])
    wait_until(bench.called, "the engine's command")
    bench.wait_monitor_gone(made)
    assert bench.called() == [f"_exited {made}"]


def test_command_does_not_run_when_the_end_is_attended(bench: Bench) -> None:
    """Who says DONE has taken care."""
    made = bench.create(["/bin/true"])
    with bench.monitor(made) as attendant:
        attendant.send_attend()
        bench.start(made)
        record = attendant.receive_exit(60)
        assert record is not None
        assert record["status"] == 0
        attendant.done()
    bench.wait_monitor_gone(made)
    bench.wait_nothing_kept()
    assert bench.called() == []


def test_command_runs_when_the_attendant_is_gone(bench: Bench) -> None:
    """A connection that ends without DONE attended nothing."""
    made = bench.create(["/bin/true"])
    with bench.monitor(made) as attendant:
        attendant.send_attend()
        bench.start(made)
        assert attendant.receive_exit(60) is not None
    wait_until(bench.called, "the engine's command")
    assert bench.called() == [f"_exited {made}"]


def test_record_is_on_disk_when_a_watcher_hears_of_it(bench: Bench) -> None:
    """S4.11: written before anybody is told, and told in the same words."""
    made = bench.create(["/bin/false"])
    with bench.monitor(made) as watcher:
        watcher.send_watch()
        bench.start(made)
        told = watcher.receive_exit(60)
        assert told == bench.wait_exit(made)


def test_start_is_refused_when_it_runs_already(bench: Bench) -> None:
    """In the runtime's words."""
    made = bench.run(["/bin/sleep", "1000"])
    with bench.monitor(made) as monitor, pytest.raises(FailedPrecondition, match="already running"):
        monitor.start()


def test_start_says_why_when_the_program_is_not_executable(bench: Bench) -> None:
    """A failure of the exec itself comes back to who asked for the start."""
    made = bench.create(["/bin/true"])
    program = Path(bench.places.bundle(made)) / "rootfs/bin/busybox"
    program.unlink()  # it is linked to that of other tests
    program.write_bytes(b"no program")
    program.chmod(0o755)
    with bench.monitor(made) as monitor, pytest.raises(FailedPrecondition, match="exec format error"):
        monitor.start()


def test_nothing_is_left_when_the_create_is_refused(bench: Bench) -> None:
    """The runtime's record is undone, the monitor ends, and the name is free."""
    session = bench.begin("bad", ["/bin/no-such-program"])
    assert "no such file" in str(session.refusal)
    bench.wait_monitor_gone("bad")
    assert not Path(bench.places.record("bad")).exists()
    assert bench.begin("bad", ["/bin/true"]).refusal is None


def test_second_monitor_is_refused_when_one_lives(bench: Bench) -> None:
    """One monitor for one run directory."""
    made = bench.create(["/bin/true"])
    with bench.keeper() as keeper, pytest.raises(AlreadyExists):
        keeper.spawn(bench.spec(made))


def test_unfinished_record_is_undone_when_its_name_is_wanted(bench: Bench) -> None:
    """A create whose monitor died in the middle does not keep the name (S4.14)."""
    bench.write_bundle("cut", ["/bin/true"], None, is_terminal=False)
    words = ["create", "--bundle", bench.places.bundle("cut"), "cut"]
    cut = bench.converse(bench.spec("cut", failpoint="front:COMMIT:kill"), words)
    assert cut.refusal is not None
    bench.wait_monitor_gone("cut")
    assert bench.begin("cut", ["/bin/true"]).refusal is None


def test_monitor_ends_when_its_directory_was_removed(bench: Bench) -> None:
    """Nobody will look for the record, and nobody shall wait for it."""
    made = bench.run(["/bin/sleep", "1000"])
    shutil.rmtree(bench.places.container(made))
    os.kill(bench.init_pid(made), signal.SIGKILL)
    bench.wait_monitor_gone(made)


def test_monitor_ends_with_its_files_when_all_is_told(bench: Bench) -> None:
    """Nothing of it stays in the run directory."""
    made = bench.run(["/bin/true"])
    bench.wait_exit(made)
    bench.wait_monitor_gone(made)
    run_folder = Path(bench.places.container_run(made))
    wait_until(lambda: sorted(os.listdir(run_folder)) == ["bundle"], "an empty run directory")
    with pytest.raises(OSError):
        Monitor.connect(str(run_folder))
