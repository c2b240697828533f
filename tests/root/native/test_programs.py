"""state, start and kill on records made by hand: without planner, without Python."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from root.native.front import Front
from root.native.groups import GroupBench
from root.native.records import MSG_FAIL, MSG_SYNC, MSG_WARNING, Records, freeze, hook, put_into_group, tell

pytestmark = pytest.mark.requires("root", "cc")


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
