"""corral.oci.validate_resources: limits, as far as no host is needed to judge them."""

from __future__ import annotations

from typing import Any

import pytest

from corral.oci.validate import validate
from corral.oci.validate_resources import validate_resources
from unit.oci.documents import linux_spec, problems_as_pairs

UINT64 = "between 0 and 18446744073709551615"
SIGNED_LIMIT = "between -1 and 9223372036854775807"
DEVICE = {"major": 8, "minor": 0}


def test_no_resources_are_no_problem() -> None:
    """An empty object limits nothing."""
    assert [] == validate_resources({})


def test_pointers_start_where_the_caller_says() -> None:
    """update's document is the resources themselves."""
    document = {"cpu": {"quota": 1}, "pids": 1}

    assert ["pids", "cpu.quota"] == [problem.pointer for problem in validate_resources(document, "")]
    assert ["linux.resources.pids", "linux.resources.cpu.quota"] == [
        problem.pointer for problem in validate(linux_spec(resources=document))
    ]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param({"devices": [{}]}, ("devices[0].allow", "missing"), id="device rule without allow"),
        pytest.param(
            {"devices": [{"allow": True, "type": "x"}]}, ("devices[0].type", "'x' is none of a, b, c"), id="device type"
        ),
        pytest.param(
            {"devices": [{"allow": True, "access": "rx"}]},
            ("devices[0].access", "'rx' has other letters than r, w and m"),
            id="device access",
        ),
        pytest.param(
            {"devices": [{"allow": True, "major": -2}]},
            ("devices[0].major", f"-2 is not {SIGNED_LIMIT}"),
            id="device major",
        ),
        pytest.param({"memory": {"limit": -2}}, ("memory.limit", f"-2 is not {SIGNED_LIMIT}"), id="memory limit"),
        pytest.param(
            {"memory": {"limit": "64m"}},
            ("memory.limit", "want an integer, got the string '64m'"),
            id="memory with unit",
        ),
        pytest.param(
            {"memory": {"limit": 2**63}}, ("memory.limit", f"{2**63} is not {SIGNED_LIMIT}"), id="memory beyond int64"
        ),
        pytest.param(
            {"memory": {"limit": 200, "swap": 100}},
            ("memory.swap", "100 is below memory.limit 200"),
            id="swap below memory",
        ),
        pytest.param(
            {"memory": {"limit": -1, "swap": 100}},
            ("memory.swap", "100 is below memory.limit, which is unlimited"),
            id="swap with unlimited memory",
        ),
        pytest.param(
            {"memory": {"swappiness": 101}}, ("memory.swappiness", "101 is not between 0 and 100"), id="swappiness"
        ),
        pytest.param(
            {"memory": {"disableOOMKiller": 0}},
            ("memory.disableOOMKiller", "want true or false, got 0"),
            id="disableOOMKiller",
        ),
        pytest.param({"cpu": {"shares": -1}}, ("cpu.shares", f"-1 is not {UINT64}"), id="shares"),
        pytest.param({"cpu": {"shares": 1.5}}, ("cpu.shares", "want an integer, got 1.5"), id="fraction of shares"),
        pytest.param(
            {"cpu": {"quota": 999}},
            ("cpu.quota", "999 is neither -1 (unlimited), nor 0 (unset), nor at least 1000 microseconds"),
            id="quota too small",
        ),
        pytest.param(
            {"cpu": {"quota": -2}},
            ("cpu.quota", "-2 is neither -1 (unlimited), nor 0 (unset), nor at least 1000 microseconds"),
            id="quota negative",
        ),
        pytest.param(
            {"cpu": {"period": 999}}, ("cpu.period", "999 is not between 1000 and 1000000 microseconds"), id="period"
        ),
        pytest.param(
            {"cpu": {"period": 1000001}},
            ("cpu.period", "1000001 is not between 1000 and 1000000 microseconds"),
            id="period too long",
        ),
        pytest.param(
            {"cpu": {"quota": 1000, "burst": 1001}}, ("cpu.burst", "1001 is above cpu.quota 1000"), id="burst"
        ),
        pytest.param({"cpu": {"idle": 2}}, ("cpu.idle", "2 is not between 0 and 1"), id="idle"),
        pytest.param({"cpu": {"cpus": "0;1"}}, ("cpu.cpus", "'0;1' is not a list such as 0-3,7"), id="cpus"),
        pytest.param({"cpu": {"mems": "all"}}, ("cpu.mems", "'all' is not a list such as 0-3,7"), id="mems"),
        pytest.param({"cpu": {"cpus": "0\n"}}, ("cpu.cpus", "line break in '0\\n'"), id="line break in cpus"),
        pytest.param({"pids": {"limit": -2}}, ("pids.limit", f"-2 is not {SIGNED_LIMIT}"), id="pids"),
        pytest.param(
            {"blockIO": {"weight": 9}},
            ("blockIO.weight", "9 is neither 0 (unset) nor between 10 and 1000"),
            id="weight",
        ),
        pytest.param(
            {"blockIO": {"leafWeight": 1001}},
            ("blockIO.leafWeight", "1001 is not between 0 and 1000"),
            id="leaf weight",
        ),
        pytest.param(
            {"blockIO": {"weightDevice": [{**DEVICE, "weight": 1}]}},
            ("blockIO.weightDevice[0].weight", "1 is neither 0 (unset) nor between 10 and 1000"),
            id="weight of a device",
        ),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 8}]}},
            ("blockIO.weightDevice[0].minor", "missing"),
            id="weight of half a device",
        ),
        pytest.param(
            {"blockIO": {"throttleReadBpsDevice": [DEVICE]}},
            ("blockIO.throttleReadBpsDevice[0].rate", "missing"),
            id="throttle without rate",
        ),
        pytest.param(
            {"blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": -1}]}},
            ("blockIO.throttleWriteIOPSDevice[0].rate", f"-1 is not {UINT64}"),
            id="negative rate",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "2M", "limit": 1}]},
            ("hugepageLimits[0].pageSize", "'2M' is not a page size"),
            id="page size without B",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "02MB", "limit": 1}]},
            ("hugepageLimits[0].pageSize", "'02MB' is not a page size"),
            id="page size with leading zero",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "MB", "limit": 1}]},
            ("hugepageLimits[0].pageSize", "'MB' is not a page size"),
            id="page size without number",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "2MB"}]}, ("hugepageLimits[0].limit", "missing"), id="no huge page limit"
        ),
        pytest.param(
            {"network": {"classID": 2**32}},
            ("network.classID", "4294967296 is not between 0 and 4294967295"),
            id="class id",
        ),
        pytest.param(
            {"network": {"priorities": [{"name": "eth0"}]}},
            ("network.priorities[0].priority", "missing"),
            id="interface without priority",
        ),
        pytest.param(
            {"rdma": {"mlx5_1": {}}}, ('rdma["mlx5_1"]', "neither hcaHandles nor hcaObjects is given"), id="empty rdma"
        ),
        pytest.param(
            {"unified": {"../memory.max": "1"}},
            ('unified["../memory.max"]', "'../memory.max' is not the name of a cgroup v2 file"),
            id="path in unified",
        ),
        pytest.param(
            {"unified": {"memory": "1"}},
            ('unified["memory"]', "'memory' is not the name of a cgroup v2 file"),
            id="no file in unified",
        ),
        pytest.param(
            {"unified": {"..": "1"}},
            ('unified[".."]', "'..' is not the name of a cgroup v2 file"),
            id="parent directory in unified",
        ),
        pytest.param(
            {"unified": {"memory.max": 1}},
            ('unified["memory.max"]', "want a string, got 1"),
            id="number in unified",
        ),
    ],
)
def test_resources_are_checked(resources: dict[str, Any], expected: tuple[str, str]) -> None:
    """One mistake, one problem, at its place."""
    assert [expected] == problems_as_pairs(validate_resources(resources, ""))


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param({"memory": {"limit": -1, "swap": -1}}, id="unlimited"),
        pytest.param({"memory": {"limit": 100, "swap": 100}}, id="no swap"),
        pytest.param({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, id="zero is unset"),
        pytest.param({"memory": {"swap": 100}}, id="swap alone, for update"),
        pytest.param({"cpu": {"shares": 0, "quota": 0, "period": 0}}, id="docker's zeros"),
        pytest.param({"cpu": {"quota": -1, "cpus": "", "mems": ""}}, id="unlimited quota, empty lists"),
        pytest.param({"cpu": {"cpus": "0-10:2/4, 11"}}, id="the kernel's strides"),
        pytest.param({"pids": {"limit": 0}, "blockIO": {"weight": 0}}, id="pids and weight unset"),
        pytest.param({"pids": {"limit": -1}}, id="pids unlimited"),
        pytest.param({"devices": [{"allow": False, "type": "", "access": ""}]}, id="empty device rule"),
        pytest.param({"devices": None, "memory": None, "unified": None, "rdma": {"a": None}}, id="nulls"),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 0}, {"pageSize": "64KB", "limit": 1}]}, id="sizes"
        ),
    ],
)
def test_resources_take_what_callers_send(resources: dict[str, Any]) -> None:
    """Zeros, -1, empty strings and nulls of real callers."""
    assert [] == validate_resources(resources)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param(
            {"memory": {"limit": 10, "reservation": 20}},
            ("memory.reservation", "20 is above memory.limit 10 and has no effect"),
            id="reservation above limit",
        ),
        pytest.param(
            {"memory": {"kernel": -1}},
            ("memory.kernel", "kernel memory limits are ignored: the kernel dropped them in 5.16"),
            id="kernel memory",
        ),
    ],
)
def test_what_has_no_effect_is_a_warning(resources: dict[str, Any], expected: tuple[str, str]) -> None:
    """The container runs all the same."""
    (problem,) = validate_resources(resources, "")

    assert (*expected, True) == (problem.pointer, problem.message, problem.is_warning)
