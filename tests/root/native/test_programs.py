"""state, start, kill and delete on records made by hand: without planner, without Python."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from root.native.front import Front
from root.native.groups import FREEZER, PIDS, GroupBench, mount_of
from root.native.records import MSG_FAIL, MSG_SYNC, MSG_WARNING, Records, tell

pytestmark = pytest.mark.requires("root", "cc")

WARN_ONLY = 1


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    """A state root with a front."""
    made = Records(tmp_path)
    yield made
    made.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for a container's first process."""
    started = subprocess.Popen(["sleep", "1000"])
    yield started
    started.kill()
    started.wait()


def hook(kind: str, script: str, flags: int = 0) -> tuple[Any, ...]:
    """A HOOK step that runs a shell."""
    return ("HOOK", kind, "/bin/sh", ["sh", "-c", script], ["PATH=/bin:/usr/bin"], 0, '{"pid": ', "}", flags)


# ---- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["state"], ["start"], ["kill"], ["delete"]])
def test_unknown_container_does_not_exist(records: Records, command: list[str]) -> None:
    """Callers match on `container does not exist`; the exit code is 1."""
    answer = records.run(*command, "c1")
    assert (answer.status, answer.err.splitlines()[0]) == (1, "container 'c1': container does not exist")


@pytest.mark.parametrize("container_id", ["../x", ".hidden", "a/b", "", "a b"])
def test_impossible_id_is_refused(records: Records, container_id: str) -> None:
    """No such name ever leaves the state root."""
    answer = records.run("state", container_id)
    assert (answer.status, "invalid container id format" in answer.err) == (1, True)


def test_state_is_running_with_its_pid_when_the_process_lives(
    records: Records, process: subprocess.Popen[bytes]
) -> None:
    """The document is head, pid, middle, status, tail."""
    records.make()
    records.live(process.pid)
    assert json.loads(records.run("state", "c1").out) == {"pid": process.pid, "status": "running"}


def test_state_is_created_while_init_holds_its_lock(records: Records, process: subprocess.Popen[bytes]) -> None:
    """The lock goes with the exec, so created is told from running by it."""
    records.make()
    records.live(process.pid)
    records.lock("init.lock")
    assert json.loads(records.run("state", "c1").out)["status"] == "created"


@pytest.mark.parametrize("case", ["never born", "dead", "another with its pid"])
def test_state_is_stopped_when_the_process_is_gone(
    records: Records, process: subprocess.Popen[bytes], case: str
) -> None:
    """A pid alone proves nothing: start time and boot decide."""
    records.make()
    if case == "dead":
        records.live(process.pid)
        process.kill()
        process.wait()
    elif case == "another with its pid":
        records.live(process.pid, start_time=1)
    assert json.loads(records.run("state", "c1").out) == {"pid": 0, "status": "stopped"}


def test_state_is_creating_while_the_maker_holds_its_lock(records: Records) -> None:
    """Without a commit, the owner's lock tells a container in the making from one whose maker died."""
    records.make()
    records.forget_commit()
    fd = records.lock("owner.lock")
    assert json.loads(records.run("state", "c1").out)["status"] == "creating"
    assert fd in records.locks
    records.close()
    assert json.loads(records.run("state", "c1").out)["status"] == "stopped"


def freezer_of(tmp_path: Path, mark: str) -> GroupBench:
    """A group that can freeze, of whichever version this host has."""
    mount, version = mount_of("cgroup", "freezer"), 1
    if not mount:
        mount, version = mount_of("cgroup2"), 2
    return GroupBench(tmp_path / "group", mount, version, f"/{mark}", FREEZER | PIDS)


@pytest.fixture
def group(tmp_path: Path, mark: str) -> Iterator[GroupBench]:
    """The group of the container ``c1``, whose record it uses."""
    made = freezer_of(tmp_path, mark)
    yield made
    made.clean()


def put_into_group(records: Records, group: GroupBench, pid: int, **more: Any) -> None:
    """Make the record ``c1`` of a container with a group, and the process its first."""
    records.make(define=group.define(), **more)
    group.record, group.root = records.path, records.root
    group.ok(("CG_MAKE", 0, 0, ""), ("CG_ATTACH", 0, 0), pid=pid)
    records.live(pid)


def freeze(group: GroupBench) -> None:
    """Freeze the group, as pause does."""
    name, value = ("cgroup.freeze", "1") if group.version == 2 else ("freezer.state", "FROZEN")
    (group.directory / name).write_text(value)


