"""podman as an unprivileged user drives the runtime inside its user namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from callers.podman import Podman


@pytest.fixture
def podman(podman_rootless: Podman) -> Iterator[Podman]:
    """podman as the user `caller`; all containers are removed and leaks looked for afterwards."""
    yield from podman_rootless.one_test()


def test_run_prints_output_when_rootless(podman: Podman) -> None:
    """`run --net=none` works without any privilege, through our runtime."""
    assert podman.run("--rm", command=["echo", "hello"]).out == "hello\n"
    assert {"create", "start", "delete"} <= set(podman.runtime.verbs())


def test_run_returns_the_exit_code_when_rootless(podman: Podman) -> None:
    """The program's own exit code is podman's."""
    assert podman.run("--rm", command=["sh", "-c", "exit 42"], code=42).code == 42


def test_run_maps_the_user_to_root_when_rootless(podman: Podman) -> None:
    """Inside, root is the user; further ids come from its subordinate range."""
    out = podman.run("--rm", command=["sh", "-c", "id -u; cat /proc/self/uid_map"]).out.split()
    assert out == ["0", "0", "54321", "1", "1", "200000", "65536"]


def test_run_as_another_user_when_rootless(podman: Podman) -> None:
    """`--user` takes an id from the subordinate range, with its groups."""
    out = podman.run("--rm", "--user", "1000:1000", "--group-add", "77", command=["sh", "-c", "id -u; id -G"]).out
    assert out.split() == ["1000", "1000", "77"]


def test_exec_runs_inside_when_rootless(podman: Podman) -> None:
    """`exec` joins the user namespace and all the others."""
    name = podman.start_sleeper()
    podman("exec", name, "sh", "-c", "echo mark > /tmp/mark")
    assert podman("exec", name, "cat", "/tmp/mark").out == "mark\n"
    script = "for kind in user mnt pid ipc uts net; do readlink /proc/$1/ns/$kind; done"
    first = podman("exec", name, "sh", "-c", script, "sh", "1").out
    assert podman("exec", name, "sh", "-c", script, "sh", "self").out == first


def test_exec_returns_the_shells_code_when_the_program_is_missing(podman: Podman) -> None:
    """127 is read from the runtime's message."""
    name = podman.start_sleeper()
    assert podman("exec", name, "/bin/nosuch", code=127).code == 127


def test_run_it_gives_a_terminal_when_rootless(podman: Podman) -> None:
    """`run -it` from a terminal."""
    argv = podman.argv(*podman.run_words("--rm", "-it", command=["sh"]))
    code, screen = podman.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 7\n", "sum=42", user=podman.user)
    assert code == 7
    assert "/dev/pts/0" in screen or "/dev/console" in screen


def test_logs_and_wait_work_when_rootless(podman: Podman) -> None:
    """A detached container's log and exit code are kept."""
    name = podman.run("-d", command=["sh", "-c", "echo out; exit 3"]).out.strip()
    assert podman("wait", name).out == "3\n"
    assert podman("logs", name).out == "out\n"


def test_stop_start_and_kill_work_when_rootless(podman: Podman) -> None:
    """The life cycle without privilege."""
    name = podman.start_sleeper()
    podman("stop", "-t", "0", name)
    assert podman.inspect(name, "{{.State.Status}}") == "exited"
    podman("start", name)
    assert podman.inspect(name, "{{.State.Status}}") == "running"
    podman("kill", name)
    assert podman("wait", name).out == "137\n"


def test_top_lists_processes_when_rootless(podman: Podman) -> None:
    """`top` finds the container's processes."""
    name = podman.start_sleeper()
    assert "sleep" in podman("top", name, "comm", "pid").out


def test_read_only_tmpfs_and_volume_when_rootless(podman: Podman) -> None:
    """Mount options within a user namespace."""
    shared = podman.sandbox.path("home/shared")
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    script = "touch /x 2>/dev/null && echo wrote; touch /scratch/x && touch /shared/back && echo done"
    options = ["--rm", "--read-only", "--tmpfs", "/scratch", "-v", "/run/c/home/shared:/shared"]
    assert podman.run(*options, command=["sh", "-c", script]).out == "done\n"
    assert (shared / "back").stat().st_uid == 54321


def test_healthcheck_run_reports_health_when_rootless(podman: Podman) -> None:
    """`healthcheck run` executes the check inside."""
    options = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"]
    name = podman.start_sleeper(*options)
    assert podman("healthcheck", "run", name, code=1).code == 1
    podman("exec", name, "touch", "/tmp/well")
    podman("healthcheck", "run", name)


def test_build_runs_its_steps_when_rootless(podman: Podman) -> None:
    """`build --network none` runs each RUN through the runtime."""
    context = podman.sandbox.path("home/context")
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(f"FROM {podman.image}\nRUN echo built > /built\n")
    podman.runtime.forget()
    options = ["--isolation", "oci", "--pull=never", "--network", "none", "-t", "localhost/built:1"]
    podman("build", *options, "/run/c/home/context")
    assert podman.runtime.verbs() != []
    assert podman("run", "--rm", "--network", "none", "localhost/built:1", "cat", "/built").out == "built\n"
    podman("rmi", "-f", "localhost/built:1")


def test_inspect_names_the_runtime_when_rootless(podman: Podman) -> None:
    """inspect names our runtime, and rootless is what podman says of itself."""
    name = podman.start_sleeper()
    assert podman.inspect(name, "{{.OCIRuntime}}") == str(podman.runtime.path)
    assert json.loads(podman("info", "--format", "json").out)["host"]["security"]["rootless"] is True
