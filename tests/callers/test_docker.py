"""dockerd drives the runtime, by --add-runtime and as BuildKit's runc."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers.children import wait_until
from callers.docker import Docker
from callers.sandbox import CGROUP_ROOT

MIB = 1024 * 1024


@pytest.fixture
def dock(docker: Docker) -> Iterator[Docker]:
    """docker; all containers are removed and leaks looked for afterwards."""
    yield from docker.one_test()


def limit_of(dock: Docker, name: str, controller: str, file: str) -> str:
    """The text of a limit's file in the container's own cgroup (v1 hierarchies)."""
    group = f"{dock.sandbox.cgroup_parent[1:]}/{dock.inspect(name, '{{.Id}}')}"
    return (CGROUP_ROOT / controller / group / file).read_text().strip()


def test_run_prints_output_when_the_command_ends(dock: Docker) -> None:
    """`run --rm` shows the program's output, made by our runtime."""
    assert dock.run("--rm", command=["echo", "hello"]).out == "hello\n"
    verbs = dock.runtime.verbs()
    assert [verb for verb in ("create", "start", "delete") if verb in verbs] == ["create", "start", "delete"]


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 42"], 42), (["/bin/nosuch"], 127), (["/etc/passwd"], 126)],
    ids=["own", "missing", "not-executable"],
)
def test_run_returns_the_code(dock: Docker, command: list[str], code: int) -> None:
    """The program's own code, or the shell's when the runtime says why it cannot run."""
    assert dock.run("--rm", command=command, code=code).code == code


def test_version_is_read_when_info_is_asked(dock: Docker) -> None:
    """dockerd parses the three lines of `--version` of its default runtime, which is a link to ours."""
    info = json.loads(dock("info", "--format", "{{json .}}").out)
    assert "proven" in info["Runtimes"]
    assert info["RuncCommit"]["ID"] != "N/A"


def test_exec_runs_inside_with_its_options(dock: Docker) -> None:
    """`exec` with user, environment, directory; its exit code comes back."""
    name = dock.start_sleeper()
    script = "echo $(id -u):$(id -g) $MARK $(pwd); exit 9"
    result = dock("exec", "-u", "1000:1000", "-e", "MARK=m", "-w", "/data", name, "sh", "-c", script, code=9)
    assert result.out == "1000:1000 m /data\n"


@pytest.mark.parametrize("program", ["nosuch", "/bin/nosuch", "/etc/passwd"])
def test_exec_says_what_is_wrong_when_the_program_cannot_run(dock: Docker, program: str) -> None:
    """dockerd 20.10 answers 126 to any exec that the runtime refuses, and shows its message."""
    name = dock.start_sleeper()
    result = dock("exec", name, program, code=126)
    assert program in result.out + result.err


def test_run_it_gives_a_terminal_when_on_a_pty(dock: Docker) -> None:
    """`run -it` from a terminal."""
    argv = dock.argv(*dock.run_words("--rm", "-it", command=["sh"]))
    code, screen = dock.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 7\n", "sum=42")
    assert code == 7
    assert "/dev/pts/0" in screen or "/dev/console" in screen


def test_exec_it_gives_a_terminal_when_on_a_pty(dock: Docker) -> None:
    """`exec -it` from a terminal."""
    name = dock.start_sleeper()
    argv = dock.argv("exec", "-it", name, "sh")
    code, screen = dock.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 3\n", "sum=42")
    assert code == 3
    assert "/dev/pts/" in screen


def test_run_i_feeds_stdin_when_piped(dock: Docker) -> None:
    """`run -i` passes standard input and its end."""
    assert dock.run("--rm", "-i", command=["wc", "-c"], stdin="12345").out.strip() == "5"


def test_logs_show_both_streams_when_detached(dock: Docker) -> None:
    """A detached container's output is in its log."""
    name = dock.run("-d", command=["sh", "-c", "echo out; echo err >&2"]).out.strip()
    dock("wait", name)
    result = dock("logs", name)
    assert (result.out, result.err) == ("out\n", "err\n")


def test_top_and_stats_see_the_container(dock: Docker) -> None:
    """`top` asks the runtime for pids, `stats` reads the cgroups."""
    name = dock.start_sleeper("--memory=64m")
    assert "sleep 1000" in dock("top", name).out
    stats = json.loads(dock("stats", "--no-stream", "--format", "{{json .}}", name).out)
    assert stats["PIDs"] == "1"
    assert stats["MemUsage"].endswith("/ 64MiB")


