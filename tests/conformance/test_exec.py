"""exec: a further process in a running container, with its own user, rights and environment."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Container, Runtime, namespace_of, parse_status, reap, status_of, wait_until
from conformance.host import host
from conformance.rootfs import chown_tree
from conformance.runtimes import needs
from conformance.spec import add_namespace, map_ids, set_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = ["pid", "ipc", "uts", "mnt", "net", "cgroup"]


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> Iterator[Container]:
    """A running container with every namespace of its own."""
    add_namespace(bundle.spec, "network")
    with runtime.start(bundle) as c:
        yield c


def test_exec_runs_in_every_namespace_of_the_container(box: Container) -> None:
    """The new process is in the same namespaces as the init."""
    told = box.sh("for n in pid ipc uts mnt net cgroup; do readlink /proc/self/ns/$n; done").lines
    assert told == [namespace_of(box.pid, name) for name in NAMESPACES]


def test_exec_runs_in_the_cgroup_of_the_container(box: Container) -> None:
    """The new process is in the init's cgroup in every hierarchy."""
    script = "echo $$ > /pid; while [ -e /pid ]; do sleep 0.01; done"
    process = box.runtime.spawn("exec", box.id, "/bin/sh", "-c", script)
    try:
        pids = cgroups.directory(box.pid, "pids")
        extra = wait_until(lambda: [p for p in cgroups.processes(pids) if p != box.pid], "the second process")
        assert cgroups.membership(extra[0]) == cgroups.membership(box.pid)
    finally:
        wait_until((box.bundle.rootfs / "pid").exists, "the script has begun")
        (box.bundle.rootfs / "pid").unlink()
        process.wait(30)


def test_exec_sees_the_root_of_the_container(box: Container) -> None:
    """The new process's root is the container's."""
    (box.bundle.rootfs / "mark").touch()
    assert box.exec("/bin/ls", "/mark").stdout == "/mark\n"


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exec_exits_with_the_code_of_the_program(box: Container, code: int) -> None:
    """exec passes the program's exit code on."""
    assert box.sh(f"exit {code}", check=False).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_exec_exits_with_128_and_the_signal(box: Container, name: str) -> None:
    """A death by a signal is told as a shell tells it."""
    expected = 128 + getattr(signal, f"SIG{name}")
    assert box.sh(f"kill -{name} $$", check=False).returncode == expected


def test_exec_passes_the_three_streams(box: Container) -> None:
    """Standard input, output and error are the caller's."""
    done = box.sh("cat; echo wrong >&2", stdin="hello")
    assert (done.stdout, done.stderr) == ("hello", "wrong\n")


def test_exec_without_a_program_that_exists_exits_255(box: Container) -> None:
    """A missing program: 255 and `no such file or directory`."""
    done = box.exec("/no/such/program", check=False)
    assert done.returncode == 255
    assert "no such file or directory" in done.stderr


def test_exec_of_a_bare_name_that_is_missing_exits_255(box: Container) -> None:
    """A bare name that PATH does not have: 255 and runc's words."""
    done = box.exec("nosuchprogram", check=False)
    assert done.returncode == 255
    assert "executable file not found in $PATH" in done.stderr


def test_exec_detached_returns_at_once(box: Container) -> None:
    """`--detach` leaves the process running, and --pid-file says which it is."""
    pid_file = box.bundle.path / "exec.pid"
    box.exec("/bin/sleep", "1000", flags=["--detach", "--pid-file", str(pid_file)], output=box.bundle.path / "out")
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\x001000\x00"
    assert namespace_of(pid, "pid") == namespace_of(box.pid, "pid")
    assert int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid()
    os.kill(pid, signal.SIGTERM)
    assert reap(pid) == 143


def test_exec_pid_file_of_a_foreground_process(box: Container) -> None:
    """--pid-file works without --detach as well, and names the host's pid."""
    pid_file = box.bundle.path / "exec.pid"
    box.sh("grep NSpid /proc/self/status", "--pid-file", str(pid_file))
    assert int(pid_file.read_text()) > 1


@pytest.mark.parametrize(
    ("user", "uid", "gid"), [("1000", "1000", "0"), ("1000:2000", "1000", "2000"), ("0:5", "0", "5")]
)
def test_exec_user(box: Container, user: str, uid: str, gid: str) -> None:
    """--user takes UID or UID:GID."""
    status = parse_status(box.exec("/bin/cat", "/proc/self/status", flags=["--user", user]).stdout)
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [gid] * 4


def test_exec_additional_groups(box: Container) -> None:
    """--additional-gids gives supplementary groups, one each time."""
    flags = ["--user", "1000:1000", "--additional-gids", "7", "--additional-gids", "9"]
    status = parse_status(box.exec("/bin/cat", "/proc/self/status", flags=flags).stdout)
    assert status["Groups"].split() == ["7", "9"]