def test_state_is_paused_when_the_freezer_says_so(
    records: Records, group: GroupBench, process: subprocess.Popen[bytes]
) -> None:
    """The kernel is asked, no flag is kept."""
    put_into_group(records, group, process.pid)
    freeze(group)
    assert json.loads(records.run("state", "c1").out)["status"] == "paused"
    group.ok(("CG_THAW", 0), ("CG_KILL", 0, 9))
    process.wait(timeout=20)
    group.ok(("CG_REMOVE", 0, 1000))


def test_newer_record_is_refused_in_words(records: Records) -> None:
    """A record of a later version is not guessed at."""
    records.make()
    raw = bytearray((records.path / "state.plan").read_bytes())
    raw[4] = 2
    (records.path / "state.plan").write_bytes(bytes(raw))
    assert (
        "made by a newer corral-runtime (version 2 of its programs, this one knows 1)" in records.run("state", "c1").err
    )


def test_damaged_record_is_refused_in_words(records: Records) -> None:
    """Bytes that are no program, or none at all."""
    records.make()
    (records.path / "state.plan").write_bytes(b"x" * 100)
    assert "container 'c1': read 'state.plan' of its record: " in records.run("state", "c1").err
    (records.path / "state.plan").unlink()
    assert records.run("state", "c1").err.splitlines()[0].endswith("no such file or directory")


# ---- start -----------------------------------------------------------------------------------------------------------


def test_start_succeeds_when_init_announced_its_exec_and_closes(
    records: Records, process: subprocess.Popen[bytes]
) -> None:
    """SYNC, then the end of the connection: the program runs."""
    records.make()
    records.live(process.pid)
    with records.listen() as listener:
        started = records.start("start", "c1")
        connection, _ = listener.accept()
        tell(connection, MSG_WARNING, "mind the gap")
        tell(connection, MSG_SYNC)
        connection.close()
        out, err = started.communicate(timeout=20)
    assert (started.returncode, out, err) == (0, "", "warning: mind the gap\n")


def test_start_says_what_init_says_when_it_fails(records: Records, process: subprocess.Popen[bytes]) -> None:
    """The sentence is the step's own, with its place in the config."""
    records.make()
    records.live(process.pid)
    with records.listen() as listener:
        started = records.start("start", "c1")
        connection, _ = listener.accept()
        tell(connection, MSG_FAIL, "exec the program (config process.args): /x: exec format error", -8)
        connection.close()
        _, err = started.communicate(timeout=20)
    assert started.returncode == 1
    assert "exec the program (config process.args): /x: exec format error" in err


def test_start_fails_when_init_dies_before_its_exec(records: Records, process: subprocess.Popen[bytes]) -> None:
    """The end of the connection alone is no success."""
    records.make()
    records.live(process.pid)
    with records.listen() as listener:
        started = records.start("start", "c1")
        connection, _ = listener.accept()
        process.kill()
        process.wait()
        connection.close()
        _, err = started.communicate(timeout=20)
    assert (started.returncode, "its first process ended before it executed its program" in err) == (1, True)


def test_start_gives_up_when_nothing_happens_within_its_time(
    records: Records, process: subprocess.Popen[bytes]
) -> None:
    """The wait is bounded."""
    records.make()
    records.live(process.pid)
    with records.listen():
        answer = records.run("start", "c1")
    assert (answer.status, "within 2000 ms" in answer.err) == (1, True)


def test_start_is_refused_by_status(records: Records, process: subprocess.Popen[bytes]) -> None:
    """Each refusal says why; callers match on the words."""
    records.make()
    assert "cannot start a container that has stopped" in records.run("start", "c1").err
    records.live(process.pid)
    assert "cannot start an already running container" in records.run("start", "c1").err
    records.lock("init.lock")
    assert "cannot start an already running container" in records.run("start", "c1").err  # accepted already
    records.close()
    records.forget_commit()
    assert "whose creation was interrupted" in records.run("start", "c1").err
    records.lock("owner.lock")
    assert "still being created" in records.run("start", "c1").err


def test_container_is_stopped_when_a_poststart_hook_fails(records: Records, process: subprocess.Popen[bytes]) -> None:
    """An error, and the process killed; a hook that succeeds reads the pid."""
    out = records.folder / "out"
    records.make(start=[hook("poststart", f"cat > {out}"), hook("poststart", "exit 3")])
    records.live(process.pid)
    with records.listen() as listener:
        started = records.start("start", "c1")
        connection, _ = listener.accept()
        tell(connection, MSG_SYNC)
        connection.close()
        _, err = started.communicate(timeout=20)
    assert (started.returncode, "exit status 3" in err) == (1, True)
    assert json.loads(out.read_text()) == {"pid": process.pid}
    assert process.wait(timeout=20) == -9


