"""Containers of the engine as units of a real systemd: where they are, their limits, their end, and nothing left.

Whatever the cell's driver is: an engine asks for systemd container by container.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup.layout import read_layout
from root.engine.conftest import Engine, eventually
from root.engine.conftest import engine as engine
from root.engine.test_s4_truth import keeper_pid, monitor_of

pytestmark = [pytest.mark.requires("root"), pytest.mark.usefixtures("no_leaks")]

MIB = 1 << 20
LIMITS = {"memory_bytes": 64 * MIB, "memory_swap_bytes": 64 * MIB, "pids": 50}
# What the unit's own limits exceed the container's by, for the process that holds it.
ALLOWANCE = {"MemoryMax": 16 * MIB, "MemoryLimit": 16 * MIB, "TasksMax": 8}


def unit_of(container: str) -> str:
    """The scope's name."""
    return f"corral-{container}.scope"


def shown(unit: str, name: str) -> str:
    """A property of a unit, as systemd tells it."""
    command = ["systemctl", "show", "--value", f"--property={name}", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def await_forgotten(unit: str) -> None:
    """Wait until systemd knows no such unit any more."""
    try:
        eventually(lambda: shown(unit, "LoadState") == "not-found")
    except AssertionError:
        names = ("LoadState", "ActiveState", "SubState", "Result", "FreezerState", "Job", "ControlGroup")
        told = {name: shown(unit, name) for name in names}
        groups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{unit}*")]
        left = [path.read_text() for path in Path("/sys/fs/cgroup").rglob(f"{unit}/**/cgroup.procs")]
        raise AssertionError(f"systemd still knows {unit}: {told}, groups {groups} with {left}") from None


def leaf_of(container: str, controller: str) -> Path:
    """The container's own group for this controller, in its scope."""
    hierarchy = read_layout().hierarchy_for(controller)
    assert hierarchy is not None
    return Path(f"{hierarchy.mount_point}/system.slice/{unit_of(container)}/container")


def limit(container: str, v1: str, v2: str) -> int:
    """A limit as it stands in the kernel."""
    hierarchy = read_layout().hierarchy_for(v2.partition(".")[0])
    assert hierarchy is not None
    return int((leaf_of(container, v2.partition(".")[0]) / (v1 if hierarchy.version == 1 else v2)).read_text())


def limits(container: str) -> dict[str, int]:
    """Those of ``LIMITS`` that one can read back everywhere."""
    return {
        "memory_bytes": limit(container, "memory.limit_in_bytes", "memory.max"),
        "pids": limit(container, "pids.max", "pids.max"),
    }


@pytest.fixture
def scoped(engine: Engine) -> Iterator[Engine]:
    """An engine whose containers of this test are all to be forgotten by systemd at its end."""
    yield engine
    units = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "corral-*.scope"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    engine.close()
    for unit in (line.split()[0] for line in units.stdout.splitlines()):
        await_forgotten(unit)


def start(engine: Engine, *command: str, **members: object) -> str:
    """Run a container in a scope of its own."""
    return engine.run(*command, cgroup_manager="systemd", **members)


def test_container_lives_in_a_scope_and_leaves_no_unit_behind(scoped: Engine) -> None:
    """run, exec, pause, unpause, stop, start, rm: the unit is there while it runs, and unknown afterwards."""
    container = start(scoped, "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(lambda: scoped.output(container) == [b"ready"])
    assert shown(unit_of(container), "ActiveState") == "active"
    assert str(scoped.pid(container)) in (leaf_of(container, "pids") / "cgroup.procs").read_text().split()

    done = scoped.call("exec", container, {"command": ["sh", "-c", "exit 5"]})
    assert done["exit"]["code"] == 5
    scoped.call("pause", container)
    assert scoped.look(container).status == "paused"
    scoped.call("unpause", container)
    assert scoped.call("stop", container)["exit"]["code"] == 7
    await_forgotten(unit_of(container))

    scoped.call("start", container)
    assert shown(unit_of(container), "ActiveState") == "active"
    scoped.call("rm", container, force=True)
    await_forgotten(unit_of(container))
    assert not leaf_of(container, "pids").parent.exists()


def test_limits_are_in_effect_and_outlive_a_reload_when_they_are_changed(scoped: Engine) -> None:
    """Exact on the container's group, wider by the allowance on the unit; systemd's reload reverts neither."""
    container = start(scoped, "sleep", "1000", resources=LIMITS)
    assert limits(container) == {"memory_bytes": 64 * MIB, "pids": 50}
    scoped.call(
        "update", container, {"resources": {"memory_bytes": 96 * MIB, "memory_swap_bytes": 96 * MIB, "pids": 70}}
    )
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=120)
    assert limits(container) == {"memory_bytes": 96 * MIB, "pids": 70}
    memory = "MemoryMax" if read_layout().mode == "v2" else "MemoryLimit"
    assert {name: int(shown(unit_of(container), name)) for name in (memory, "TasksMax")} == {
        memory: 96 * MIB + ALLOWANCE[memory],
        "TasksMax": 70 + ALLOWANCE["TasksMax"],
    }


def test_container_is_in_the_slice_that_was_asked_for(scoped: Engine) -> None:
    """A parent that is a slice is enough: nobody names the driver then."""
    name = f"corralengine{os.getpid()}.slice"
    container = scoped.run("sleep", "1000", cgroup_parent=name)
    assert shown(unit_of(container), "Slice") == name
    assert shown(unit_of(container), "ControlGroup") == f"/{name}/{unit_of(container)}"


@pytest.mark.parametrize("killed", ["monitor", "keeper", "both"])
def test_code_is_true_and_no_unit_is_left_when_its_keepers_were_killed(scoped: Engine, killed: str) -> None:
    """SIGKILL of monitor, keeper or both: the container goes on in its scope, ends with its own code, and goes."""
    script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    container = start(scoped, "sh", "-c", script, resources=LIMITS)
    eventually(lambda: scoped.output(container) == [b"ready"])
    init = scoped.pid(container)
    pids = {"monitor": [monitor_of(scoped, container)], "keeper": [keeper_pid(scoped)]}
    chosen = pids.get(killed, [*pids["keeper"], *pids["monitor"]])
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in chosen:
            os.kill(pid, number)
    scoped.call("gc")
    assert (scoped.pid(container), scoped.look(container).status) == (init, "running")
    assert shown(unit_of(container), "ActiveState") == "active"
    assert limits(container) == {"memory_bytes": 64 * MIB, "pids": 50}

    scoped.call("kill", container, signal="USR1")
    ended = scoped.wait(container)
    # With both gone nobody held what init would tell its parent: then the code is unknown, and never a wrong one.
    assert ended.get("code") in ((9, None) if killed == "both" else (9,)), ended
    scoped.call("rm", container)
    await_forgotten(unit_of(container))


def test_command_line_takes_the_driver(scoped: Engine) -> None:
    """`corral run --cgroup-manager systemd`: the program sees its limit, and --rm leaves no unit."""
    script = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; cat /proc/self/cgroup"
    )
    command = ["corral", "--store", scoped.places.store, "run", "--rm", "--network", "none", "--name", "told"]
    command += ["--cgroup-manager", "systemd", "--memory", "64m", "host", "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(64 * MIB)
