"""Rules of the limit compilers, on real controllers: what is compiled is taken, and reads back as judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.devices import compile_devices
from corral.cgroup.group import open_group
from corral.cgroup.layout import Layout
from corral.cgroup.limits import compile_limits, order_for_update
from corral.cgroup.member import Member

pytestmark = pytest.mark.requires("root")

Enable = Callable[[dict[int, list[str]]], None]
MIB = 1 << 20
CASES: dict[str, dict[str, Any]] = {
    "memory": {"memory": {"limit": 64 * MIB + 5, "reservation": 32 * MIB + 1}},
    "memory-swap": {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
    "memory-unlimited": {"memory": {"limit": -1}},
    "memory-huge": {"memory": {"limit": (1 << 63) - 1}},
    "swappiness-zero": {"memory": {"swappiness": 0}},
    "oom-killer-off": {"memory": {"disableOOMKiller": True}},
    "cpu": {"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 10000}},
    "cpu-least": {"cpu": {"shares": 2, "quota": 1000, "period": 1000}},
    "cpu-most": {"cpu": {"shares": 262144}},
    "cpu-no-quota": {"cpu": {"quota": -1}},
    "cpu-idle": {"cpu": {"idle": 1, "shares": 100}},
    "cpu-realtime": {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 500000}},
    "kernel-tcp": {"memory": {"kernelTCP": 8 * MIB}},
    "cpuset": {"cpu": {"cpus": "0,1", "mems": "0"}},
    "pids": {"pids": {"limit": 7}},
    "pids-zero": {"pids": {"limit": 0}},
    "pids-unlimited": {"pids": {"limit": -1}},
    "hugepages": {"hugepageLimits": [{"pageSize": "2MB", "limit": 3 * MIB}]},
    "unified": {"unified": {"hugetlb.2MB.max": "2097152", "cgroup.max.depth": "3", "cgroup.max.descendants": "max"}},
}


NEEDS = {"cpu-realtime": [pytest.mark.requires("cpu-rt")]}


@pytest.mark.parametrize(
    "resources", [pytest.param(value, id=name, marks=NEEDS.get(name, [])) for name, value in CASES.items()]
)
def test_s0_8_limits_read_back_as_asked(
    members: list[Member], layout: Layout, enable: Enable, resources: dict[str, Any]
) -> None:
    """Every write is taken by the kernel, and its read-back is judged to be what was asked for."""
    compiled = compile_limits(resources, layout)
    if compiled.problems:
        pytest.skip(compiled.problems[0].message)
    assert compiled.writes != []
    enable(compiled.controllers)
    with open_group(members) as group:
        assert group.apply(compiled.writes) == []


def test_throttle_is_set_and_taken_away(members: list[Member], layout: Layout) -> None:
    """A rate becomes a line of the device; rate 0 takes the line away."""
    if layout.hierarchy_for("blkio") is None and layout.hierarchy_for("io") is None:
        pytest.skip("this host has no block I/O controller")
    numbers = [p.read_text().strip().split(":") for p in sorted(Path("/sys/block").glob("*/dev"))]
    if not numbers:
        pytest.skip("this host has no block device")
    device = {"major": int(numbers[0][0]), "minor": int(numbers[0][1])}
    with open_group(members) as group:
        for rate in (1 << 20, 0):
            resources = {"blockIO": {"throttleReadBpsDevice": [{**device, "rate": rate}]}}
            assert group.apply(compile_limits(resources, layout).writes) == []


def test_missing_weight_file_is_told(members: list[Member], layout: Layout) -> None:
    """A kernel without a weighting scheduler has no weight file: said, not dropped."""
    compiled = compile_limits({"blockIO": {"weight": 100}}, layout)
    with open_group(members) as group:
        have = [w for w in compiled.writes if group.read_or_none(w.controller, w.file) is not None]
        refused = group.apply(compiled.writes)
    assert (refused == []) == bool(have)


@pytest.mark.parametrize("to", [(8, 16), (256, 512), (-1, -1)], ids=["lower", "raise", "unlimited"])
def test_memory_update_in_order_is_taken(members: list[Member], layout: Layout, to: tuple[int, int]) -> None:
    """From any pair of limits to any other, the kernel takes each write on the way."""

    def resources(limit: int, swap: int) -> dict[str, Any]:
        scale = MIB if limit > 0 else 1
        return {"memory": {"limit": limit * scale, "swap": swap * scale}}

    first, second = (compile_limits(resources(*pair), layout) for pair in ((64, 128), to))
    if first.problems:
        pytest.skip(first.problems[0].message)
    with open_group(members) as group:
        assert group.apply(first.writes) == []
        current = {(w.hierarchy_index, w.file): group.read_or_none(w.controller, w.file) or "" for w in second.writes}
        assert group.apply(order_for_update(current, second.writes)) == []


def test_refused_write_names_value_path_and_cause(members: list[Member], layout: Layout) -> None:
    """The kernel's refusal comes back as a reason a person can act on."""
    compiled = compile_limits({"cpu": {"cpus": "4095"}}, layout)
    if compiled.problems:
        pytest.skip(compiled.problems[0].message)
    with open_group(members) as group:
        ((write, reason),) = group.apply(compiled.writes)
        path = f"{group.directory_for('cpuset')}/cpuset.cpus"
    assert write.pointer == "linux.resources.cpu.cpus"
    assert reason in (
        f"write '4095' to '{path}': invalid argument",
        f"write '4095' to '{path}': numerical result out of range",
    )


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
        [{"allow": True, "type": "a", "access": "rwm"}],
        [{"allow": True, "type": "a", "access": "rwm"}, {"allow": False, "type": "b", "major": 8, "access": "rw"}],
    ],
    ids=["defaults", "one-more", "all", "all-but-one"],
)
def test_device_list_reads_back_as_asked(members: list[Member], layout: Layout, entries: list[dict[str, Any]]) -> None:
    """v1: after all writes devices.list is what the rules mean, and a second time nothing is left to write."""
    compiled = compile_devices(entries, layout)
    if compiled.bpf_hierarchy is not None:
        pytest.skip("this host has no v1 devices controller")
    assert compiled.problems == []
    with open_group(members) as group:
        assert group.apply(compiled.writes) == []
        listing = group.read("devices", "devices.list")
        again = compile_devices(entries, layout, current=listing)
        if "a *:* rwm" not in listing:
            assert again.writes == []
        assert group.apply(again.writes) == []


def test_device_rules_are_enforced(members: list[Member], layout: Layout, spawn: Any) -> None:
    """/dev/null opens, a device outside the rules does not."""
    compiled = compile_devices([{"allow": False, "access": "rwm"}], layout)
    if compiled.bpf_hierarchy is not None:
        pytest.skip("this host has no v1 devices controller")
    with open_group(members) as group:
        assert group.apply(compiled.writes) == []
    code = (
        "import sys\n"
        "for p in sys.argv[1:]:\n"
        " try: open(p, 'rb').close(); print('yes')\n"
        " except OSError as e: print(e.errno)\n"
    )
    process = spawn("python3", "-c", code, "/dev/null", "/dev/fuse" if Path("/dev/fuse").exists() else "/dev/kmsg")
    assert process.communicate(timeout=30)[0] == b"yes\n1\n"
