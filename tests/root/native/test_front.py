"""The front: asking for a plan, running it, its verdict, its words, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from root.native.front import BIRTH, CREATE, DETACH, EXEC, NEWNS, NEWPID, Front, build_front, wait_until

pytestmark = pytest.mark.requires("root", "cc")


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """A front whose planner the test writes."""
    return Front(tmp_path)


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("exit 0", 0), ("kill -TERM $$; sleep 5", 0)])
def test_exit_code_is_that_of_the_process_when_it_ends(front: Front, script: str, status: int) -> None:
    """The front ends with the process's own code; pid 1 of a namespace survives its own signal."""
    front.plan(f'*run("sh", "-c", {script.replace("sleep 5", "exit 0")!r})')
    assert front.run("exec").status == status


def test_exit_code_is_128_and_the_signal_when_a_signal_ends_it(front: Front) -> None:
    """Without a pid namespace a process can kill itself: 128 + 9."""
    front.scenario(
        f"""
        request()
        answer([("front", "FRONT_MODE", {EXEC}, 0), ("front", "SPAWN", {NEWNS}, -1), sync("birth"),
                *run("sh", "-c", "kill -KILL $$")])
        serve()
        """
    )
    assert front.run("exec").status == 137


def test_process_has_no_descriptor_of_the_front_when_it_runs(front: Front) -> None:
    """CVE-2024-21626: only 0, 1 and 2 reach the program."""
    front.plan('*run("sh", "-c", "echo /proc/self/fd/*")')
    listed = front.run("exec").out.split()
    assert [name for name in listed if int(name.rsplit("/", 1)[1]) <= 2] == [f"/proc/self/fd/{n}" for n in range(3)]
    # The shell itself opens the directory that it lists.
    assert len(listed) == 4


def test_child_is_born_with_default_signals_when_the_caller_ignores_some(front: Front) -> None:
    """Neither a blocked nor an ignored signal of the front or its caller reaches the container."""
    front.plan('*run("sh", "-c", "grep -E ^Sig[BI] /proc/self/status")')
    assert front.run("exec").out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_exit_code_is_known_when_the_caller_ignores_its_children(front: Front) -> None:
    """An inherited SIG_IGN of SIGCHLD would have the kernel forget the status."""
    front.plan('*run("sh", "-c", "exit 3")')
    command = ["sh", "-c", 'trap "" CHLD PIPE; exec "$@"', "sh", *front.command("exec")]
    assert subprocess.run(command, env=front.environment(), timeout=60).returncode == 3


@pytest.mark.parametrize("stale", ["3,4,0", "0,1,2", "99,98,1", "nonsense", ""])
def test_stale_question_is_not_taken_when_the_environment_names_one(front: Front, stale: str) -> None:
    """The front asks before it becomes its private copy; what another process left in the environment is not its."""
    front.plan('*run("sh", "-c", "exit 3")')
    environment = {**front.environment(), "CORRAL_ASKED": stale}
    assert subprocess.run(front.command("exec"), env=environment, timeout=60).returncode == 3


def test_unrelated_child_of_the_front_does_not_hold_up_its_failure(front: Front) -> None:
    """A shell that execs the runtime leaves it its background processes as children."""
    front.plan('("init", "HOSTNAME", "x" * 70), *run("true")')
    command = ["sh", "-c", 'sleep 60 & echo $! >pid; exec "$@"', "sh", *front.command("exec")]
    before = time.monotonic()
    done = subprocess.run(
        command, env=front.environment(), cwd=front.folder, stdout=DEVNULL, stderr=DEVNULL, timeout=60
    )
    os.kill(int((front.folder / "pid").read_text()), signal.SIGKILL)
    assert done.returncode == 255
    assert time.monotonic() - before < 30


