"""Rules of corral.cgroup.systemd_properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.devices import allowed_devices
from corral.cgroup.limits import compile_limits
from corral.cgroup.location import SystemdLocation
from corral.cgroup.slices import place_unit
from corral.cgroup.systemd_properties import (
    INFINITY,
    UnitProperty,
    bit_mask,
    device_properties,
    limit_properties,
    quota_per_second,
    unit_properties,
)
from corral.cgroup.writes import LimitWrite, parse_number_set
from unit.cgroup.cgroup_hosts import HYBRID, RESOURCES, V1, V2


def values(resources: dict[str, Any], layout: Any = V2) -> dict[str, Any]:
    """What systemd is told of ``resources``."""
    compiled = compile_limits(resources, layout)
    assert compiled.problems == []
    return {item.name: item.value for item in limit_properties(compiled.writes, layout)}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 4096}}, {"MemoryMax": 4096}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        (
            {"memory": {"limit": 4096, "swap": 12288, "reservation": 8192}},
            {"MemoryMax": 4096, "MemorySwapMax": 8192, "MemoryLow": 8192},
        ),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"idle": 1}}, {"CPUWeight": 0}),
        ({"cpu": {"idle": 0}}, {}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 100000}),
        ({"cpu": {"quota": -1, "period": 50000}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50000}),
        ({"cpu": {"cpus": "0-1,9", "mems": "0"}}, {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"}),
        ({"pids": {"limit": 7}}, {"TasksMax": 7}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"blockIO": {"weight": 10}}, {"IOWeight": 1}),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}},
            {"IODeviceWeight": [("/dev/block/8:0", 10000)]},
        ),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}, {"major": 8, "minor": 1, "rate": 6}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
                }
            },
            {
                "IOReadBandwidthMax": [("/dev/block/8:0", 5), ("/dev/block/8:1", 6)],
                "IOWriteIOPSMax": [("/dev/block/8:0", INFINITY)],
            },
        ),
        ({"unified": {"memory.high": "max", "memory.min": "4096"}}, {"MemoryHigh": INFINITY, "MemoryMin": 4096}),
        ({"unified": {"memory.oom.group": "1"}}, {"OOMPolicy": "kill"}),
        ({"unified": {"memory.oom.group": "0"}}, {"OOMPolicy": "continue"}),
        ({"unified": {"memory.zswap.writeback": "0"}}, {"MemoryZSwapWriteback": False}),
        (
            {"unified": {"io.max": "8:0 rbps=1 wiops=max\n8:0 rbps=2"}},
            {"IOReadBandwidthMax": [("/dev/block/8:0", 2)], "IOWriteIOPSMax": [("/dev/block/8:0", INFINITY)]},
        ),
        ({"unified": {"io.weight": "default 50"}}, {"IOWeight": 50}),
        ({"unified": {"cpu.max": "20000"}}, {"CPUQuotaPerSecUSec": 200000, "CPUQuotaPeriodUSec": 100000}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, {}),
        ({"unified": {"cpuset.cpus": "none", "cpu.max": "max soon", "io.max": ""}}, {}),
    ],
)
def test_v2_limit_is_a_property_too(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    """The rows are org.freedesktop.systemd1(5)'s names, types and units."""
    assert values(resources) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 4096}}, {"MemoryLimit": 4096}),
        ({"cpu": {"shares": 512}}, {"CPUShares": 512}),
        (
            {"cpu": {"quota": 1500, "period": 20000}},
            {"CPUQuotaPeriodUSec": 20000, "CPUQuotaPerSecUSec": 80000},
        ),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": INFINITY}),
        ({"pids": {"limit": 3}}, {"TasksMax": 3}),
        ({"blockIO": {"weight": 77}}, {"BlockIOWeight": 77}),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}},
            {"BlockIOReadBandwidth": [("/dev/block/8:0", 5)]},
        ),
        ({"cpu": {"cpus": "0"}}, {}),
    ],
)
def test_v1_limit_is_a_property_too(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    """v1's own names, as far as systemd ever had them."""
    assert values(resources, V1) == expected


def test_each_controller_speaks_for_its_own_hierarchy() -> None:
    """On a hybrid host memory is v1's; huge pages are none of systemd's business."""
    resources = {"memory": {"limit": 4096}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    assert values(resources, HYBRID) == {"MemoryLimit": 4096}


@given(st.integers(1000, 1 << 40), st.integers(1000, 1_000_000))
def test_quota_is_rounded_up_to_whole_percents(quota: int, period: int) -> None:
    """systemd may allow up to one percent more than the exact file, never less."""
    per_second = quota_per_second(quota, period)
    assert per_second % 10_000 == 0
    assert 0 <= per_second - quota * 1_000_000 / period < 10_000.01


@given(st.sets(st.integers(0, 1000), min_size=1))
def test_bit_mask_has_exactly_the_numbers(numbers: set[int]) -> None:
    """Bit n of the bytes, counted from the first byte's lowest, is number n."""
    mask = bit_mask(",".join(map(str, numbers)))
    assert {n for n in range(len(mask) * 8) if mask[n // 8] >> n % 8 & 1} == numbers
    assert parse_number_set("0") == frozenset({0})


@given(RESOURCES, st.sampled_from([V1, V2, HYBRID]))
def test_whatever_compiles_has_properties_that_d_bus_can_carry(resources: dict[str, Any], layout: Any) -> None:
    """Numbers fit 64 bits and each property comes once, whatever the config says."""
    found = limit_properties(compile_limits(resources, layout).writes, layout)
    assert all(0 <= item.value <= INFINITY for item in found if item.signature == "t")
    assert len({item.name for item in found}) == len(found)
    assert all(item.pointer.startswith("linux.resources.") for item in found)


def test_properties_that_came_later_to_systemd_are_optional() -> None:
    """What every supported systemd knows is not: a limit is never dropped."""
    resources = {
        "memory": {"limit": 4096, "swap": 4096},
        "cpu": {"shares": 2, "quota": 1000, "cpus": "0"},
        "pids": {"limit": 1},
        "unified": {"memory.oom.group": "1"},
    }
    found = limit_properties(compile_limits(resources, V2).writes, V2)
    assert sorted(item.name for item in found if item.is_optional) == [
        "AllowedCPUs",
        "CPUQuotaPeriodUSec",
        "OOMPolicy",
    ]
    assert [item.name for item in found if item.is_fixed] == ["OOMPolicy"]


def test_write_with_a_lone_device_has_no_property() -> None:
    """A raw value that the kernel will refuse is not systemd's to judge."""
    assert limit_properties([LimitWrite(0, "io", "io.weight", "8:0", pointer="p")], V2) == []


def test_scope_is_delegated_and_collected_in_its_slice() -> None:
    """Delegate: what lies below is ours. Collect: a unit that failed goes too."""
    place = place_unit(SystemdLocation("a-b.slice", "corral", "c"))
    found = {item.name: item.value for item in unit_properties(place, description="container c")}
    assert found == {
        "Description": "container c",
        "DefaultDependencies": False,
        "CollectMode": "inactive-or-failed",
        "Slice": "a-b.slice",
        "Delegate": True,
        "OOMPolicy": "continue",
        "CPUAccounting": True,
        "MemoryAccounting": True,
        "IOAccounting": True,
        "TasksAccounting": True,
    }


@pytest.mark.parametrize(("name", "wants"), [("a-b.slice", ["a.slice"]), ("a.slice", None)])
def test_slice_is_not_delegated_but_wants_the_one_above(name: str, wants: list[str] | None) -> None:
    """Its place follows from its name; the root slice is always there."""
    place = place_unit(SystemdLocation("", "", name))
    found = {item.name: item.value for item in unit_properties(place, description="d")}
    assert found.get("Wants") == wants
    assert not {"Slice", "Delegate", "OOMPolicy"} & found.keys()


def test_v1_devices_are_told_in_systemds_names() -> None:
    """Type and major, or a path; what systemd cannot say is widened to the type."""
    table = {("c", 1, 3): "rwm", ("b", 8, -1): "r", ("c", -1, -1): "m", ("c", -1, 5): "w"}
    assert [item.wire for item in device_properties(table, is_v1=True)] == [
        ("DevicePolicy", ("s", "strict")),
        ("DeviceAllow", ("a(ss)", [])),
        ("DeviceAllow", ("a(ss)", [("/dev/char/1:3", "rwm"), ("block-8", "r"), ("char-*", "wm")])),
    ]


@pytest.mark.parametrize(("table", "is_v1"), [(None, True), ({("c", 1, 3): "rwm"}, False)], ids=["all", "v2"])
def test_systemd_gets_no_list_of_devices_where_ours_stands_alone(table: Any, is_v1: bool) -> None:
    """On v2 nothing reverts our program, and a second one forgets devices at a reload."""
    assert [item.wire for item in device_properties(table, is_v1=is_v1)] == [
        ("DevicePolicy", ("s", "auto")),
        ("DeviceAllow", ("a(ss)", [])),
    ]


def test_allowed_devices_are_at_least_what_the_rules_allow() -> None:
    """A narrow denial inside a wide permission is left out; the default devices are in."""
    entries = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "access": "rw"},
        {"allow": False, "type": "c", "major": 10, "minor": 1, "access": "rw"},
    ]
    table = allowed_devices(entries)
    assert table is not None
    assert (table[("c", 10, -1)], table[("c", 1, 3)]) == ("rwm", "rwm")
    assert allowed_devices([{"allow": True, "access": "rwm"}]) is None


def test_properties_compare_by_what_goes_over_the_wire() -> None:
    """And show themselves."""
    assert UnitProperty("A", "s", "x") == UnitProperty("A", "s", "x", pointer="p")
    assert UnitProperty("A", "s", "x") != UnitProperty("A", "s", "x", is_optional=True)
    assert UnitProperty("A", "s", "x") != "A"
    assert repr(UnitProperty("A", "s", "x", is_optional=True)) == "UnitProperty(A='x' or without)"
