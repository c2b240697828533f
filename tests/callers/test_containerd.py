"""containerd's runc shim drives the runtime."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from callers.children import wait_until
from callers.containerd import Containerd
from callers.sandbox import CGROUP_ROOT


@pytest.fixture
def ctr(containerd: Containerd) -> Iterator[Containerd]:
    """ctr; all containers are removed and leaks looked for afterwards."""
    yield from containerd.one_test()


def test_run_prints_output_when_the_command_ends(ctr: Containerd) -> None:
    """`ctr run` shows the program's output, made by our runtime."""
    assert ctr.run("--rm", command=["echo", "hello"]).out == "hello\n"
    verbs = ctr.runtime.verbs()
    assert [verb for verb in ("create", "start", "delete") if verb in verbs] == ["create", "start", "delete"]


def test_run_returns_the_exit_code_when_the_program_gives_one(ctr: Containerd) -> None:
    """The program's own exit code is ctr's."""
    assert ctr.run("--rm", command=["sh", "-c", "exit 42"], code=42).code == 42


def test_run_shows_the_cause_when_the_program_is_missing(ctr: Containerd) -> None:
    """containerd passes the runtime's message on: it reads it from the JSON log."""
    result = ctr.run("--rm", command=["/bin/nosuch"], code=1)
    assert "no such file or directory" in result.err
    assert "/bin/nosuch" in result.err


def test_run_t_gives_a_terminal_when_on_a_pty(ctr: Containerd) -> None:
    """`ctr run -t` from a terminal."""
    argv = ctr.argv(*ctr.run_words("term", "--rm", "-t", command=["sh"]))
    code, screen = ctr.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 7\n", "sum=42")
    assert code == 7
    assert "/dev/pts/0" in screen or "/dev/console" in screen


def test_exec_runs_inside_when_the_task_runs(ctr: Containerd) -> None:
    """`task exec` enters the same namespaces and returns the exit code."""
    name = ctr.start_sleeper()
    script = "for kind in mnt pid ipc uts net; do readlink /proc/$1/ns/$kind; done"
    first = ctr.exec(name, "sh", "-c", script, "sh", "1").out
    assert ctr.exec(name, "sh", "-c", script, "sh", "self").out == first
    assert ctr.exec(name, "sh", "-c", "exit 9", code=9).code == 9


def test_exec_t_gives_a_terminal_when_on_a_pty(ctr: Containerd) -> None:
    """`task exec -t` from a terminal."""
    name = ctr.start_sleeper()
    argv = ctr.argv("task", "exec", "-t", "--exec-id", "term", name, "sh")
    code, screen = ctr.sandbox.run_in_pty(argv, "tty; echo sum=$((40+2)); exit 3\n", "sum=42")
    assert code == 3
    assert "/dev/pts/" in screen


def test_ps_lists_the_tasks_processes(ctr: Containerd) -> None:
    """`task ps` asks the runtime for its pids."""
    name = ctr.start(command=["sh", "-c", "sleep 1000 & exec sleep 1000"])
    wait_until(lambda: len(ctr("task", "ps", name).out.splitlines()) == 3, "both processes are listed")
    assert "ps" in ctr.runtime.verbs()


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 5)], ids=["kill", "term-with-handler"])
def test_kill_delivers_the_signal(ctr: Containerd, name: str, code: int) -> None:
    """`task kill` passes the signal; `task delete` says how the program ended."""
    script = "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.1; done"
    task = ctr.start(command=["sh", "-c", script])
    wait_until(lambda: ctr.exec(task, "test", "-e", "/tmp/ready", code=None).code == 0, "the trap is set")
    ctr("task", "kill", "-s", name, task)
    wait_until(lambda: ctr.status(task) == "STOPPED", "the task stops")
    assert f"exit with non-zero exit code {code}" in ctr("task", "delete", task).err


def test_kill_a_ends_every_process_when_the_pid_namespace_is_the_hosts(ctr: Containerd) -> None:
    """`task kill -a` reaches processes that init's death would leave alive."""
    script = "sleep 1001 & sleep 1002 & wait"
    name = ctr.start("--with-ns", f"pid:/proc/{ctr.sandbox.holder.pid}/ns/pid", command=["sh", "-c", script])
    wait_until(lambda: len(ctr("task", "ps", name).out.splitlines()) == 4, "all three processes are listed")
    ctr("task", "kill", "-a", "-s", "KILL", name)
    wait_until(lambda: ctr.status(name) == "STOPPED", "the task stops")