def test_request_tells_the_planner_who_asks_and_what(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """v, cwd, root, fds, env and arg, in this order; of the environment only what is named in the contract."""
    for name in [name for name in os.environ if name.startswith("CORRAL_")]:
        monkeypatch.delenv(name)
    front.scenario("send(52, repr(request()).encode())")
    result = front.run("exec", "--tty", "a b", HOME="/h", SECRET="x", CORRAL_TEST="1", PATH="/bin")
    told = [item for item in eval(result.out) if not item.startswith("env=CORRAL_TEST_MARK=")]
    assert [item for item in told if not item.startswith("env=")] == [
        "v=1",
        f"cwd={front.folder}",
        f"root={front.root}",
        "fds=",
        "arg=--root",
        f"arg={front.root}",
        "arg=exec",
        "arg=--tty",
        "arg=a b",
    ]
    env = sorted(item for item in told if item.startswith("env="))
    assert [item for item in env if "XDG_RUNTIME_DIR" not in item] == [
        "env=CORRAL_TEST=1",
        "env=HOME=/h",
        "env=PATH=/bin",
    ]


def test_planner_runs_with_an_empty_environment_and_no_descriptor_but_its_own(front: Front) -> None:
    """A cold planner sees nothing of the caller but its stderr."""
    front.scenario(
        """
        request()
        fds = sorted(os.listdir("/proc/self/fd"), key=int)
        where = [os.readlink(f"/proc/self/fd/{fd}") for fd in ("0", "1")]
        send(52, repr((dict(os.environ), fds[:4], where)).encode())
        """
    )
    assert eval(front.run("exec").out) == (
        {"LC_CTYPE": "C.UTF-8"},
        ["0", "1", "2", "3"],
        ["/dev/null", "/dev/null"],
    )


def test_front_runs_from_a_sealed_copy_when_it_will_enter_a_container(front: Front) -> None:
    """CVE-2019-5736: /proc/PID/exe is no file that a container could overwrite."""
    front.scenario(
        """
        request()
        exe = f"/proc/{os.getppid()}/exe"
        fd = os.open(exe, os.O_RDONLY)
        send(52, f"{os.readlink(exe)} {fcntl.fcntl(fd, 1034)}".encode())
        """
    )
    assert front.run("exec").out == "/memfd:corral-runtime (deleted) 15"


@pytest.mark.skipif(not Path("/proc/sys/vm/memfd_noexec").exists(), reason="the kernel has no vm.memfd_noexec")
@pytest.mark.parametrize("uid", [0, 1234], ids=["read-only mount", "copy without a name"])
def test_front_finds_another_copy_when_memfds_are_not_executable(front: Front, uid: int) -> None:
    """vm.memfd_noexec=2 (here: of a pid namespace): root takes a detached mount, others an unlinked copy."""
    front.scenario(
        """
        request()
        exe = f"/proc/{os.getppid()}/exe"
        try:
            os.open(exe, os.O_WRONLY)
        except OSError as error:
            send(52, f"{os.stat(exe).st_nlink} {error.strerror}".encode())
        """
    )
    for path in (front.root, front.bin, front.launcher):
        os.chown(path, uid, uid)
    for folder in (front.folder, *front.folder.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    script = f'echo 2 >/proc/sys/vm/memfd_noexec; exec setpriv --reuid {uid} --clear-groups "$@"'
    command = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-euc", script, "sh"]
    done = subprocess.run(
        [*command, *front.command("exec")], env=front.environment(), capture_output=True, text=True, timeout=60
    )
    links = 1 if uid == 0 else 0
    refusals = [f"{links} {words}" for words in ("Text file busy", "Read-only file system", "Permission denied")]
    assert done.stdout in refusals, done.stderr


def test_refusal_is_printed_with_its_hint_and_code(front: Front) -> None:
    """REFUSED: message and hint on stderr, the planner's exit code."""
    front.scenario('request(); send(49, b"no\\0try yes\\0InvalidArgument\\0mounts[0]\\0", 7)')
    result = front.run("create")
    assert (result.status, result.err) == (7, "no\nhint: try yes")


def test_log_is_one_json_document_when_a_step_cannot_be_done(front: Front) -> None:
    """Callers read --log as one document: level, msg, time, and the hint beside them."""
    front.plan('("init", "HOSTNAME", "x" * 70, {"pointer": "hostname"}), *run("true")')
    result = front.run("--log", "log.json", "--log-format=json", "exec")
    (line,) = (front.folder / "log.json").read_text().splitlines()
    document = json.loads(line)
    expected = f"set the host name to {'x' * 70} (config hostname): invalid argument"
    assert sorted(document) == ["hint", "level", "msg", "time"]
    assert (document["level"], document["msg"], document["hint"]) == ("error", expected, "the hint")
    assert (result.status, result.err) == (255, f"{expected}\nhint: the hint")


def test_log_is_a_line_of_logrus_when_the_format_is_text(front: Front) -> None:
    """time, level and msg, quoted."""
    front.scenario('request(); send(49, b"a \\"b\\"\\0\\0", 1)')
    front.run("--log=log", "create")
    line = (front.folder / "log").read_text()
    assert line.startswith('time="2')
    assert line.endswith('Z" level=error msg="a \\"b\\""\n')


def test_planner_is_started_once_more_when_it_dies_before_it_answers(front: Front) -> None:
    """Nothing was changed yet, so one retry is safe."""
    front.scenario(
        """
        request()
        if not os.path.exists(HERE + "/once"):
            open(HERE + "/once", "w").close()
            os._exit(1)
        send(52, b"second")
        """
    )
    assert front.run("exec").out == "second"


def test_planner_that_dies_twice_is_an_error(front: Front) -> None:
    """The second death is the end, without a loop."""
    front.scenario('request(); open(HERE + "/count", "a").write("x"); os._exit(1)')
    result = front.run("create")
    assert (result.status, result.err.splitlines()[0]) == (
        1,
        "plan the container: the planner ended before it answered",
    )
    assert (front.bin / "count").read_text() == "xx"


def test_planner_that_is_killed_twice_is_named_by_its_signal(front: Front) -> None:
    """It left no words of its own: the front says what ended it."""
    front.scenario("request(); os.kill(os.getpid(), 9)")
    result = front.run("create")
    assert (result.status, result.err.splitlines()) == (
        1,
        [
            "plan the container: the planner was killed by signal 9",
            "hint: if nobody killed it, the machine or the caller's memory limit is short of memory",
        ],
    )


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("[]", "it has no steps"),
        ('[("front", "WARN", "x")]', "its first step is not FRONT_MODE"),
        ('[("front", "FRONT_MODE", 32, 0), ("init", "UMASK", 0)]', "init's first step is not SYNC"),
    ],
)
def test_plan_is_refused_when_its_order_is_wrong(front: Front, steps: str, why: str) -> None:
    """S0.10: init runs nothing before the front has placed it."""
    front.scenario(f"request(); answer({steps}); serve()")
    assert front.run("exec").err.splitlines()[0] == f"read the plan: {why}"


