"""podman as root drives the runtime: the daily commands."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from callers.children import wait_until
from callers.podman import Podman


@pytest.fixture
def podman(podman_root: Podman) -> Iterator[Podman]:
    """podman with its image; all containers are removed and leaks looked for afterwards."""
    yield from podman_root.one_test()


def test_run_prints_output_when_the_command_ends(podman: Podman) -> None:
    """`run --rm` shows the program's output, and it was our runtime that made it run."""
    assert podman.run("--rm", command=["echo", "hello"]).out == "hello\n"
    verbs = podman.runtime.verbs()
    assert [verb for verb in ("create", "start", "delete") if verb in verbs] == ["create", "start", "delete"]


def test_run_returns_the_exit_code_when_the_program_gives_one(podman: Podman) -> None:
    """The program's own exit code is podman's."""
    assert podman.run("--rm", command=["sh", "-c", "exit 42"], code=42).code == 42


@pytest.mark.parametrize(
    ("program", "code"), [("/bin/nosuch", 127), ("/etc/passwd", 126)], ids=["missing", "not-executable"]
)
def test_run_returns_the_shells_code_when_the_program_cannot_run(podman: Podman, program: str, code: int) -> None:
    """podman reads the runtime's message: 127 for a missing program, 126 for one that may not run."""
    assert podman.run("--rm", command=[program], code=code).code == code


def test_exec_runs_inside_when_detached(podman: Podman) -> None:
    """`run -d`, then `exec` enters the same namespaces."""
    name = podman.start_sleeper()
    podman("exec", name, "sh", "-c", "echo mark > /tmp/mark")
    assert podman("exec", name, "cat", "/tmp/mark").out == "mark\n"
    assert (
        podman("exec", name, "readlink", "/proc/1/ns/pid").out
        == podman("exec", name, "readlink", "/proc/self/ns/pid").out
    )


def test_exec_passes_user_env_workdir_and_code(podman: Podman) -> None:
    """The options of `exec` reach the process."""
    name = podman.start_sleeper()
    script = "echo $(id -u):$(id -g) $MARK $(pwd); exit 9"
    result = podman("exec", "-u", "1000:1000", "-e", "MARK=m", "-w", "/data", name, "sh", "-c", script, code=9)
    assert result.out == "1000:1000 m /data\n"


@pytest.mark.parametrize(
    ("program", "code"), [("/bin/nosuch", 127), ("/etc/passwd", 126)], ids=["missing", "not-executable"]
)
def test_exec_returns_the_shells_code_when_the_program_cannot_run(podman: Podman, program: str, code: int) -> None:
    """As for `run`: 127 and 126 are read from the runtime's message."""
    name = podman.start_sleeper()
    assert podman("exec", name, program, code=code).code == code


def test_run_it_gives_a_terminal_when_on_a_pty(podman: Podman) -> None:
    """`run -it` from a terminal: the shell has a tty, and input and exit code pass."""
    argv = podman.argv(*podman.run_words("--rm", "-it", command=["sh"]))
    code, screen = podman.sandbox.run_in_pty(argv, "tty; stty size; echo sum=$((40+2)); exit 7\n", "sum=42")
    assert code == 7
    assert "/dev/pts/0" in screen or "/dev/console" in screen


def test_exec_it_gives_a_terminal_when_on_a_pty(podman: Podman) -> None:
    """`exec -it` from a terminal."""
    name = podman.start_sleeper()
    argv = podman.argv("exec", "-it", name, "sh")
    code, screen = podman.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 3\n", "sum=42")
    assert code == 3
    assert "/dev/pts/" in screen


def test_run_i_feeds_stdin_when_piped(podman: Podman) -> None:
    """`run -i` passes standard input and its end."""
    assert podman.run("--rm", "-i", command=["wc", "-c"], stdin="12345").out.strip() == "5"


def test_logs_show_output_when_detached(podman: Podman) -> None:
    """Both streams of a detached container are in its log."""
    name = podman.run("-d", command=["sh", "-c", "echo out; echo err >&2"]).out.strip()
    podman("wait", name)
    result = podman("logs", name)
    assert (result.out, result.err) == ("out\n", "err\n")


def test_top_lists_processes_when_running(podman: Podman) -> None:
    """`top` finds the container's processes."""
    name = podman.start_sleeper()
    assert "sleep" in podman("top", name, "comm", "pid").out