# ---- kill ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], signal.SIGTERM),
        (["KILL"], signal.SIGKILL),
        (["SIGINT"], signal.SIGINT),
        (["sigusr1"], signal.SIGUSR1),
        (["9"], signal.SIGKILL),
        (["RTMIN+3"], 37),
        (["SIGRTMAX-1"], 63),
    ],
)
def test_kill_sends_the_signal_by_name_or_number(
    records: Records, process: subprocess.Popen[bytes], words: list[str], expected: int
) -> None:
    """TERM if none is given."""
    records.make()
    records.live(process.pid)
    answer = records.run("kill", "c1", *words)
    assert (answer.status, answer.out, process.wait(timeout=20)) == (0, "", -expected)


@pytest.mark.parametrize("word", ["FOO", "SIG", "65", "-1x", "RTMIN+99", "RTMIN-1", "9x"])
def test_kill_refuses_an_unknown_signal(records: Records, process: subprocess.Popen[bytes], word: str) -> None:
    """Nothing is sent, and the word is named."""
    records.make()
    records.live(process.pid)
    answer = records.run("kill", "--", "c1", word)
    assert (answer.status, f'unknown signal "{word}"' in answer.err, process.poll()) == (1, True, None)


def test_kill_zero_probes(records: Records, process: subprocess.Popen[bytes]) -> None:
    """Signal 0 asks whether there is anybody."""
    records.make()
    records.live(process.pid)
    assert records.run("kill", "c1", "0").status == 0
    process.kill()
    process.wait()
    assert "container not running" in records.run("kill", "c1", "0").err


def test_kill_of_a_stopped_container_is_refused_unless_all_are_meant(records: Records) -> None:
    """`container not running`; with --all it succeeds, as with runc."""
    records.make()
    answer = records.run("kill", "c1", "KILL")
    assert (answer.status, answer.err) == (1, "container 'c1': container not running")
    assert records.run("kill", "--all", "c1", "KILL").status == 0
    assert records.run("kill", "-a", "c1", "KILL").status == 0


def test_kill_all_reaches_every_process_of_the_group(records: Records, group: GroupBench) -> None:
    """A second process, of no relation to the first, gets the signal too."""
    first, second = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
    put_into_group(records, group, first.pid)
    (group.directory / "cgroup.procs").write_text(str(second.pid))
    assert records.run("kill", "--all", "c1", "TERM").status == 0
    assert (first.wait(timeout=20), second.wait(timeout=20)) == (-15, -15)
    group.ok(("CG_REMOVE", 0, 1000))


def test_sigkill_ends_all_when_the_container_has_no_pid_namespace(records: Records, group: GroupBench) -> None:
    """Without a pid namespace of its own the end of the first is not the end of all: the group is used."""
    first, second = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
    put_into_group(records, group, first.pid)
    (group.directory / "cgroup.procs").write_text(str(second.pid))
    assert records.run("kill", "c1", "KILL").status == 0
    assert (first.wait(timeout=20), second.wait(timeout=20)) == (-9, -9)
    group.ok(("CG_REMOVE", 0, 1000))


def test_kill_warns_when_it_cannot_reach_all(records: Records, process: subprocess.Popen[bytes]) -> None:
    """S2.10: neither a group nor a pid namespace: only the first process is signalled, and that is said."""
    records.make()
    records.live(process.pid)
    answer = records.run("kill", "c1", "KILL")
    assert (answer.status, process.wait(timeout=20)) == (0, -9)
    assert "neither a cgroup nor a pid namespace of its own" in answer.err


def test_sigkill_thaws_a_paused_container(
    records: Records, group: GroupBench, process: subprocess.Popen[bytes]
) -> None:
    """A frozen process of v1 would keep the signal for later."""
    put_into_group(records, group, process.pid)
    freeze(group)
    assert records.run("kill", "c1", "KILL").status == 0
    assert process.wait(timeout=20) == -9
    group.ok(("CG_REMOVE", 0, 1000))


# ---- delete ----------------------------------------------------------------------------------------------------------


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


# ---- what is Python's ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["delete", "--regex", "c.*"],
        ["kill", "--help"],
        ["state", "c1", "c2"],
        ["start"],
        ["kill", "c1", "TERM", "x"],
    ],
)
def test_command_is_handed_to_python_when_its_words_are_not_all_known(tmp_path: Path, words: list[str]) -> None:
    """Options beyond the usual ones and wrong numbers of words: Python says what is right."""
    front = Front(tmp_path)
    front.scenario("")
    result = front.run(*words)
    assert (result.status, result.out) == (0, f"python --root {front.root} {' '.join(words)}\n")
