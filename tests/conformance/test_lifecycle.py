"""create, start, run, state, kill and delete: what each does to the process and to the record."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from conformance.harness import Bundle, Runtime, unique_id, wait_until


def test_create_does_not_run_the_program_until_start(runtime: Runtime, bundle: Bundle) -> None:
    """A created container has a process, but none of the user's code has run."""
    with runtime.create(bundle, ": > /ran; exec sleep 1000") as c:
        assert c.status == "created"
        assert not (bundle.rootfs / "ran").exists()
        assert Path(f"/proc/{c.pid}").exists()
        c.start()
        wait_until((bundle.rootfs / "ran").exists, "the program runs")
        assert c.status == "running"


def test_state_has_the_fields_of_the_specification(runtime: Runtime, bundle: Bundle) -> None:
    """ociVersion, id, status, pid, bundle and annotations, with the true values."""
    bundle.spec["annotations"] = {"org.example.key": "a value", "org.example.empty": ""}
    with runtime.create(bundle, "true") as c:
        state = c.state()
        assert state["id"] == c.id
        assert state["status"] == "created"
        assert state["bundle"] == str(bundle.path)
        assert state["annotations"] == bundle.spec["annotations"]
        assert state["ociVersion"].startswith("1.")
        assert os.path.samefile(f"/proc/{state['pid']}/root", bundle.rootfs)


def test_state_tells_rootfs_creation_time_and_owner(runtime: Runtime, bundle: Bundle) -> None:
    """The fields that runc adds: rootfs, created in RFC 3339 UTC, and owner."""
    with runtime.create(bundle, "true") as c:
        state = c.state()
        assert state["rootfs"] == str(bundle.rootfs)
        assert state["created"].endswith("Z")
        assert state["created"][10] == "T"
        assert state["owner"] in ("", "root")


def test_state_is_stopped_and_has_no_pid_when_the_program_has_ended(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel's word counts: a dead init means stopped, and pid 0."""
    with runtime.create(bundle, "exit 3") as c:
        pid = c.pid
        c.start()
        assert c.wait() == 3
        state = c.state()
        assert state["status"] == "stopped"
        assert state["pid"] == 0
        assert not Path(f"/proc/{pid}").exists()


def test_state_is_stopped_while_the_dead_init_is_a_zombie(runtime: Runtime, bundle: Bundle) -> None:
    """A zombie does not run: state must not wait for whoever reaps it."""
    with runtime.start(bundle, "exit 0") as c:
        wait_until(lambda: c.status == "stopped", "a zombie counts as stopped")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_run_exits_with_the_code_of_the_program(runtime: Runtime, bundle: Bundle, code: int) -> None:
    """The foreground `run` passes the program's code on."""
    assert runtime.run(bundle, f"exit {code}", check=False).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "USR1"])
def test_run_exits_with_128_and_the_signal_when_the_program_is_killed(
    runtime: Runtime, bundle: Bundle, name: str
) -> None:
    """A death by a signal is told as a shell tells it."""
    # pid 1 of a pid namespace is immune against its own signals: so it shares the caller's.
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    expected = 128 + getattr(signal, f"SIG{name}")
    assert runtime.run(bundle, f"kill -{name} $$", check=False).returncode == expected


def test_run_removes_the_container_afterwards(runtime: Runtime, bundle: Bundle) -> None:
    """After a foreground run, the id is unknown again."""
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    runtime("run", "--bundle", bundle.path, name)
    assert runtime("state", name, check=False).returncode == 1


def test_run_passes_standard_input_and_both_outputs(runtime: Runtime, bundle: Bundle) -> None:
    """Without a terminal the three streams of the caller are those of the program."""
    done = runtime.run(bundle, "cat; echo wrong >&2", stdin="hello\n")
    assert (done.stdout, done.stderr) == ("hello\n", "wrong\n")


def test_run_keep_leaves_the_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    """`run --keep` leaves a record that can be asked and deleted."""
    if runtime.name == "runc" and runtime.version < (1, 1):
        pytest.skip("runtime: run --keep is new in runc 1.1")
    bundle.shell("exit 7")
    bundle.write()
    name = unique_id()
    assert runtime("run", "--keep", "--bundle", bundle.path, name, check=False).returncode == 7
    assert runtime("state", name).json()["status"] == "stopped"
    runtime("delete", name)