def test_plan_is_refused_when_it_can_still_change(front: Front) -> None:
    """A plan is checked once; so it must be sealed."""
    front.scenario("request(); fd = os.memfd_create('p'); os.write(fd, build([])); send(48, fds=[fd]); serve()")
    assert front.run("exec").err.splitlines()[0] == "read the plan: operation not permitted"


def test_resident_planner_answers_when_it_is_there(front: Front) -> None:
    """The socket of the state root comes first; no Python is started."""
    front.scenario("os._exit(1)")
    resident = front.resident('request(); send(52, b"resident")')
    assert front.run("exec").out == "resident"
    resident.wait(10)


@pytest.mark.parametrize("reply", ["send(50)", "os._exit(1)"], ids=["not mine", "dies"])
def test_cold_planner_answers_when_the_resident_one_does_not(front: Front, reply: str) -> None:
    """NOT_MINE and death both lead to a cold planner."""
    front.scenario('request(); send(52, b"cold")')
    resident = front.resident(f"request(); {reply}")
    assert front.run("exec").out == "cold"
    resident.wait(10)


def test_resident_planner_is_ignored_when_others_can_write_its_folder(front: Front) -> None:
    """A plan runs with our rights: a socket that another user could have put there is not asked."""
    front.scenario('request(); send(52, b"cold")')
    resident = front.resident('request(); send(52, b"resident")')
    front.root.chmod(0o777)
    assert front.run("exec").out == "cold"
    resident.kill()
    resident.wait(10)