def test_exec_working_directory(box: Container) -> None:
    """--cwd is where the program starts."""
    assert box.exec("/bin/pwd", flags=["--cwd", "/var"]).stdout == "/var\n"


def test_exec_environment(box: Container) -> None:
    """--env adds to the config's environment; the caller's does not leak in."""
    done = box.exec("/bin/env", flags=["--env", "A=1", "--env", "B=x y"], env={"LEAK": "1"})
    assert {"A=1", "B=x y", "PATH=/bin", "HOME=/root"} <= set(done.lines)
    assert "LEAK=1" not in done.lines


def test_exec_home_of_the_user(box: Container) -> None:
    """HOME is that of the exec's user, not of the init's."""
    assert box.sh("echo $HOME", "--user", "1000").stdout == "/home/user\n"


def test_exec_capability(runtime: Runtime, bundle: Bundle) -> None:
    """--cap adds a capability to those of the config."""
    set_capabilities(bundle.spec, "CAP_KILL")
    with runtime.start(bundle) as c:
        status = parse_status(c.exec("/bin/cat", "/proc/self/status", flags=["--cap", "CAP_CHOWN"]).stdout)
        assert int(status["CapEff"], 16) == 1 << 5 | 1 << 0
        status = parse_status(c.exec("/bin/cat", "/proc/self/status").stdout)
        assert int(status["CapEff"], 16) == 1 << 5


def test_exec_no_new_privileges(box: Container) -> None:
    """--no-new-privs sets the kernel's bit, which the config left unset."""
    done = box.exec("/bin/cat", "/proc/self/status", flags=["--no-new-privs"])
    assert parse_status(done.stdout)["NoNewPrivs"] == "1"


def test_exec_has_the_limits_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    """rlimits and oomScoreAdj of the config hold for exec too."""
    bundle.process["rlimits"] = [{"type": "RLIMIT_SIGPENDING", "soft": 321, "hard": 654}]
    bundle.process["oomScoreAdj"] = 50
    with runtime.start(bundle) as c:
        done = c.sh("grep '^Max pending' /proc/self/limits; cat /proc/self/oom_score_adj")
        assert done.stdout.split()[3:5] == ["321", "654"]
        assert done.lines[1] == "50"


@needs("exec-umask")
def test_exec_has_the_umask_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    """The umask of the config holds for exec too, unless --process has another."""
    bundle.process["user"]["umask"] = 0o27
    with runtime.start(bundle) as c:
        assert c.sh("umask").stdout == "0027\n"
        path = bundle.path / "process.json"
        path.write_text(json.dumps({**PROCESS, "args": ["/bin/sh", "-c", "umask"]}))
        assert runtime("exec", "--process", path, c.id).stdout == "0077\n"