def test_stats_report_memory_and_pids_when_running(podman: Podman) -> None:
    """`stats` reads the container's cgroups."""
    name = podman.start_sleeper()
    stats = json.loads(podman("stats", "--no-stream", "--format", "json", name).out)[0]
    assert stats["pids"] == "1"
    assert not stats["mem_usage"].startswith("0B")


def test_stop_ends_with_term_when_the_program_handles_it(podman: Podman) -> None:
    """`stop` sends SIGTERM first: a handler's exit code is kept."""
    script = "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.1; done"
    name = podman.run("-d", command=["sh", "-c", script]).out.strip()
    wait_until(lambda: podman("exec", name, "test", "-e", "/tmp/ready", code=None).code == 0, "the trap is set")
    podman("stop", "-t", "10", name)
    assert podman.inspect(name, "{{.State.ExitCode}}") == "5"


def test_start_works_again_when_stopped(podman: Podman) -> None:
    """A stopped container starts again under the same id."""
    name = podman.start_sleeper()
    podman("kill", name)
    podman("wait", name)
    podman("start", name)
    assert podman.inspect(name, "{{.State.Running}}") == "true"


def test_kill_ends_with_137_when_no_signal_is_named(podman: Podman) -> None:
    """`kill` sends SIGKILL, which shows as exit code 137."""
    name = podman.start_sleeper()
    podman("kill", name)
    assert podman("wait", name).out == "137\n"


def test_kill_delivers_the_named_signal_when_given(podman: Podman) -> None:
    """`kill -s USR1` reaches the program and does not end it."""
    script = "trap 'echo got >> /tmp/got' USR1; touch /tmp/ready; while :; do sleep 0.1; done"
    name = podman.run("-d", command=["sh", "-c", script]).out.strip()
    wait_until(lambda: podman("exec", name, "test", "-e", "/tmp/ready", code=None).code == 0, "the trap is set")
    podman("kill", "-s", "USR1", name)
    wait_until(lambda: podman("exec", name, "cat", "/tmp/got", code=None).out == "got\n", "the signal arrives")


def test_exec_is_refused_when_paused_and_works_when_resumed(podman: Podman) -> None:
    """`pause` freezes the container, `unpause` thaws it."""
    name = podman.start_sleeper()
    podman("pause", name)
    assert podman.inspect(name, "{{.State.Status}}") == "paused"
    assert podman("exec", name, "true", code=None).code != 0
    podman("unpause", name)
    assert podman("exec", name, "echo", "thawed").out == "thawed\n"


def test_inspect_agrees_with_the_runtime_when_running(podman: Podman) -> None:
    """inspect names our runtime, and the pid is that of the container's first process."""
    name = podman.start_sleeper()
    assert podman.inspect(name, "{{.OCIRuntime}}") == str(podman.runtime.path)
    pid = int(podman.inspect(name, "{{.State.Pid}}"))
    host = podman.sandbox.run(["readlink", f"/proc/{pid}/ns/pid"]).out
    assert podman("exec", name, "readlink", "/proc/1/ns/pid").out == host


def test_rm_f_removes_the_container_when_running(podman: Podman) -> None:
    """`rm -f` ends and removes a running container."""
    name = podman.start_sleeper()
    podman("rm", "-f", "-t", "0", name)
    assert podman("container", "exists", name, code=1).code == 1


def test_build_runs_its_steps_when_given_a_containerfile(podman: Podman) -> None:
    """`build` runs each RUN through the runtime."""
    context = podman.sandbox.path("context")
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(f"FROM {podman.image}\nRUN echo built > /built\nRUN test -s /built\n")
    podman.runtime.forget()
    inside = "/run/c/context"
    podman("build", "--isolation", "oci", "--pull=never", "--network", "none", "-t", "localhost/built:1", inside)
    assert "run" in podman.runtime.verbs() or "create" in podman.runtime.verbs()
    assert podman("run", "--rm", "--network", "none", "localhost/built:1", "cat", "/built").out == "built\n"
    podman("rmi", "-f", "localhost/built:1")


def test_healthcheck_run_reports_health_when_asked(podman: Podman) -> None:
    """`healthcheck run` executes the check inside (there is no timer without systemd)."""
    options = ["-d", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"]
    name = podman.run(*options, command=["sleep", "1000"]).out.strip()
    assert podman("healthcheck", "run", name, code=1).code == 1
    podman("exec", name, "touch", "/tmp/well")
    podman("healthcheck", "run", name)
    assert podman.inspect(name, "{{.State.Health.Status}}") == "healthy"