def test_run_detached_returns_while_the_program_runs(runtime: Runtime, bundle: Bundle) -> None:
    """`run --detach` gives a running container, whose init is the caller's to reap."""
    with runtime.start(bundle, "echo up; sleep 1000") as c:
        assert c.status == "running"
        c.wait_output("up")
        c.kill("KILL")
        assert c.wait() == 137


def test_detached_init_is_adopted_by_the_nearest_subreaper(runtime: Runtime, bundle: Bundle) -> None:
    """The init is the runtime's own child: conmon and shims rely on inheriting it."""
    with runtime.create(bundle, "true") as c:
        fields = c.proc("stat").rsplit(")", 1)[1].split()
        assert int(fields[1]) == os.getpid()


@pytest.mark.parametrize("command", ["create", "run"])
def test_pid_file_has_the_pid_of_the_init(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """`--pid-file` is there when the command returns, and holds the number alone."""
    target = bundle.path / "pid"
    make = runtime.create if command == "create" else runtime.start
    with make(bundle, "sleep 1000", "--pid-file", str(target)) as c:
        assert target.read_text() == str(c.state()["pid"])


def test_pid_file_replaces_an_older_one(runtime: Runtime, bundle: Bundle) -> None:
    """A stale file of an earlier container does not survive."""
    target = bundle.path / "pid"
    target.write_text("99999999 stale")
    with runtime.create(bundle, "true", "--pid-file", str(target)) as c:
        assert target.read_text() == str(c.pid)


def test_pid_file_is_not_left_by_a_create_that_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """No file promises a process that is not there."""
    target = bundle.path / "pid"
    bundle.process["args"] = ["/no/such/program"]
    done = runtime.run(bundle, None, "--pid-file", str(target), check=False)
    assert done.returncode != 0
    assert not target.exists() or not Path(f"/proc/{target.read_text()}").exists()


def test_bundle_defaults_to_the_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    """Without `--bundle`, config.json is read from the caller's working directory."""
    bundle.shell("echo here")
    bundle.write()
    assert runtime("run", unique_id(), cwd=bundle.path).stdout == "here\n"


def test_relative_bundle_becomes_absolute_in_state(runtime: Runtime, bundle: Bundle) -> None:
    """state's bundle is absolute, however it was given."""
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    where = bundle.path.parent
    runtime("create", "--bundle", bundle.path.name, name, cwd=where, output=where / "out")
    try:
        assert runtime("state", name).json()["bundle"] == str(bundle.path)
    finally:
        runtime("delete", "--force", name)


def test_root_path_may_be_absolute(runtime: Runtime, bundle: Bundle) -> None:
    """root.path is taken relative to the bundle, or as it is when absolute."""
    bundle.spec["root"]["path"] = str(bundle.rootfs)
    (bundle.rootfs / "mark").touch()
    assert runtime.run(bundle, "ls /mark").stdout == "/mark\n"


@pytest.mark.parametrize("name", ["TERM", "SIGUSR1", "12", "HUP"])
def test_kill_delivers_the_named_signal(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Signals may be given with or without SIG, or as a number; TERM is the default."""
    script = 'for s in TERM USR1 USR2 HUP; do trap "echo got $s; exit" $s; done; echo up;'
    with runtime.start(bundle, script + "while :; do sleep 0.02; done") as c:
        c.wait_output("up")
        c.kill(name)
        said = {"SIGUSR1": "USR1", "12": "USR2"}.get(name, name)
        c.wait_output(f"got {said}")


def test_kill_defaults_to_sigterm(runtime: Runtime, bundle: Bundle) -> None:
    """Without a signal, `kill` sends SIGTERM."""
    with runtime.start(bundle, "trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done") as c:
        c.wait_output("up")
        pid = c.pid
        c.command("kill")
        assert c.wait() == 9
        assert not Path(f"/proc/{pid}").exists()


def test_kill_reaches_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    """SIGKILL ends a container that was never started."""
    with runtime.create(bundle, "true") as c:
        c.kill("KILL")
        assert c.wait() == 137
        assert c.status == "stopped"


def test_kill_all_reaches_every_process(runtime: Runtime, bundle: Bundle) -> None:
    """`kill --all` signals the whole container, also without a pid namespace."""
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    with runtime.start(bundle, "sleep 1000 & echo child $!; exec sleep 1000") as c:
        child = int(c.wait_output("child").split()[1])
        assert c.pid
        c.kill("KILL", "--all")
        assert c.wait() == 137
        wait_until(lambda: _is_dead(child), "the other process is gone")


def test_start_of_a_container_twice_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Only a created container can be started; the running one goes on."""
    with runtime.start(bundle) as c:
        done = c.command("start", check=False)
        assert done.returncode == 1
        assert c.status == "running"


def test_delete_of_a_running_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Without --force, delete leaves a running container as it is."""
    with runtime.start(bundle) as c:
        done = c.delete(check=False)
        assert done.returncode == 1
        assert Path(f"/proc/{c.pid}").exists()
        assert c.status == "running"


def test_delete_force_ends_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    """`delete --force` kills and removes in one call."""
    with runtime.start(bundle) as c:
        pid = c.pid
        c.delete("--force")
        assert c.wait() == 137
        assert not Path(f"/proc/{pid}").exists()
        assert c.command("state", check=False).returncode == 1


def test_delete_force_removes_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    """A created container is deleted by force, and its program never runs."""
    with runtime.create(bundle, ": > /ran") as c:
        assert c.pid
        c.delete("--force")
        assert not (bundle.rootfs / "ran").exists()


def test_delete_of_a_stopped_container_frees_the_id(runtime: Runtime, bundle: Bundle) -> None:
    """After delete, the same id can be created again at once."""
    with runtime.create(bundle, "true") as first:
        first.start()
        first.wait()
        first.delete()
        with runtime.create(bundle, "true", id=first.id) as second:
            assert second.status == "created"


def test_delete_kills_what_the_init_left_behind(runtime: Runtime, bundle: Bundle) -> None:
    """Without a pid namespace, orphans of the init go with the container."""
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    with runtime.start(bundle, "sleep 1000 & echo child $!") as c:
        child = int(c.wait_output("child").split()[1])
        wait_until(lambda: c.status == "stopped", "init ended")
        c.delete("--force")
        wait_until(lambda: _is_dead(child), "the orphan is gone")


def test_two_containers_may_share_a_bundle(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing that a container needs is kept in its bundle."""
    with runtime.create(bundle, "exec sleep 1000") as one:
        bundle.linux["cgroupsPath"] += "b"
        with runtime.create(bundle, "exec sleep 1000") as two:
            assert one.pid != two.pid
            two.start()
            assert (one.status, two.status) == ("created", "running")


def test_roots_are_separate(runtime: Runtime, bundle: Bundle) -> None:
    """A container is known only to the state root it was made in."""
    with runtime.create(bundle, "true") as c:
        other = Runtime(runtime.path, runtime.root.parent / "state2", runtime.name)
        assert other("state", c.id, check=False).returncode == 1


def test_preserve_fds_passes_exactly_that_many(runtime: Runtime, bundle: Bundle) -> None:
    """`--preserve-fds 2` gives 3 and 4 to the program, and nothing above."""
    ends = [os.pipe(), os.pipe(), os.pipe()]
    # dup2 to the numbers wanted happens in the child of a shell: 3, 4 kept, 5 not asked for.
    command = [*runtime.argv("run", "--preserve-fds", "2", "--bundle", str(bundle.path))]
    bundle.shell("echo to3 >&3; echo to4 >&4; test -e /proc/$$/fd/5 && echo more")
    bundle.write()
    fds = [w for _, w in ends]
    numbers = " ".join(f"{n}>&{fd}" for n, fd in zip((3, 4, 5), fds, strict=True))
    # sh closes nothing by itself: what it was given above 5 is closed on exec.
    shell = f'exec {numbers} {" ".join(f"{fd}>&-" for fd in fds if fd > 5)}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", shell, "bash", *command, unique_id()],
        pass_fds=fds,
        capture_output=True,
        text=True,
        timeout=30,
    )
    for fd in fds:
        os.close(fd)
    said = [os.read(r, 100) for r, _ in ends]
    for r, _ in ends:
        os.close(r)
    assert done.stderr == ""
    assert said == [b"to3\n", b"to4\n", b""]
    assert done.stdout == ""


def test_no_descriptor_of_the_caller_is_inherited(runtime: Runtime, bundle: Bundle) -> None:
    """Only 0, 1 and 2 reach the program, whatever the caller had open."""
    r, w = os.pipe()
    try:
        done = runtime.run(bundle, "ls /proc/$$/fd; true", pass_fds=(w,))
    finally:
        os.close(r)
        os.close(w)
    # 10 is the shell's own copy of its script's descriptor, where it keeps one.
    assert [n for n in done.lines if n != "10"] == ["0", "1", "2"]


def _is_dead(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rsplit(")", 1)[1].split()[0] == "Z"
