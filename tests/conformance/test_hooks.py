"""The six kinds of hooks: when, where, with what on standard input, and what a failure does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Runtime, namespace_of, unique_id, wait_until
from conformance.runtimes import needs
from conformance.spec import add_bind

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
RUNTIME_KINDS = ["prestart", "createRuntime", "poststart", "poststop"]
CONTAINER_KINDS = ["createContainer", "startContainer"]
# What `run` has told by its end: prestart and poststop of a foreground run are of this.
STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}


def hook(script: str, **more: Any) -> dict[str, Any]:
    """A hook that runs a shell script, with the hook's own environment only."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


def shared_log(bundle: Bundle) -> Path:
    """A directory with the same path on the host and in the container: hooks of all kinds can write there."""
    log = bundle.host_dir("log")
    log.chmod(0o777)
    inside = bundle.rootfs / str(log).lstrip("/")
    inside.mkdir(parents=True)
    add_bind(bundle.spec, str(log), str(log))
    return log


LATE = pytest.param("poststart", marks=needs("poststart-after-start"))


@pytest.mark.parametrize("kind", [*KINDS[:4], LATE, "poststop"])
def test_hook_gets_the_state_on_standard_input(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Each hook reads the container's state: id, status, pid, bundle, annotations."""
    log = shared_log(bundle)
    bundle.spec["annotations"] = {"k": "v"}
    bundle.spec["hooks"] = {kind: [hook(f"cat > {log}/state")]}
    runtime.run(bundle, "true")
    state = json.loads((log / "state").read_text())
    assert state["status"] == STATUS[kind]
    assert state["id"].startswith("ct")
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"] == {"k": "v"}
    assert state["ociVersion"].startswith("1.")
    assert (state.get("pid", 0) > 0) == (kind != "poststop")


@needs("poststart-after-start")
def test_hooks_run_in_the_order_of_the_specification(runtime: Runtime, bundle: Bundle) -> None:
    """prestart, createRuntime, createContainer, startContainer, (program), poststart, poststop."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {kind: [hook(f"echo {kind} >> {log}/order")] for kind in reversed(KINDS)}
    # The program waits for poststart: it would race with it otherwise.
    waiting = f"for i in $(seq 500); do grep -q poststart {log}/order && exit; sleep 0.01; done"
    runtime.run(bundle, waiting)
    assert (log / "order").read_text().split() == KINDS


def test_hooks_before_the_program_run_in_their_order(runtime: Runtime, bundle: Bundle) -> None:
    """prestart, createRuntime, createContainer, startContainer, (program), poststop."""
    log = shared_log(bundle)
    kinds = [kind for kind in KINDS if kind != "poststart"]
    bundle.spec["hooks"] = {kind: [hook(f"echo {kind} >> {log}/order")] for kind in reversed(kinds)}
    runtime.run(bundle, f"echo program >> {log}/order")
    assert (log / "order").read_text().split() == [*kinds[:4], "program", "poststop"]


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_a_kind_run_in_the_order_of_the_list(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Several hooks of one kind run one after the other."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {kind: [hook(f"echo {n} >> {log}/order") for n in (1, 2, 3)]}
    runtime.run(bundle, "true")
    assert (log / "order").read_text().split() == ["1", "2", "3"]


@needs("poststart-after-start")
def test_create_runs_its_hooks_and_start_the_others(runtime: Runtime, bundle: Bundle) -> None:
    """After `create`, the hooks of create have run; startContainer and poststart wait for `start`."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {kind: [hook(f"echo {kind} >> {log}/order")] for kind in KINDS}
    with runtime.create(bundle, "exec sleep 1000") as c:
        assert (log / "order").read_text().split() == KINDS[:3]
        c.start()
        assert (log / "order").read_text().split() == KINDS[:5]
        c.delete("--force")
        assert (log / "order").read_text().split() == KINDS


@pytest.mark.parametrize("kind", RUNTIME_KINDS)
def test_hook_runs_in_the_namespaces_of_the_runtime(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """prestart, createRuntime, poststart and poststop see the host's mounts and pids."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {kind: [hook(f"readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/uts > {log}/ns")]}
    runtime.run(bundle, "true")
    expected = [namespace_of("self", name) for name in ("mnt", "pid", "uts")]
    assert (log / "ns").read_text().split() == expected


@pytest.mark.parametrize("kind", CONTAINER_KINDS)
def test_hook_runs_in_the_namespaces_of_the_container(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """createContainer and startContainer run in the container's mount and uts namespaces."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {kind: [hook(f"readlink /proc/self/ns/uts > {log}/ns")]}
    with runtime.create(bundle, "exec sleep 1000") as c:
        uts = namespace_of(c.pid, "uts")
        c.start()
        assert (log / "ns").read_text().strip() == uts


def test_create_container_hook_is_before_the_pivot(runtime: Runtime, bundle: Bundle) -> None:
    """createContainer's program is the host's; the rootfs is mounted at its path by then."""
    log = shared_log(bundle)
    (bundle.rootfs / "mark").touch()
    bundle.spec["hooks"] = {"createContainer": [hook(f"ls {bundle.rootfs}/mark > {log}/seen")]}
    runtime.run(bundle, "true")
    assert (log / "seen").read_text() == f"{bundle.rootfs}/mark\n"


def test_start_container_hook_is_after_the_pivot(runtime: Runtime, bundle: Bundle) -> None:
    """startContainer's program is the container's: path is resolved there."""
    (bundle.rootfs / "own-hook").write_text("#!/bin/sh\ncat > /seen\n")
    (bundle.rootfs / "own-hook").chmod(0o755)
    bundle.spec["hooks"] = {"startContainer": [{"path": "/own-hook"}]}
    assert "created" in runtime.run(bundle, "cat /seen").stdout


def test_hook_of_create_can_mount_into_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """What createContainer mounts below the rootfs is seen by the program, and not by the host."""
    script = f"mount -t tmpfs hooked {bundle.rootfs}/mnt && touch {bundle.rootfs}/mnt/mark"
    bundle.spec["hooks"] = {"createContainer": [hook(script)]}
    assert runtime.run(bundle, "ls /mnt").stdout == "mark\n"
    assert os.listdir(bundle.rootfs / "mnt") == []


def test_hook_has_its_arguments_and_environment(runtime: Runtime, bundle: Bundle) -> None:
    """args, from argv[0] on, and env are exactly what the config says."""
    log = shared_log(bundle)
    entry = hook(f'echo "$0:$1" > {log}/args; env > {log}/env')
    entry["args"] += ["one two"]
    entry["args"][3:3] = ["zero"]
    entry["env"] = ["PATH=/bin:/usr/bin", "K=v w"]
    bundle.spec["hooks"] = {"createRuntime": [entry]}
    runtime.run(bundle, "true", env={"LEAK": "1"})
    assert (log / "args").read_text() == "zero:one two\n"
    names = dict(line.split("=", 1) for line in (log / "env").read_text().splitlines())
    assert names["K"] == "v w"
    assert set(names) <= {"PATH", "K", "PWD", "SHLVL", "_", "OLDPWD"}


def test_hook_pid_is_the_init(runtime: Runtime, bundle: Bundle) -> None:
    """The pid in the hook's state is the init's, as the host counts."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {"createRuntime": [hook(f"cat > {log}/state")]}
    with runtime.create(bundle, "true") as c:
        assert json.loads((log / "state").read_text())["pid"] == c.pid


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_namespaces_exist_when_the_hook_runs(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A network plugin finds the container's network namespace through the pid it is given."""
    log = shared_log(bundle)
    bundle.linux["namespaces"].append({"type": "network"})
    script = f'p=$(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/"); readlink /proc/$p/ns/net > {log}/net'
    bundle.spec["hooks"] = {kind: [hook(script)]}
    with runtime.create(bundle, "true") as c:
        assert (log / "net").read_text().strip() == namespace_of(c.pid, "net") != namespace_of("self", "net")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_limits_are_set_when_the_hook_runs(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """The hooks of create see the container's limits in its cgroup."""
    log = shared_log(bundle)
    bundle.resources["pids"] = {"limit": 77}
    path = cgroups.path_of(bundle.linux["cgroupsPath"])
    files = f"/sys/fs/cgroup/pids{path}/pids.max /sys/fs/cgroup{path}/pids.max"
    bundle.spec["hooks"] = {kind: [hook(f"cat {files} > {log}/max; true")]}
    runtime.run(bundle, "true")
    assert (log / "max").read_text() == "77\n"


@pytest.mark.parametrize("kind", KINDS[:4])
def test_failing_hook_ends_the_container(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A hook before the program that exits non-zero: an error, the program never runs, nothing stays."""
    bundle.spec["hooks"] = {kind: [hook("echo broken hook >&2; exit 5")]}
    done = runtime.refuse(bundle)
    assert "exit status 5" in done.stderr or "5" in done.stderr


@pytest.mark.parametrize("kind", KINDS[:4])
def test_missing_hook_program_ends_the_container(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A hook whose program is not there is named in the error."""
    bundle.spec["hooks"] = {kind: [{"path": "/no/such/hook"}]}
    runtime.refuse(bundle, "/no/such/hook", "no such file or directory")


def test_failing_hook_stops_the_later_ones(runtime: Runtime, bundle: Bundle) -> None:
    """After a failure, no further hook of create runs."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {"createRuntime": [hook("exit 1"), hook(f"touch {log}/second")]}
    runtime.refuse(bundle)
    assert os.listdir(log) == []


def test_failing_create_hook_runs_poststop(runtime: Runtime, bundle: Bundle) -> None:
    """A create that its hooks have failed is undone as a delete is: with poststop."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {"createRuntime": [hook("exit 1")], "poststop": [hook(f"touch {log}/stopped")]}
    runtime.refuse(bundle)
    assert os.listdir(log) == ["stopped"]


@needs("poststart-failure")
def test_failing_poststart_stops_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """Since 1.3 a failing poststart is an error of start, and the container is stopped."""
    bundle.spec["hooks"] = {"poststart": [hook("exit 1")]}
    with runtime.create(bundle, "exec sleep 1000") as c:
        assert c.command("start", check=False).returncode != 0
        assert c.wait() == 137
        assert c.status == "stopped"


@needs("poststop-continues")
def test_failing_poststop_does_not_hinder_delete(runtime: Runtime, bundle: Bundle) -> None:
    """poststop's failure is told, the container goes all the same, and later hooks run."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {"poststop": [hook("exit 1"), hook(f"touch {log}/second")]}
    with runtime.create(bundle, "true") as c:
        c.delete("--force", check=False)
        assert os.listdir(log) == ["second"]
        assert c.command("state", check=False).returncode == 1


@pytest.mark.parametrize("kind", KINDS[:4])
def test_hook_that_exceeds_its_timeout_is_killed(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """timeout is in seconds; a hook that takes longer is ended, and fails."""
    bundle.spec["hooks"] = {kind: [hook("exec sleep 1000", timeout=1)]}
    began = time.monotonic()
    runtime.refuse(bundle)
    assert 0.9 <= time.monotonic() - began < 20


def test_hook_within_its_timeout_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    """A timeout that is not reached has no effect."""
    bundle.spec["hooks"] = {"createRuntime": [hook("exit 0", timeout=20)]}
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"


def test_hook_that_does_not_read_its_input_is_no_error(runtime: Runtime, bundle: Bundle) -> None:
    """A hook may close standard input at once, however long the state is."""
    bundle.spec["annotations"] = {f"key{n}": "x" * 1000 for n in range(200)}
    bundle.spec["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"


def test_poststop_runs_once(runtime: Runtime, bundle: Bundle) -> None:
    """Two deletes run poststop once."""
    log = shared_log(bundle)
    bundle.spec["hooks"] = {"poststop": [hook(f"echo x >> {log}/count")]}
    with runtime.create(bundle, "true") as c:
        c.delete("--force")
        c.delete("--force")
    assert (log / "count").read_text() == "x\n"


def test_poststop_finds_no_process_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """By poststop, the container's processes have ended."""
    log = shared_log(bundle)
    with runtime.create(bundle, "true") as c:
        pid = c.pid
        c.delete("--force")
    bundle.linux["cgroupsPath"] += "b"
    check = f"p=$(cat {log}/pid); s=$(cut -d' ' -f3 /proc/$p/stat 2>/dev/null); echo \"$p:$s\" > {log}/seen"
    bundle.spec["hooks"] = {"createRuntime": [], "poststop": [hook(check)]}
    with runtime.start(bundle) as c:
        (log / "pid").write_text(str(c.pid))
        c.delete("--force")
        seen = (log / "seen").read_text().strip()
        assert seen in (f"{c.pid}:", f"{c.pid}:Z")
        assert c.pid != pid


def test_hooks_see_their_container_in_state(runtime: Runtime, bundle: Bundle) -> None:
    """While createRuntime hooks run, the container cannot be made a second time."""
    log = shared_log(bundle)
    name = unique_id()
    again = " ".join(runtime.argv("create", "--bundle", str(bundle.path), name))
    once = f"[ -e {log}/rc ] || {{ : > {log}/rc; {again}; echo $? > {log}/rc; }}"
    bundle.spec["hooks"] = {"createRuntime": [hook(once, env=["PATH=/bin:/usr/bin:/sbin:/usr/sbin"])]}
    with runtime.create(bundle, "true", id=name) as c:
        assert c.status == "created"
    wait_until(lambda: (log / "rc").read_text(), "the second create has ended")
    assert (log / "rc").read_text() != "0\n"