PROCESS = {
    "terminal": False,
    "user": {"uid": 1000, "gid": 1000, "additionalGids": [2000], "umask": 0o77},
    "args": ["/bin/sh", "-c", "id -u; id -G; pwd; echo $X; ulimit -n; grep CapEff /proc/self/status"],
    "env": ["PATH=/bin", "X=from-file"],
    "cwd": "/var",
    "capabilities": {kind: ["CAP_CHOWN"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
    "noNewPrivileges": True,
}


def test_exec_process_file(box: Container) -> None:
    """--process takes a whole process object, and nothing else from the config."""
    path = box.bundle.path / "process.json"
    path.write_text(json.dumps(PROCESS))
    done = box.runtime("exec", "--process", path, box.id)
    assert done.lines == ["1000", "1000 2000", "/var", "from-file", "99", "CapEff:\t0000000000000001"]


def test_exec_process_file_that_is_wrong_exits_255(box: Container) -> None:
    """A process file without args is an error of exec's own."""
    path = box.bundle.path / "process.json"
    path.write_text(json.dumps({"cwd": "/", "user": {"uid": 0, "gid": 0}}))
    assert box.runtime("exec", "--process", path, box.id, check=False).returncode == 255


def test_exec_preserve_fds(box: Container) -> None:
    """--preserve-fds passes descriptors from 3 on."""
    r, w = os.pipe()
    try:
        box.runtime.prefix = ["bash", "-c", f'exec 3>&{w}; exec "$@"', "bash"]
        box.sh("echo through >&3", "--preserve-fds", "1", pass_fds=(w,))
        assert os.read(r, 100) == b"through\n"
    finally:
        box.runtime.prefix = ()
        os.close(r)
        os.close(w)


def test_exec_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """exec joins the user namespace, and gets the mapped ids."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    with runtime.start(bundle) as c:
        pid_file = bundle.path / "exec.pid"
        flags = ["--detach", "--user", "5:6", "--pid-file", str(pid_file)]
        c.exec("/bin/sleep", "1000", flags=flags, output=bundle.path / "out")
        pid = int(pid_file.read_text())
        assert status_of(pid)["Uid"].split() == ["200005"] * 4
        assert status_of(pid)["Gid"].split() == ["200006"] * 4
        assert namespace_of(pid, "user") == namespace_of(c.pid, "user")
        os.kill(pid, signal.SIGKILL)
        reap(pid)


@host("cgroup-v1")
def test_exec_cgroup_of_a_controller(box: Container) -> None:
    """--cgroup CTRL:PATH puts the process into a sub-group of that hierarchy."""
    sub = cgroups.directory(box.pid, "pids") / "sub"
    sub.mkdir()
    flags = ["--cgroup", "pids:sub"]
    try:
        done = box.sh("cat /proc/self/cgroup", *flags)
    finally:
        sub.rmdir()
    shown = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in done.lines}
    assert shown["pids"] == "/sub"
    assert shown["memory"] == "/"


def test_exec_cgroup_that_is_missing_is_refused(box: Container) -> None:
    """A sub-group that is not there is an error, not a new group."""
    done = box.sh("true", "--cgroup", "pids:nosuchgroup", check=False)
    assert done.returncode == 255
    assert not (cgroups.directory(box.pid, "pids") / "nosuchgroup").exists()


def test_exec_cgroup_does_not_leave_the_container(box: Container) -> None:
    """`..` in --cgroup is refused: a process of the container stays in its group."""
    assert box.sh("true", "--cgroup", "pids:..", check=False).returncode == 255


def test_exec_in_a_paused_container_is_refused(box: Container) -> None:
    """`cannot exec in a paused container`, and 255."""
    box.command("pause")
    done = box.exec("/bin/true", check=False)
    box.command("resume")
    assert done.returncode == 255
    assert "cannot exec in a paused container" in done.stderr


def test_exec_ignore_paused_waits_for_resume(box: Container) -> None:
    """--ignore-paused starts the process, which runs when the container is resumed."""
    box.command("pause")
    process = box.runtime.spawn("exec", "--ignore-paused", box.id, "/bin/touch", "/ran")
    wait_until(lambda: len(cgroups.processes(cgroups.directory(box.pid, "pids"))) > 1, "a second process")
    assert not (box.bundle.rootfs / "ran").exists()
    box.command("resume")
    assert process.wait(30) == 0
    assert (box.bundle.rootfs / "ran").exists()


def test_exec_passes_signals_on(box: Container) -> None:
    """A foreground exec passes on the signals that it gets."""
    script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done"
    with box.runtime.background("exec", box.id, "/bin/sh", "-c", script) as (process, out):
        assert out.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert out.readline() == b"got\n"
        assert process.wait(30) == 5


def test_exec_process_dies_with_the_init(box: Container) -> None:
    """The end of the init of a pid namespace ends every exec, which tells 137."""
    process = box.runtime.spawn("exec", box.id, "/bin/sleep", "1000")
    # In the group it is before it is the program: until then, the init's end is a failed exec.
    wait_until(lambda: "/bin/sleep 1000" in _words_beside(box), "the second process's program")
    box.kill("KILL")
    box.wait()
    assert process.wait(30) == 137


def _words_beside(box: Container) -> list[str]:
    """The command lines of the processes in the container's group, without the init's."""
    pids = [pid for pid in cgroups.processes(cgroups.directory(box.pid, "pids")) if pid != box.pid]
    return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() for pid in pids]


@pytest.mark.parametrize("key", ["initial", "final"])
@needs("exec-cpu-affinity")
def test_exec_cpu_affinity(runtime: Runtime, bundle: Bundle, key: str) -> None:
    """process.execCPUAffinity holds for exec, and not for the init."""
    bundle.process["execCPUAffinity"] = {key: "0"}
    with runtime.start(bundle) as c:
        allowed = parse_status(c.exec("/bin/cat", "/proc/self/status").stdout)["Cpus_allowed_list"]
        assert (allowed == "0") or key == "initial"
        assert status_of(c.pid)["Cpus_allowed_list"] == status_of("self")["Cpus_allowed_list"]


def test_exec_many_at_once(box: Container) -> None:
    """Several execs at a time do not disturb each other."""
    running = [box.runtime.spawn("exec", box.id, "/bin/sh", "-c", f"exit {n}") for n in range(8)]
    assert [process.wait(60) for process in running] == list(range(8))


def test_exec_does_not_change_the_state(box: Container) -> None:
    """state is the same before and after an exec."""
    before = box.state()
    box.exec("/bin/true")
    assert box.state() == before
