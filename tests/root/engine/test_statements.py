"""S0 and S1 through the engine: its containers, and those who look after them, are where they were asked to be."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from conformance.cgroups import hierarchies, is_v2_only, membership
from corral.engine import programs
from corral.engine.keeper import keeper_pid_or_none, monitor_pid_or_none
from corral.errors import Unsupported
from root.engine.conftest import Engine, eventually
from root.engine.test_root import USERNS, image, run

pytestmark = pytest.mark.requires("root", "busybox")

__all__ = ["image"]

KINDS = pytest.mark.parametrize("members", [{}, USERNS], ids=["plain", "userns"])


def group_of(pid: int) -> set[str]:
    """The groups of a process, over all hierarchies that a container can be placed in."""
    mounted = hierarchies()
    return {path for name, path in membership(pid).items() if name in mounted or name == ""}


def pids(engine: Engine, container: str) -> set[int]:
    return {row["pid"] for row in engine.call("top", container)}


def monitor_of(engine: Engine, container: str) -> int:
    return monitor_pid_or_none(engine.places.container_run(container)) or 0


def charged(engine: Engine, container: str) -> dict[str, dict[str, Any]]:
    """The rows of `inspect`'s list, by who it is."""
    rows = engine.call("inspect", container)["charged"]
    found = {row["who"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@KINDS
def test_s0_1_init_and_execed_process_are_in_the_containers_group(
    engine: Engine, image: str, mark: str, members: dict[str, Any]
) -> None:
    """Below the parent that was asked for, in every hierarchy, with a user namespace and without."""
    container = run(engine, image, "sleep", "1000", cgroup_parent=f"/{mark}/pod", **members)
    init = engine.pid(container)
    engine.call("exec", container, {"command": ["sleep", "1000"]}, is_detached=True)
    (other,) = pids(engine, container) - {init}
    place = {f"/{mark}/pod/{container}"}
    assert (group_of(init), group_of(other)) == (place, place)


def test_s0_6_pipes_can_be_opened_anew_and_the_place_is_right(engine: Engine, image: str, mark: str) -> None:
    """With a user namespace the output's pipe is its root's; it can be opened anew, also for a new monitor."""
    script = "while echo again > /proc/1/fd/1; do sleep 0.1; done; exit 9"
    container = run(engine, image, "sh", "-c", script, **USERNS)
    init = engine.pid(container)
    status = os.stat(f"/proc/{init}/fd/1")
    assert (status.st_uid, status.st_gid) == (100000, 100000)
    eventually(lambda: engine.output(container))
    first = monitor_of(engine, container)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: monitor_of(engine, container) not in (0, first))
    before = len(engine.output(container))
    eventually(lambda: len(engine.output(container)) > before + 1)
    assert (engine.pid(container), group_of(init)) == (init, {f"/{mark}/{container}"})


def test_s0_7_programs_that_run_are_those_installed(engine: Engine) -> None:
    """Keeper and monitor are what was found, byte for byte; they run from sealed copies of it."""
    container = engine.run("sleep", "1000")
    running = {"corral-keeper": keeper_pid_or_none(engine.places), "corral-monitor": monitor_of(engine, container)}
    for name, pid in running.items():
        assert Path(f"/proc/{pid}/exe").read_bytes() == Path(programs.find_program(name)).read_bytes()


def test_s0_8_limits_stand_in_the_containers_group(engine: Engine) -> None:
    """What was asked for is what the kernel has, and what `inspect --effective` says."""
    container = engine.run("sleep", "1000", resources={"memory_bytes": 50 << 20, "pids": 77, "cpu_quota_us": 50_000})
    shown = {row["name"]: row for row in engine.call("inspect", container, effective=True)["effective"]}
    assert {name: shown[name]["standing"] for name in ("memory.max", "pids.max")} == {
        "memory.max": str(50 << 20),
        "pids.max": "77",
    }
    in_kernel = {
        file.name: file.read_text().strip()
        for group in engine.groups(container)
        for file in group.iterdir()
        if file.name in ("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.cfs_quota_us")
    }
    if is_v2_only():
        assert in_kernel == {"memory.max": str(50 << 20), "pids.max": "77", "cpu.max": "50000 100000"}
    else:
        assert in_kernel == {"memory.limit_in_bytes": str(50 << 20), "pids.max": "77", "cpu.cfs_quota_us": "50000"}


def test_s0_10_who_is_charged_where_is_listed(engine: Engine, mark: str) -> None:
    """Container, monitors and keeper, each with the groups that the kernel names; nobody is where the caller is."""
    container = engine.run("sleep", "1000")
    engine.call("exec", container, {"command": ["sleep", "1000"]}, is_detached=True)
    found = charged(engine, container)
    assert found["container"]["pids"] == sorted(pids(engine, container))
    assert set(found["container"]["cgroups"]) == {f"/{mark}/{container}"}
    assert len(found["monitor"]["pids"]) == 2
    assert found["keeper"]["pids"] == [keeper_pid_or_none(engine.places)]
    for row in found.values():
        for pid in row["pids"]:
            kernel = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in read(f"/proc/{pid}/cgroup")}
            assert {name: path for path, names in row["cgroups"].items() for name in names} == kernel
    # Their memory and processor time count as the engine's. On v1 nothing pins them to processors.
    for who in ("monitor", "keeper"):
        assert f"/{mark}/holder" in found[who]["cgroups"]


def read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def test_s1_1_groups_are_read_only_by_default(engine: Engine, image: str) -> None:
    """A container cannot make a group; nothing says that it may."""
    script = "cd /sys/fs/cgroup; cd pids 2>/dev/null; mkdir x; sleep 1000"
    container = run(engine, image, "sh", "-c", script)
    eventually(lambda: engine.output(container))
    assert engine.output(container)[0].endswith(b"Read-only file system")
    assert engine.call("inspect", container)["delegated_controllers"] is None


@pytest.mark.requires("cgroup-v2-only")
def test_s1_2_and_s1_15_grant_works_and_is_reported(engine: Engine, image: str) -> None:
    """A child can be made, entered and limited at once; `inspect` names the controllers that the kernel gave."""
    script = (
        "cd /sys/fs/cgroup && mkdir x && echo 7 > x/pids.max && echo 0 > x/cgroup.procs && cat x/pids.max; sleep 1000"
    )
    container = run(engine, image, "sh", "-c", script, security={"writable_cgroups": True}, **USERNS)
    eventually(lambda: engine.output(container))
    assert engine.output(container) == [b"7"]
    (top,) = engine.groups(container)
    given = (top / "cgroup.subtree_control").read_text().split()
    assert "pids" in given
    assert engine.call("inspect", container)["delegated_controllers"] == given


@pytest.mark.requires("cgroup-v1")
def test_s1_5_grant_is_refused_where_it_cannot_be_safe(engine: Engine) -> None:
    """On v1 and hybrid hosts, when it is asked for and not when it starts; no container is left of the attempt."""
    with pytest.raises(Unsupported, match="only cgroup v2 can delegate safely"):
        engine.create("true", security={"writable_cgroups": True})
    assert engine.call("ps", is_all=True) == []
