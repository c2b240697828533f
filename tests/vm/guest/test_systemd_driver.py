"""The systemd driver of corral.cgroup against a real systemd: the system's manager, or the user's in rootless cells."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.cgroup.binding import effective
from corral.cgroup.delegate import (
    check_delegation,
    enable_delegation,
    plan_delegation,
    prepare_delegation,
    read_delegate_files,
)
from corral.cgroup.devices import allowed_devices
from corral.cgroup.group import open_group
from corral.cgroup.layout import Layout, read_controllers, read_layout
from corral.cgroup.limits import compile_limits
from corral.cgroup.location import CgroupfsLocation, SystemdLocation, place
from corral.cgroup.member import members_of
from corral.cgroup.slices import UnitPlace, place_unit
from corral.cgroup.systemd_bus import Manager, StartedUnit, system_manager, user_manager
from corral.cgroup.systemd_properties import UnitProperty, device_properties, limit_properties, unit_properties
from corral.cgroup.writes import judge_all
from corral.errors import AlreadyExists, FailedPrecondition, NotFound, Unsupported

HIERARCHY = os.environ.get("CORRAL_VM_HIERARCHY", "")
IS_ROOTLESS = os.environ.get("CORRAL_VM_USER") == "rootless"
# Under emulation a reload of systemd takes seconds.
LONG_S = 60.0
Start = Callable[..., StartedUnit]

# What every cell can limit: on v1 a user's manager has no controllers at all.
LIMITS = {
    "memory": {"limit": 64 << 20},
    "pids": {"limit": 50},
    "cpu": {"shares": 512, "quota": 30_000, "period": 50_000},
}


def systemctl(*words: str) -> None:
    """Run systemctl for the manager of this cell."""
    subprocess.run(["systemctl", *(["--user"] if IS_ROOTLESS else []), *words], check=True, timeout=LONG_S)


def group_of(pid: int) -> str:
    """The group that systemd tracks ``pid`` by, from its cgroup namespace's root."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == ("name=systemd" if HIERARCHY == "v1" else ""):
            return path
    raise AssertionError(f"process {pid} is in no group of systemd's")


@pytest.fixture
def manager() -> Iterator[Manager]:
    """The manager of this cell."""
    with user_manager(os.environ) if IS_ROOTLESS else system_manager() as opened:
        yield opened


@pytest.fixture
def unit(manager: Manager, mark: str) -> Iterator[UnitPlace]:
    """A place of the test's own: a scope in a slice in a slice. Stopped afterwards."""
    top = f"corraltest{os.getpid()}"
    place = place_unit(
        SystemdLocation(f"{top}-b.slice", "", mark),
        is_user=IS_ROOTLESS,
        manager_path=manager.manager_path(deadline_s=LONG_S),
    )
    yield place
    for name in (place.unit, place.slice, f"{top}.slice"):
        manager.stop_unit(name, deadline_s=LONG_S)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to put into a unit."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def layout() -> Layout:
    """The machine's."""
    return read_layout()


@pytest.fixture
def start(manager: Manager, unit: UnitPlace, sleeper: subprocess.Popen[bytes]) -> Start:
    """Start the test's scope with the sleeper in it."""

    def start_scope(*properties: UnitProperty) -> StartedUnit:
        own = unit_properties(unit, description="a test of the driver")
        return manager.start_transient_scope(unit.unit, [sleeper.pid], [*own, *properties], deadline_s=LONG_S)

    return start_scope


def test_s0_1_process_is_in_the_group_that_was_computed(
    unit: UnitPlace, start: Start, sleeper: subprocess.Popen[bytes]
) -> None:
    """Path from slice and name, path that systemd tells, path that the kernel tells: one path."""
    started = start()
    assert (started.control_group, group_of(sleeper.pid)) == (unit.path, unit.path)


def test_properties_that_this_systemd_lacks_are_left_out(start: Start) -> None:
    """The start does not depend on any of them."""
    started = start(
        UnitProperty("MemoryZSwapWriteback", "b", False, is_optional=True),
        UnitProperty("NoSuchProperty", "s", "", is_optional=True),
    )
    assert {"MemoryZSwapWriteback", "NoSuchProperty"} <= set(started.dropped)


def test_s3_2_unknown_property_leaves_no_unit(manager: Manager, unit: UnitPlace, start: Start) -> None:
    """The error is of its kind, and the name is free at once."""
    with pytest.raises(Unsupported, match="NoSuchProperty"):
        start(UnitProperty("NoSuchProperty", "s", ""))
    assert start().name == unit.unit


def test_s0_9_active_unit_of_that_name_is_left_alone(
    start: Start, sleeper: subprocess.Popen[bytes], unit: UnitPlace
) -> None:
    """The second start is an error; the first unit keeps its process."""
    start()
    with pytest.raises(AlreadyExists, match="start unit"):
        start()
    assert group_of(sleeper.pid) == unit.path


def test_s0_9_failed_unit_of_that_name_makes_room(manager: Manager, unit: UnitPlace, start: Start) -> None:
    """A scope that ran into its time limit stays, as failed, when nobody collects it."""
    doomed = subprocess.Popen(["sleep", "600"])
    limit = UnitProperty("RuntimeMaxUSec", "t", 200_000)
    manager.start_transient_scope(unit.unit, [doomed.pid], [limit], deadline_s=LONG_S)
    doomed.wait(LONG_S)
    end = time.monotonic() + LONG_S
    while manager.active_state(unit.unit, deadline_s=LONG_S) != "failed" and time.monotonic() < end:
        time.sleep(0.05)
    assert manager.active_state(unit.unit, deadline_s=LONG_S) == "failed"
    assert start().control_group == unit.path


