"""delete on records made by hand: without planner, without Python."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from root.native.groups import GroupBench
from root.native.records import Records, freeze, hook, put_into_group

pytestmark = pytest.mark.requires("root", "cc")

WARN_ONLY = 1


def test_delete_removes_everything_of_a_stopped_container(records: Records) -> None:
    """The record is gone, nothing else of it is left, and a second delete finds nothing."""
    records.make()
    (records.path / "notify").mkdir()
    (records.path / "notify" / "notify.sock").touch()
    assert records.run("delete", "c1").status == 0
    assert list(records.root.iterdir()) == []
    assert "container does not exist" in records.run("delete", "c1").err
    answer = records.run("delete", "--force", "c1")
    assert (answer.status, answer.err) == (0, "")


def test_delete_refuses_a_running_container_unless_forced(records: Records, process: subprocess.Popen[bytes]) -> None:
    """The words are runc's; --force kills first."""
    records.make()
    records.live(process.pid)
    answer = records.run("delete", "c1")
    assert answer.err.splitlines()[0] == "cannot delete container c1 that is not stopped: running"
    assert (answer.status, process.poll()) == (1, None)
    assert records.run("delete", "-f", "c1").status == 0
    assert (process.wait(timeout=20), records.path.exists()) == (-9, False)


def test_delete_kills_a_created_container(records: Records, process: subprocess.Popen[bytes]) -> None:
    """Created is not running yet: no force is needed, as with runc."""
    records.make()
    records.live(process.pid)
    records.lock("init.lock")
    assert records.run("delete", "c1").status == 0
    assert process.wait(timeout=20) == -9


def test_delete_spares_a_process_that_is_not_the_containers(records: Records, process: subprocess.Popen[bytes]) -> None:
    """The pid was given to another since: it has another start time."""
    records.make()
    records.live(process.pid, start_time=1)
    assert records.run("delete", "--force", "c1").status == 0
    assert process.poll() is None


def test_delete_undoes_a_container_whose_maker_died(records: Records, process: subprocess.Popen[bytes]) -> None:
    """A record without commit and with a free lock is stale: no force is needed."""
    records.make()
    records.forget_commit()
    records.live(process.pid)
    assert records.run("delete", "c1").status == 0
    assert (process.wait(timeout=20), records.path.exists()) == (-9, False)


def test_delete_refuses_a_container_that_is_being_made(records: Records) -> None:
    """Its maker is at work on it."""
    records.make()
    records.forget_commit()
    records.lock("owner.lock")
    answer = records.run("delete", "c1")
    assert answer.err.splitlines()[0] == "cannot delete container c1 that is not stopped: creating"


def test_delete_waits_a_moment_when_the_makers_planner_still_holds_the_lock(records: Records) -> None:
    """The maker was killed; its planner notices a little later."""
    records.make()
    records.forget_commit()
    records.lock("owner.lock")
    threading.Timer(0.2, records.close).start()
    assert records.run("delete", "c1").status == 0
    assert not records.path.exists()


def test_poststop_hooks_run_once_and_warn_when_they_fail(records: Records) -> None:
    """S2.6: a failing hook is a warning; a second delete after a failure runs none again."""
    out = records.folder / "out"
    hooks = [hook("poststop", f"cat >> {out}", WARN_ONLY), hook("poststop", "exit 3", WARN_ONLY)]
    records.make(delete=hooks)
    answer = records.run("delete", "c1", CORRAL_FAILPOINT="front:REMOVE_RECORD:errno=5")
    assert (answer.status, "exit status 3" in answer.err) == (1, True)
    assert records.run("delete", "c1").status == 0
    assert out.read_text() == '{"pid": 0}'


def test_hooks_do_not_run_when_there_never_was_a_process(records: Records) -> None:
    """An undo before the birth has nothing to tell them."""
    records.make(delete=[hook("poststop", f"touch {records.folder}/out", WARN_ONLY)])
    records.forget_commit()
    assert records.run("delete", "c1").status == 0
    assert not (records.folder / "out").exists()


def test_delete_goes_on_past_a_failure_and_keeps_what_is_pending(
    records: Records, group: GroupBench, process: subprocess.Popen[bytes]
) -> None:
    """S2.6: the hook runs, the record stays with a list, the exit is 1; a second delete does the rest."""
    out = records.folder / "out"
    steps = [("CG_THAW", 0), ("CG_KILL", 0, 9), ("CG_REMOVE", 0, 500), hook("poststop", f"echo x >> {out}", WARN_ONLY)]
    put_into_group(records, group, process.pid, delete=steps)
    process.kill()
    process.wait()
    answer = records.run("delete", "c1", CORRAL_FAILPOINT="front:CG_REMOVE:errno=16")
    assert answer.status == 1
    assert "delete container 'c1': remove cgroup 0: device or resource busy" in answer.err
    assert (records.path / "pending").read_text() == "remove cgroup 0: device or resource busy\n"
    assert (out.read_text(), group.directory.is_dir()) == ("x\n", True)
    assert json.loads(records.run("state", "c1").out)["status"] == "stopped"
    assert records.run("delete", "c1").status == 0
    assert (out.read_text(), group.directory.exists(), records.path.exists()) == ("x\n", False, False)


def test_forced_delete_ends_a_paused_container(records: Records, group: GroupBench) -> None:
    """S2.8: frozen processes are thawed so that they can die."""
    first, second = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
    put_into_group(records, group, first.pid, delete=[("CG_THAW", 0), ("CG_KILL", 0, 9), ("CG_REMOVE", 0, 2000)])
    (group.directory / "cgroup.procs").write_text(str(second.pid))
    freeze(group)
    assert "cannot delete container c1 that is not stopped" in records.run("delete", "c1").err
    assert records.run("delete", "--force", "c1").status == 0
    assert (first.wait(timeout=20), second.wait(timeout=20)) == (-9, -9)
    assert not group.directory.exists()


def test_two_deletes_at_once_are_one_delete(records: Records) -> None:
    """The second waits for the first, and then finds nothing; the hook runs once."""
    out = records.folder / "out"
    records.make(delete=[hook("poststop", f"echo x >> {out}; sleep 0.2", WARN_ONLY)])
    both = [records.start("delete", "--force", "c1") for _ in range(2)]
    for process in both:
        process.communicate(timeout=30)
    assert ([process.returncode for process in both], out.read_text()) == ([0, 0], "x\n")


def test_record_is_deleted_when_the_state_roots_name_changed(records: Records) -> None:
    """The record is found by descriptor; its name is what the kernel says."""
    records.make()
    moved = records.root.with_name("moved")
    records.root.rename(moved)
    records.root = moved
    assert records.run("delete", "c1").status == 0
    assert list(moved.iterdir()) == []