def test_pause_freezes_and_resume_thaws(ctr: Containerd) -> None:
    """`task pause` and `task resume`."""
    name = ctr.start_sleeper()
    ctr("task", "pause", name)
    assert ctr.status(name) == "PAUSED"
    assert "cannot exec in a paused" in ctr.exec(name, "true", code=1).err
    ctr("task", "resume", name)
    assert ctr.status(name) == "RUNNING"
    assert ctr.exec(name, "echo", "thawed").out == "thawed\n"


def test_metrics_report_memory_when_limited(ctr: Containerd) -> None:
    """`task metrics` finds the container's cgroup where the runtime was told to make it."""
    name = ctr.start_sleeper("--memory-limit", str(64 * 1024 * 1024))
    metrics = json.loads(ctr("task", "metrics", "--format", "json", name).out)
    memory = metrics["memory"]["usage"]
    assert int(memory["limit"]) == 64 * 1024 * 1024
    assert int(memory["usage"]) > 0


def test_memory_limit_is_in_the_kernel(ctr: Containerd) -> None:
    """The limit stands in the container's own cgroup, below containerd's namespace."""
    name = ctr.start_sleeper("--memory-limit", str(64 * 1024 * 1024))
    group = CGROUP_ROOT / "memory" / ctr.namespace / name
    known = group / "memory.limit_in_bytes"
    text = (known if known.exists() else CGROUP_ROOT / ctr.namespace / name / "memory.max").read_text()
    assert text.strip() == str(64 * 1024 * 1024)


def test_oom_is_reported_when_over_the_limit(ctr: Containerd) -> None:
    """Exit code 137, and containerd's oom event: it counts on the cgroup of the pid that the runtime gave."""
    events = ctr.watch_events()
    try:
        ctr.run("--rm", "--memory-limit", str(16 * 1024 * 1024), command=["tail", "/dev/zero"], code=137)
        wait_until(lambda: "/tasks/oom" in ctr.sandbox.path("events").read_text(), "an oom event")
    finally:
        events.send_signal(signal.SIGTERM)
        events.wait(timeout=10)


def test_run_env_cwd_and_read_only_reach_the_process(ctr: Containerd) -> None:
    """The options of `ctr run` that end in config.json's process."""
    script = "echo $MARK; pwd; touch /x 2>/dev/null && echo wrote"
    options = ["--rm", "--env", "MARK=m", "--cwd", "/data", "--read-only"]
    assert ctr.run(*options, command=["sh", "-c", script], code=1).out.split() == ["m", "/data"]


def test_privileged_and_seccomp_differ(ctr: Containerd) -> None:
    """--privileged clears the filter, --seccomp sets one."""
    grep = ["grep", "Seccomp:", "/proc/self/status"]
    assert ctr.run("--rm", "--seccomp", command=grep).out.split()[1] == "2"
    assert ctr.run("--rm", "--privileged", command=grep).out.split()[1] == "0"


def test_containers_run_side_by_side(ctr: Containerd) -> None:
    """Several at once under one daemon do not disturb one another."""
    names = [ctr.start_sleeper() for _ in range(3)]
    assert [ctr.status(name) for name in names] == ["RUNNING"] * 3
    ctr("task", "kill", "-s", "KILL", names[0])
    wait_until(lambda: ctr.status(names[0]) == "STOPPED", "the first stops")
    assert [ctr.status(name) for name in names[1:]] == ["RUNNING"] * 2


def test_cpus_and_shares_are_in_the_kernel(ctr: Containerd) -> None:
    """--cpus and --cpu-shares stand in the container's own cgroup."""
    name = ctr.start_sleeper("--cpus", "0.5", "--cpu-shares", "512")
    v1 = CGROUP_ROOT / "cpu" / ctr.namespace / name
    if v1.exists():
        assert (v1 / "cpu.cfs_quota_us").read_text().strip() == "50000"
        assert (v1 / "cpu.shares").read_text().strip() == "512"
    else:
        assert (CGROUP_ROOT / ctr.namespace / name / "cpu.max").read_text().split() == ["50000", "100000"]


def test_uidmap_maps_ids_when_given(ctr: Containerd) -> None:
    """--uidmap and --gidmap make a user namespace on a remapped snapshot."""
    options = ["--rm", "--uidmap", "0:300000:1000", "--gidmap", "0:300000:1000"]
    assert ctr.run(*options, command=["cat", "/proc/self/uid_map"]).out.split() == ["0", "300000", "1000"]


def test_capabilities_and_device_when_added(ctr: Containerd) -> None:
    """--cap-add and --device reach the process."""
    options = ["--rm", "--cap-add", "CAP_SYS_TIME", "--device", "/dev/fuse"]
    script = "grep CapEff /proc/self/status; test -c /dev/fuse && echo there"
    out = ctr.run(*options, command=["sh", "-c", script]).out.split()
    assert int(out[1], 16) >> 25 & 1 == 1
    assert out[2] == "there"