def test_process_that_is_gone_is_an_error(manager: Manager, unit: UnitPlace) -> None:
    """systemd does not start a scope without its processes."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(FailedPrecondition, match=f"start unit '{unit.unit}'"):
        manager.start_transient_scope(unit.unit, [gone.pid], [], deadline_s=LONG_S)


def test_stopped_unit_is_gone_with_its_group(
    manager: Manager, unit: UnitPlace, start: Start, sleeper: subprocess.Popen[bytes], layout: Layout
) -> None:
    """Stop ends the processes, and a second stop finds nothing."""
    start()
    assert manager.stop_unit(unit.unit, deadline_s=LONG_S)
    assert sleeper.wait(LONG_S) == -15
    assert not manager.stop_unit(unit.unit, deadline_s=LONG_S)
    with pytest.raises(NotFound):
        manager.active_state(unit.unit, deadline_s=LONG_S)
    placement = place(CgroupfsLocation(unit.path), layout)
    assert [d for d in placement.directories if d is not None and Path(d).exists()] == []


def test_s0_8_limits_survive_a_reload_of_systemd(
    manager: Manager, unit: UnitPlace, start: Start, layout: Layout
) -> None:
    """Written to the files and told to systemd; reload, update, reload: the files keep what was asked."""
    if IS_ROOTLESS and HIERARCHY != "v2":
        with pytest.raises(FileNotFoundError):
            Path("/sys/fs/cgroup/pids" + unit.path).stat()
        return
    compiled = compile_limits(LIMITS, layout)
    assert compiled.problems == []
    is_v1 = layout.hierarchy_for("devices") is not None
    devices = [] if IS_ROOTLESS else device_properties(allowed_devices([]), is_v1=is_v1)
    start(*limit_properties(compiled.writes, layout), *devices)
    members = members_of(layout, place(CgroupfsLocation(unit.path), layout))
    with open_group(members) as group:
        assert group.apply(compiled.writes) == []
        systemctl("daemon-reload")
        read = [group.read_or_none(write.controller, write.read_file) for write in compiled.writes]
        assert judge_all(compiled.writes, read) == []

        wider = compile_limits({**LIMITS, "pids": {"limit": 60}, "memory": {"limit": 80 << 20}}, layout)
        changed = [item for item in limit_properties(wider.writes, layout) if not item.is_fixed]
        assert manager.set_unit_properties(unit.unit, changed, deadline_s=LONG_S) == ()
        systemctl("daemon-reload")
        read = [group.read_or_none(write.controller, write.read_file) for write in wider.writes]
        assert judge_all(wider.writes, read) == []


def test_effective_limit_is_the_slices_when_that_is_less(
    manager: Manager, unit: UnitPlace, start: Start, layout: Layout
) -> None:
    """A pod's slice binds its containers."""
    if IS_ROOTLESS and HIERARCHY != "v2":
        assert layout.mode != "v2"
        return
    start(UnitProperty("TasksMax", "t", 50))
    manager.set_unit_properties(unit.slice, [UnitProperty("TasksMax", "t", 20)], deadline_s=LONG_S)
    with open_group(members_of(layout, place(CgroupfsLocation(unit.path), layout))) as group:
        found = {limit.name: limit for limit in effective(group)}["pids.max"]
    assert (found.standing, found.effective, found.is_own) == ("50", "20", False)
    assert found.bound_by.endswith(f"/{unit.slice}")


def test_s1_2_delegated_scope_lets_its_owner_limit_groups_of_its_own(
    unit: UnitPlace, start: Start, layout: Layout, sleeper: subprocess.Popen[bytes]
) -> None:
    """Leaf, controllers, bounds: afterwards a group made beside the leaf can be limited, and one too many refused."""
    if layout.mode != "v2":
        with pytest.raises(Unsupported, match=f"layout is {layout.mode}"):
            check_delegation(layout, Path("/proc/self/mountinfo").read_text())
        return
    check_delegation(layout, Path("/proc/self/mountinfo").read_text())
    start()
    directory = Path("/sys/fs/cgroup" + unit.path)
    plan = plan_delegation(
        layout,
        unit.path,
        available=read_controllers(str(directory)).split(),
        owner=(os.geteuid(), os.getegid()),
        files=read_delegate_files(),
        max_descendants=3,
    )
    prepare_delegation(plan)
    Path(plan.leaf, "cgroup.procs").write_text(str(sleeper.pid))
    enable_delegation(plan)
    child = directory / "child"
    child.mkdir()
    for file, value in (("memory.max", "8388608"), ("pids.max", "9"), ("cpu.max", "10000 100000")):
        if file.partition(".")[0] in plan.controllers:
            (child / file).write_text(value)
            assert (child / file).read_text() == f"{value}\n"
    assert "pids" in plan.controllers
    (child / "below").mkdir()
    with pytest.raises(BlockingIOError):
        (child / "too-many").mkdir()
    (child / "below").rmdir()
    child.rmdir()