def test_container_is_undone_when_the_verdict_is_no(front: Front) -> None:
    """ABORT: the planner's own words, and init never executes anything."""
    front.scenario(
        f"""
        request()
        answer([{BIRTH} ("front", "COMMIT", 0), sync("go"), *run("touch", HERE + "/ran")])
        serve(b"memory.max reads 1, not 2", b"look at the parent", 0)
        """
    )
    result = front.run("exec")
    assert (result.status, result.err) == (255, "memory.max reads 1, not 2\nhint: look at the parent")
    assert not (front.bin / "ran").exists()


def test_container_is_undone_when_the_planner_dies_before_its_verdict(front: Front) -> None:
    """Silence is an abort."""
    front.scenario(f'request(); answer([{BIRTH} ("front", "COMMIT", 0), sync("go"), *run("true")])')
    result = front.run("exec")
    assert (result.status, result.err) == (255, "ask for the verdict: the planner ended before its verdict")


def test_events_tell_the_planner_of_birth_and_failure(front: Front) -> None:
    """BORN with the pid, READY, FAILED with step, errno and detail."""
    front.scenario(
        f"""
        request()
        answer([{BIRTH} ("front", "COMMIT", 0), sync("go"), ("init", "FIND_PROGRAM", "/nowhere", "")])
        open(HERE + "/events", "w").write(repr([(e[0], e[1], e[2], e[3] > 1) for e in serve()]))
        """
    )
    front.run("exec")
    events = front.bin / "events"
    wait_until(lambda: events.exists() and events.read_text() != "")
    assert eval(events.read_text()) == [(35, 0, 0, True), (36, 3, 0, False), (37, 5, -2, False)]


def test_signals_reach_the_process_when_the_front_gets_them(front: Front) -> None:
    """run and exec in the foreground forward what they are sent."""
    front.plan('*run("sh", "-c", "trap \'exit 42\' USR1; echo ready; while :; do sleep 0.1; done")')
    process = front.start("exec", stdout=PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 42
    process.stdout.close()


def test_front_can_be_ended_when_init_hangs_in_its_setup(front: Front) -> None:
    """Blocked signals are forwarded later; but a hanging setup must not make the front immortal."""
    front.scenario(
        f"""
        request()
        answer([("front", "FRONT_MODE", {EXEC}, 0), ("front", "SPAWN", {NEWNS}, -1), sync("birth"),
                ("front", "PID_FILE", HERE + "/pid"), sync("go"), *run("true")])
        serve()
        """
    )
    front.failpoint = "init:SYNC:2:stop"
    process = front.start("exec", stdout=DEVNULL, stderr=PIPE)
    wait_until((front.bin / "pid").exists)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 255
    assert err.startswith("wait for go: signal 15 came first: interrupted system call")


def test_front_leaves_when_it_is_told_to_detach(front: Front) -> None:
    """--detach: exit 0 once the program runs; the process lives on."""
    front.scenario(
        f"""
        request()
        answer([("front", "FRONT_MODE", {EXEC | DETACH}, 0), ("front", "SPAWN", {NEWNS | NEWPID}, -1), sync("birth"),
                ("front", "PID_FILE", HERE + "/pid"), *run("sleep", "100")])
        serve()
        """
    )
    assert front.start("exec", stdout=DEVNULL, stderr=DEVNULL).wait(30) == 0
    pid = int((front.bin / "pid").read_text())
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split())