def test_limits_are_in_the_kernel_and_update_changes_them(dock: Docker) -> None:
    """Limits given at `run`, then changed by `update`."""
    options = ["--memory=64m", "--pids-limit=77", "--cpus=0.5", "--cpu-shares=512", "--cpuset-cpus=0"]
    name = dock.start_sleeper(*options)
    assert limit_of(dock, name, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert limit_of(dock, name, "pids", "pids.max") == "77"
    assert limit_of(dock, name, "cpu", "cpu.cfs_quota_us") == "50000"
    assert limit_of(dock, name, "cpu", "cpu.shares") == "512"
    assert limit_of(dock, name, "cpuset", "cpuset.cpus") == "0"
    dock("update", "--memory=128m", "--memory-swap=128m", "--pids-limit=88", name)
    assert limit_of(dock, name, "memory", "memory.limit_in_bytes") == str(128 * MIB)
    assert limit_of(dock, name, "pids", "pids.max") == "88"
    assert "update" in dock.runtime.verbs()


def test_pause_freezes_and_unpause_thaws(dock: Docker) -> None:
    """`pause` and `unpause` through the runtime."""
    name = dock.start_sleeper()
    dock("pause", name)
    assert dock.inspect(name, "{{.State.Status}}") == "paused"
    assert limit_of(dock, name, "freezer", "freezer.state") == "FROZEN"
    dock("unpause", name)
    assert dock("exec", name, "echo", "thawed").out == "thawed\n"


def test_stop_kill_and_restart(dock: Docker) -> None:
    """Stop with a handled signal, start again, kill."""
    script = "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.1; done"
    name = dock.run("-d", command=["sh", "-c", script]).out.strip()
    wait_until(lambda: dock("exec", name, "test", "-e", "/tmp/ready", code=None).code == 0, "the trap is set")
    dock("stop", "-t", "10", name)
    assert dock.inspect(name, "{{.State.ExitCode}}") == "5"
    dock("start", name)
    assert dock.inspect(name, "{{.State.Running}}") == "true"
    dock("kill", name)
    assert dock("wait", name).out == "137\n"


def test_oom_is_known_when_over_the_limit(dock: Docker) -> None:
    """Exit code 137 and OOMKilled: dockerd learns it from the cgroup that the runtime made."""
    name = dock.run("-d", "--memory=16m", command=["tail", "/dev/zero"]).out.strip()
    assert dock("wait", name).out == "137\n"
    assert dock.inspect(name, "{{.State.OOMKilled}}") == "true"


def test_events_follow_the_life_of_a_container(dock: Docker) -> None:
    """`events` sees create, start, die and the OOM."""
    watcher = dock.watch_events("type=container")
    seen = dock.sandbox.path("events")
    try:
        dock.run("--rm", "--memory=16m", command=["tail", "/dev/zero"], code=137)
        wait_until(lambda: {"create", "start", "oom", "die"} <= set(seen.read_text().split()), "the events")
    finally:
        watcher.send_signal(signal.SIGTERM)
        watcher.wait(timeout=10)


def test_options_reach_the_process(dock: Docker) -> None:
    """Read-only root, tmpfs, volume, user, groups, hostname, ulimit, init's environment."""
    shared = dock.sandbox.path("shared")
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    options = ["--read-only", "--tmpfs", "/scratch:size=1m", "-v", "/run/c/shared:/shared", "--user", "1000:1000"]
    options += ["--group-add", "77", "--hostname", "box", "-w", "/data", "-e", "MARK=m"]
    script = "touch /x 2>/dev/null && echo wrote; touch /shared/f; id -u; id -G; hostname; pwd; echo $MARK"
    out = dock.run("--rm", *options, command=["sh", "-c", script]).out.splitlines()
    assert out == ["1000", "1000 77", "box", "/data", "m"]
    assert (shared / "f").stat().st_uid == 1000


def test_inspect_agrees_with_the_kernel(dock: Docker) -> None:
    """The pid is that of the container's first process, as dockerd's pid namespace sees it."""
    name = dock.start_sleeper()
    pid = dock.inspect(name, "{{.State.Pid}}")
    assert dock.inspect(name, "{{.HostConfig.Runtime}}") == "proven"
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0001000\0"


def test_buildkit_builds_from_scratch_when_runc_is_our_link(dock: Docker) -> None:
    """BuildKit calls `runc run`: every RUN goes through a link of that name to our binary."""
    context = dock.sandbox.path("context")
    context.mkdir(exist_ok=True)
    (context / "rootfs.tar").write_bytes(dock.sandbox.path("rootfs.tar").read_bytes())
    (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\nRUN echo built > /built && test -s /built\n")
    dock.sandbox.env["DOCKER_BUILDKIT"] = "1"
    dock.runtime.forget()
    dock("build", "--network", "none", "--progress", "plain", "-t", "built:1", "/run/c/context")
    assert "run" in dock.runtime.verbs()
    out = dock("run", "--rm", "--runtime", "proven", "--network", "none", "built:1", "cat", "/built").out
    assert out == "built\n"


def test_buildkit_shows_the_failing_step(dock: Docker) -> None:
    """A RUN that ends with 3 fails the build with that code."""
    context = dock.sandbox.path("context")
    context.mkdir(exist_ok=True)
    (context / "rootfs.tar").write_bytes(dock.sandbox.path("rootfs.tar").read_bytes())
    (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\nRUN exit 3\n")
    dock.sandbox.env["DOCKER_BUILDKIT"] = "1"
    result = dock("build", "--network", "none", "--progress", "plain", "/run/c/context", code=1)
    assert "exit code: 3" in result.err
