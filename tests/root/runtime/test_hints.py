"""What the kernel refuses is told with the place in the configuration, and with the way out where there is one."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from conformance.harness import Bundle, Runtime
from conformance.spec import add_namespace

pytestmark = pytest.mark.requires("root", "busybox", "cc")


def missing_cwd(spec: dict[str, Any]) -> None:
    """A working directory that cannot be made."""
    spec["root"]["readonly"] = True
    spec["process"]["cwd"] = "/nosuch/folder"


def cpus_beyond_all(spec: dict[str, Any]) -> None:
    """CPUs that no kernel counts to here."""
    spec["linux"].setdefault("resources", {})["cpu"] = {"cpus": "0-4000"}


def missing_hook(spec: dict[str, Any]) -> None:
    """A hook that is not there."""
    spec["hooks"] = {"createRuntime": [{"path": "/nosuch/hook"}]}


def missing_namespace(spec: dict[str, Any]) -> None:
    """The second of two namespaces by path is gone."""
    add_namespace(spec, "ipc", "/proc/self/ns/ipc")
    add_namespace(spec, "network", "/nosuch/netns")


def other_namespace(spec: dict[str, Any]) -> None:
    """A file of another namespace's kind."""
    add_namespace(spec, "network", f"/proc/{os.getpid()}/ns/uts")


@pytest.mark.parametrize(
    ("edit", "pointer", "hint"),
    [
        (missing_cwd, "process.cwd", "add it to the image, or choose another process.cwd"),
        (cpus_beyond_all, "linux.resources.cpu.cpus", "/sys/devices/system/cpu/online"),
        (missing_hook, "hooks.createRuntime[0]", "hooks are looked up on the host"),
        (missing_namespace, "linux.namespaces[{last}].path", "the process that held it has ended"),
        (other_namespace, "linux.namespaces[{last}].path", "a namespace of another type"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refusal_names_its_place_and_the_way_out(
    runtime: Runtime, bundle: Bundle, edit: Any, pointer: str, hint: str
) -> None:
    """The pointer leads to what was asked for; the hint says what to do about it."""
    edit(bundle.spec)
    done = runtime.refuse(bundle)
    last = len(bundle.linux["namespaces"]) - 1
    assert f"(config {pointer.format(last=last)}" in done.stderr
    assert hint in done.stderr.rpartition("\nhint: ")[2]


def test_unknown_cgroup_manager_is_told_with_all_choices(runtime: Runtime, bundle: Bundle) -> None:
    """`disabled` is one of them."""
    runtime.driver_args = ["--cgroup-manager", "podman"]
    runtime.refuse(bundle, "'podman'", "cgroupfs", "systemd", "disabled")


@pytest.mark.parametrize(
    ("given", "told"), [("4294967295", "beyond 4294967294"), ("0:9999999999999", "beyond"), ("nobody", "not a number")]
)
def test_id_that_the_kernel_cannot_count_is_told_from_a_name(
    runtime: Runtime, bundle: Bundle, given: str, told: str
) -> None:
    """`exec --user` with a number too large is not "no number"."""
    with runtime.start(bundle) as container:
        done = container.exec("/bin/true", flags=["--user", given], check=False)
    assert (done.returncode, repr(given) in done.stderr, told in done.stderr) == (255, True, True)


def test_paused_container_is_deleted_by_force_only(runtime: Runtime, bundle: Bundle) -> None:
    """A created container goes without --force, unless somebody paused it: as with runc."""
    with runtime.create(bundle) as container:
        container.command("pause")
        done = container.delete(check=False)
        assert (done.returncode, "not stopped: paused" in done.stderr) == (1, True)
        assert container.status == "paused"
        container.command("resume")
        container.delete()
    with runtime.create(bundle) as container:
        container.command("pause")
        container.delete("--force")


def test_empty_state_root_is_none_for_every_command(runtime: Runtime, bundle: Bundle) -> None:
    """Commands in C and in Python look in the same place: the one that both take without --root."""
    words = [(*root, *rest) for root in ((), ("--root", "")) for rest in (("state", "no-such"), ("ps", "no-such"))]
    told = [run_plainly(runtime, *given) for given in words]
    assert ["does not exist" in text for text in told] == [True] * 4


def test_relative_state_root_is_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    """For commands in C and in Python alike: from the caller's own directory."""
    with runtime.start(bundle) as container:
        for command in ("state", "ps"):
            words = [runtime.path, "--root", runtime.root.name, command, container.id]
            done = subprocess.run(words, cwd=runtime.root.parent, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, "")


def run_plainly(runtime: Runtime, *words: str) -> str:
    """What the runtime says to these very words."""
    return subprocess.run([runtime.path, *words], capture_output=True, text=True, timeout=60).stderr