def test_record_is_complete_when_create_ends(front: Front) -> None:
    """create: live names init, the journal ends in COMMIT, the owner lock is free, init holds its lock."""
    front.scenario(
        f"""
        request()
        record, lock = make_record({str(front.root)!r}, "box")
        answer([("front", "FRONT_MODE", {CREATE}, 0), ("front", "START_LISTEN", 64, 65),
                ("front", "SPAWN", {NEWNS | NEWPID}, -1), sync("birth"), ("front", "COMMIT", 0), sync("go"),
                ("front", "DONE", 0), ("init", "WAIT_START", 64, 65), *run("true")], record, lock)
        os.close(lock)
        serve()
        """
    )
    assert front.start("create", stdout=DEVNULL, stderr=DEVNULL).wait(30) == 0
    record = front.root / "box"
    pid = int((record / "live").read_text().split()[0])
    journal = (record / "journal").read_bytes()
    assert [journal[i] for i in range(0, len(journal), 16)] == [6, 7]
    assert Path(f"/proc/{pid}/comm").read_text() == "corral:init\n"
    assert (record / "start.sock").is_socket()
    locks = Path("/proc/locks").read_text()
    assert f":{(record / 'init.lock').stat().st_ino} " in locks
    assert f":{(record / 'owner.lock').stat().st_ino} " not in locks
    os.kill(pid, signal.SIGKILL)


def test_version_has_three_lines_that_dockerd_reads() -> None:
    """`X version V`, `commit:`, `spec:`."""
    done = subprocess.run([build_front(), "--version"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("corral-runtime version ")
    assert [line.split(":")[0] for line in lines[1:]] == ["commit", "spec"]


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        ("mode", "it is writable by others than its owner"),
        ("owner", "it is owned by another user"),
        ("shebang", "its first line names no interpreter"),
        ("missing", "no such file or directory"),
    ],
)
def test_launcher_is_refused_when_it_cannot_be_trusted(front: Front, breaking: str, words: str) -> None:
    """Whoever may write the launcher would command the runtime."""
    front.scenario("")
    if breaking == "mode":
        front.launcher.chmod(0o777)
    elif breaking == "owner":
        os.chown(front.launcher, 1234, 1234)
    elif breaking == "shebang":
        front.launcher.write_text("import sys\n")
    else:
        front.launcher.unlink()
    result = front.run("list")
    assert result.status == 1
    assert result.err.splitlines()[0].endswith(words)


def test_other_commands_go_to_python_with_the_state_root(front: Front) -> None:
    """list, ps and the rest: the whole command line, and the root that C decided."""
    front.scenario("")
    assert front.run("list", "-q").out == f"python --root {front.root} list -q\n"


@pytest.mark.parametrize("text", ["x", "front:1", "front:1:boom", "front:1:errno=x", "moon:1:kill"])
def test_failpoint_is_refused_when_it_is_malformed(front: Front, text: str) -> None:
    """A test that names no real failpoint must not pass by accident."""
    front.scenario("")
    assert front.run("exec", CORRAL_FAILPOINT=text).err.splitlines()[0] == "read CORRAL_FAILPOINT: invalid argument"


@pytest.mark.parametrize(
    ("failpoint", "words"),
    [
        ("front:SPAWN:errno=11", "clone the container's first process: resource temporarily unavailable"),
        ("front:2:errno=5", "wait for birth: input/output error"),
        ("init:SYNC:errno=5", "wait for birth: input/output error"),
        ("init:SYNC:2:errno=5", "wait for go: input/output error"),
        ("init:EXEC:errno=12", "exec the program: cannot allocate memory"),
        ("front:COMMIT:after:errno=28", "ask for the verdict: no space left on device"),
        ("init:SYNC:after:kill", "the container's first process exited with status 137"),
    ],
)
def test_failure_names_its_step_when_it_is_simulated(front: Front, failpoint: str, words: str) -> None:
    """Every step can be made to fail; the front says which one did, and leaves no process."""
    front.plan('("front", "COMMIT", 0), sync("go"), *run("true")')
    result = front.run("exec", CORRAL_FAILPOINT=failpoint)
    assert result.status == 255
    assert result.err.splitlines()[0].endswith(words)


def test_plan_without_a_process_is_an_error_and_no_wait(front: Front) -> None:
    """Nobody's end could be waited for."""
    front.scenario('request(); answer([("front", "FRONT_MODE", 32, 0), ("front", "WARN", "x")]); serve()')
    result = front.run("exec")
    assert (result.status, result.err.splitlines()[0]) == (255, "warning: x")
    assert "the plan makes no process" in result.err
