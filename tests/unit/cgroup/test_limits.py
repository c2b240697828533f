"""Rules of corral.cgroup.limits, limits_v1, limits_v2 and limits_any: resources become ordered writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.layout import Layout
from corral.cgroup.limits import compile_limits
from corral.cgroup.limits_v2 import io_weight_from_blkio, swap_from_memsw, weight_from_shares
from unit.cgroup.cgroup_hosts import HYBRID, RESOURCES, V1, V2

MIB = 1 << 20


def written(resources: dict[str, Any], layout: Layout, **options: Any) -> list[tuple[str, str]]:
    """(file, value) in order; there must be no problem."""
    compiled = compile_limits(resources, layout, **options)
    assert compiled.problems == []
    return [(write.file, write.value) for write in compiled.writes]


def problems(resources: dict[str, Any], layout: Layout) -> list[tuple[str, str, str]]:
    """(kind, pointer, message) of each problem."""
    return [(p.kind, p.pointer, p.message) for p in compile_limits(resources, layout).problems]


V1_TABLE: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "empty": ({}, []),
    "empty-sections": ({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "network": {}, "hugepageLimits": []}, []),
    "memory": ({"memory": {"limit": 64 * MIB}}, [("memory.limit_in_bytes", "67108864")]),
    "memory-zero-is-unset": ({"memory": {"limit": 0, "swap": 0, "disableOOMKiller": False}}, []),
    "memory-and-swap": (
        {"memory": {"swap": 128 * MIB, "limit": 64 * MIB}},
        [("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "134217728")],
    ),
    "memory-unlimited": (
        {"memory": {"limit": -1}},
        [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")],
    ),
    "memory-swap-unlimited": (
        {"memory": {"limit": 4096, "swap": -1}},
        [("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes", "-1")],
    ),
    "memory-rest": (
        {"memory": {"reservation": 8192, "kernelTCP": 4096, "swappiness": 10, "disableOOMKiller": True}},
        [
            ("memory.soft_limit_in_bytes", "8192"),
            ("memory.kmem.tcp.limit_in_bytes", "4096"),
            ("memory.swappiness", "10"),
            ("memory.oom_control", "1"),
        ],
    ),
    "memory-swappiness-unset": ({"memory": {"swappiness": -1}}, []),
    "memory-swappiness-unset-unsigned": ({"memory": {"swappiness": (1 << 64) - 1}}, []),
    "memory-swappiness-zero": ({"memory": {"swappiness": 0}}, [("memory.swappiness", "0")]),
    "cpu": (
        {"cpu": {"burst": 10000, "quota": 50000, "period": 100000, "shares": 512}},
        [
            ("cpu.shares", "512"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_burst_us", "10000"),
        ],
    ),
    "cpu-quota-unlimited": ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")]),
    "cpu-zero-is-unset": ({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}}, []),
    "cpu-realtime": (
        {"cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000, "shares": 2}},
        [("cpu.rt_period_us", "1000000"), ("cpu.rt_runtime_us", "950000"), ("cpu.shares", "2")],
    ),
    "cpu-idle": ({"cpu": {"idle": 1, "shares": 100}}, [("cpu.idle", "1")]),
    "cpu-not-idle": ({"cpu": {"idle": 0, "shares": 100}}, [("cpu.idle", "0"), ("cpu.shares", "100")]),
    "cpuset": (
        {"cpu": {"cpus": "0-1", "mems": "0", "shares": 2}},
        [("cpuset.cpus", "0-1"), ("cpuset.mems", "0"), ("cpu.shares", "2")],
    ),
    "pids": ({"pids": {"limit": 32}}, [("pids.max", "32")]),
    "pids-unlimited": ({"pids": {"limit": -1}}, [("pids.max", "max")]),
    "pids-zero": ({"pids": {"limit": 0}}, [("pids.max", "1")]),
    "hugepages": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
        [("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"), ("hugetlb.2MB.limit_in_bytes", "4194304")],
    ),
    "network": (
        {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}},
        [("net_cls.classid", "1048577"), ("net_prio.ifpriomap", "eth0 5")],
    ),
    "rdma": (
        {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe0": {"hcaObjects": 1}}},
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"), ("rdma.max", "rxe0 hca_object=1")],
    ),
    "block-io": (
        {
            "blockIO": {
                "weight": 100,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 200}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
            }
        },
        [
            ("blkio.bfq.weight", "100"),
            ("blkio.weight", "100"),
            ("blkio.bfq.weight_device", "8:0 200"),
            ("blkio.weight_device", "8:0 200"),
            ("blkio.throttle.read_bps_device", "8:0 600"),
            ("blkio.throttle.write_iops_device", "8:16 0"),
        ],
    ),
    "block-io-leaf": (
        {"blockIO": {"leafWeight": 50, "weightDevice": [{"major": 8, "minor": 1, "leafWeight": 60}]}},
        [("blkio.leaf_weight", "50"), ("blkio.leaf_weight_device", "8:1 60")],
    ),
    "all-in-order": (
        {"pids": {"limit": 5}, "memory": {"limit": 4096}, "cpu": {"shares": 3, "cpus": "0"}},
        [("cpuset.cpus", "0"), ("cpu.shares", "3"), ("memory.limit_in_bytes", "4096"), ("pids.max", "5")],
    ),
}


@pytest.mark.parametrize(("resources", "expected"), V1_TABLE.values(), ids=V1_TABLE.keys())
def test_v1_writes(resources: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each property has its v1 files, in the order that a fresh group takes."""
    assert written(resources, V1) == expected


V2_TABLE: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "memory": ({"memory": {"limit": 64 * MIB}}, [("memory.max", "67108864")]),
    "memory-and-swap": (
        {"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": MIB}},
        [("memory.swap.max", "33554432"), ("memory.max", "67108864"), ("memory.low", "1048576")],
    ),
    "memory-no-swap": (
        {"memory": {"limit": 4096, "swap": 4096}},
        [("memory.swap.max", "0"), ("memory.max", "4096")],
    ),
    "memory-unlimited": ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
    "memory-swap-unlimited": (
        {"memory": {"limit": 4096, "swap": -1}},
        [("memory.swap.max", "max"), ("memory.max", "4096")],
    ),
    "memory-swap-alone-with-unlimited-memory": (
        {"memory": {"limit": -1, "swap": 8192}},
        [("memory.swap.max", "8192"), ("memory.max", "max")],
    ),
    "cpu": (
        {"cpu": {"shares": 1024, "quota": 50000, "burst": 1000}},
        [("cpu.weight", "100"), ("cpu.max", "50000 100000"), ("cpu.max.burst", "1000")],
    ),
    "cpu-period": ({"cpu": {"period": 20000}}, [("cpu.max", "max 20000")]),
    "cpu-quota-unlimited": ({"cpu": {"quota": -1}}, [("cpu.max", "max 100000")]),
    "cpu-idle": ({"cpu": {"idle": 1, "shares": 7}}, [("cpu.idle", "1")]),
    "cpu-idle-off": ({"cpu": {"idle": 0, "shares": 2}}, [("cpu.idle", "0"), ("cpu.weight", "1")]),
    "cpuset": ({"cpu": {"cpus": "1,0", "mems": "0"}}, [("cpuset.cpus", "1,0"), ("cpuset.mems", "0")]),
    "pids": ({"pids": {"limit": 7}}, [("pids.max", "7")]),
    "hugepages": (
        {"hugepageLimits": [{"pageSize": "1GB", "limit": 0}]},
        [("hugetlb.1GB.rsvd.max", "0"), ("hugetlb.1GB.max", "0")],
    ),
    "rdma": ({"rdma": {"m": {"hcaHandles": 0}}}, [("rdma.max", "m hca_handle=0")]),
    "network-empty": ({"network": {"classID": 0, "priorities": []}}, []),
    "block-io": (
        {
            "blockIO": {
                "weight": 1000,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
            }
        },
        [
            ("io.bfq.weight", "1000"),
            ("io.weight", "10000"),
            ("io.bfq.weight", "8:0 10"),
            ("io.weight", "8:0 1"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:0 wbps=2"),
            ("io.max", "8:0 riops=3"),
            ("io.max", "8:0 wiops=max"),
        ],
    ),
    "unified": (
        {"unified": {"memory.high": "1048576", "io.max": "8:0 rbps=1\n8:16 wbps=2\n", "cgroup.max.depth": "3"}},
        [
            ("memory.high", "1048576"),
            ("io.max", "8:0 rbps=1"),
            ("io.max", "8:16 wbps=2"),
            ("cgroup.max.depth", "3"),
        ],
    ),
}


@pytest.mark.parametrize(("resources", "expected"), V2_TABLE.values(), ids=V2_TABLE.keys())
def test_v2_writes(resources: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each property has its v2 files, converted."""
    assert written(resources, V2) == expected


def test_hybrid_uses_the_hierarchy_that_carries_each_controller() -> None:
    """memory on v1 and hugetlb on v2, in one container."""
    compiled = compile_limits(
        {"memory": {"limit": 4096}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "cpu": {"shares": 5}}, HYBRID
    )
    assert [(w.hierarchy_index, w.file) for w in compiled.writes] == [
        (1, "cpu.shares"),
        (0, "memory.limit_in_bytes"),
        (2, "hugetlb.2MB.rsvd.max"),
        (2, "hugetlb.2MB.max"),
    ]
    assert compiled.controllers == {1: ["cpu"], 0: ["memory"], 2: ["hugetlb"]}


@pytest.mark.parametrize(
    ("resources", "pointer", "controller"),
    [
        ({"pids": {"limit": 5}}, "pids", "pids"),
        ({"pids": {"limit": 0}}, "pids", "pids"),
        ({"cpu": {"cpus": "0"}}, "cpu.cpus", "cpuset"),
        ({"rdma": {"m": {"hcaHandles": 1}}}, "rdma", "rdma"),
        ({"network": {"classID": 1}}, "network.classID", "net_cls"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "network.priorities", "net_prio"),
    ],
)
def test_missing_controller_is_named(resources: dict[str, Any], pointer: str, controller: str) -> None:
    """A limit that this host cannot enforce is a problem that names the controller, never dropped."""
    ((kind, where, message),) = problems(resources, HYBRID)
    assert kind == "unsupported"
    assert where == f"linux.resources.{pointer}"
    assert message == (
        f"compile limit linux.resources.{pointer}: this host has no {controller!r} cgroup controller (layout hybrid)"
    )


def test_missing_io_controller_names_both() -> None:
    """Block I/O has one name on v1 and another on v2."""
    assert problems({"blockIO": {"weight": 10}}, HYBRID) == [
        (
            "unsupported",
            "linux.resources.blockIO.weight",
            "compile limit linux.resources.blockIO.weight: this host has neither a 'blkio' nor an 'io' cgroup "
            "controller (layout hybrid)",
        )
    ]


@pytest.mark.parametrize(
    "resources",
    [
        {"pids": {"limit": -1}},
        {"memory": {"limit": -1, "swap": -1, "swappiness": -1, "disableOOMKiller": False}},
        {"memory": {"swappiness": 60}},
        {"cpu": {"idle": 0}},
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        {"network": {"classID": 0}},
        {"blockIO": {"weight": 0, "weightDevice": []}},
    ],
)
def test_missing_controller_is_no_problem_when_nothing_is_limited(resources: dict[str, Any]) -> None:
    """Engines send empty and "no limit" values on hosts without the controller."""
    compiled = compile_limits(resources, Layout(()))
    assert (compiled.problems, compiled.writes) == ([], [])


@pytest.mark.parametrize("layout", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("resources", "pointer", "cause"),
    [
        ({"memory": {"limit": -2}}, "memory.limit", "-2 is negative"),
        ({"memory": {"limit": 1, "swap": -2}}, "memory.swap", "-2 is negative"),
        ({"memory": {"swap": 5}}, "memory.swap", "memory+swap is limited, but memory is not"),
        ({"memory": {"limit": 8192, "swap": 4096}}, "memory.swap", "4096 is less than the memory limit 8192"),
        ({"cpu": {"period": 999}}, "cpu.period", "999 us is not between 1000 and 1000000"),
        ({"cpu": {"quota": 999}}, "cpu.quota", "999 us is less than 1000"),
        ({"cpu": {"quota": 5000, "burst": 5001}}, "cpu.burst", "5001 us is more than the quota of 5000"),
        ({"cpu": {"cpus": "0-"}}, "cpu.cpus", "'0-' is neither a number nor a range"),
        ({"cpu": {"cpus": "3-1"}}, "cpu.cpus", "'3-1' is not an ascending range of small numbers"),
        ({"cpu": {"mems": "a"}}, "cpu.mems", "'a' is neither a number nor a range"),
        ({"cpu": {"mems": ","}}, "cpu.mems", "',' names none"),
        ({"blockIO": {"weight": 9}}, "blockIO.weight", "weight 9 is not between 10 and 1000"),
        (
            {"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "weight": 1001}]}},
            "blockIO.weightDevice[0].weight",
            "weight 1001 is not between 10 and 1000",
        ),
        (
            {"hugepageLimits": [{"pageSize": "2M", "limit": 1}]},
            "hugepageLimits[0].pageSize",
            "'2M' is not a page size",
        ),
        (
            {"hugepageLimits": [{"pageSize": "../MB", "limit": 1}]},
            "hugepageLimits[0].pageSize",
            "'../MB' is not a page size",
        ),
        ({"rdma": {"a b": {"hcaHandles": 1}}}, "rdma.a b", "'a b' is not a device's name"),
        ({"rdma": {"a": {}}}, "rdma.a", "neither hcaHandles nor hcaObjects is given"),
        ({"unified": {"a/b.c": "1"}}, "unified['a/b.c']", "'a/b.c' must be a file name (no slashes)"),
        ({"unified": {"memory": "1"}}, "unified['memory']", "'memory' is not of the form 'controller.file'"),
        ({"unified": {"cgroup.procs": "1"}}, "unified['cgroup.procs']", "'cgroup.procs' is Corral's to write"),
    ],
)
def test_impossible_value_is_refused(layout: Layout, resources: dict[str, Any], pointer: str, cause: str) -> None:
    """Impossible anywhere: refused with its pointer, before anything is made."""
    where = f"linux.resources.{pointer}"
    assert problems(resources, layout) == [("invalid-argument", where, f"compile limit {where}: {cause}")]


@pytest.mark.parametrize(
    ("resources", "pointer", "cause"),
    [
        ({"cpu": {"shares": 1}}, "cpu.shares", "1 is out of range: the minimum allowed cpu-shares is 2"),
        (
            {"cpu": {"shares": 262145}},
            "cpu.shares",
            "262145 is out of range: the maximum allowed cpu-shares is 262144",
        ),
        ({"memory": {"swappiness": 101}}, "memory.swappiness", "101 is not between 0 and 100"),
        (
            {"network": {"priorities": [{"name": "a b", "priority": 1}]}},
            "network.priorities[0].name",
            "'a b' is not an interface's name",
        ),
    ],
)
def test_v1_impossible_value_is_refused(resources: dict[str, Any], pointer: str, cause: str) -> None:
    """Ranges that only v1's files have."""
    where = f"linux.resources.{pointer}"
    assert problems(resources, V1) == [("invalid-argument", where, f"compile limit {where}: {cause}")]


@pytest.mark.parametrize(
    ("resources", "pointer", "cause"),
    [
        (
            {"memory": {"kernelTCP": 1}},
            "memory.kernelTCP",
            "cgroup v2 has no limit of its own for TCP buffers: memory.max counts them",
        ),
        ({"memory": {"swappiness": 0}}, "memory.swappiness", "cgroup v2 has no swappiness of its own per group"),
        (
            {"memory": {"disableOOMKiller": True}},
            "memory.disableOOMKiller",
            "cgroup v2 cannot switch the OOM killer off",
        ),
        ({"cpu": {"realtimeRuntime": 1}}, "cpu.realtimeRuntime", "cgroup v2 has no realtime limits"),
        ({"blockIO": {"leafWeight": 10}}, "blockIO.leafWeight", "cgroup v2 has no leaf weights"),
        (
            {"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "leafWeight": 10}]}},
            "blockIO.weightDevice[0].leafWeight",
            "cgroup v2 has no leaf weights",
        ),
        ({"network": {"classID": 1}}, "network.classID", "this host has no 'net_cls' cgroup controller (layout v2)"),
        (
            {"unified": {"misc.max": "a 1"}},
            "unified['misc.max']",
            "the cgroup v2 hierarchy has no 'misc' controller (layout v2)",
        ),
    ],
)
def test_v2_lacks_what_only_v1_had(resources: dict[str, Any], pointer: str, cause: str) -> None:
    """What cgroup v2 cannot do is said, not skipped."""
    where = f"linux.resources.{pointer}"
    assert problems(resources, V2) == [("unsupported", where, f"compile limit {where}: {cause}")]


def test_unified_is_refused_without_v2() -> None:
    """Raw v2 files need a v2 hierarchy."""
    assert problems({"unified": {"memory.high": "1"}}, V1) == [
        (
            "unsupported",
            "linux.resources.unified['memory.high']",
            "compile limit linux.resources.unified['memory.high']: this host has no cgroup v2 hierarchy (layout v1)",
        )
    ]


def test_all_problems_are_collected() -> None:
    """A config with several mistakes hears of all of them at once, and raise_problems raises the first."""
    compiled = compile_limits({"cpu": {"period": 1, "cpus": "x"}, "memory": {"limit": -3}}, V1)
    assert [p.pointer for p in compiled.problems] == [
        "linux.resources.cpu.cpus",
        "linux.resources.cpu.period",
        "linux.resources.memory.limit",
    ]
    with pytest.raises(type(compiled.problems[0]), match="is neither a number nor a range"):
        compiled.raise_problems()


def test_deprecated_kernel_memory_is_a_warning() -> None:
    """Kernels of today have no such limit on either version."""
    for layout in (V1, V2):
        compiled = compile_limits({"memory": {"kernel": 4096}}, layout)
        assert compiled.writes == []
        assert compiled.warnings == [
            (
                "linux.resources.memory.kernel",
                "kernel memory limits were removed from Linux (5.16) and are ignored",
            )
        ]


def test_unified_overrides_the_typed_limit() -> None:
    """The raw value has the last word on its file; the typed one is not written first only to be undone."""
    compiled = compile_limits({"pids": {"limit": 5}, "unified": {"pids.max": "9"}}, V2)
    assert [(w.file, w.value) for w in compiled.writes] == [("pids.max", "9")]
    assert compiled.warnings == [("linux.resources.pids.limit", "linux.resources.unified['pids.max'] overrides it")]


def test_pids_zero_means_unset_in_older_configs() -> None:
    """runtime-spec 1.3 made 0 a limit; older engines write it for "not set"."""
    assert written({"pids": {"limit": 0}}, V1, pids_zero_is_limit=False) == []
    assert written({"pids": {}}, V1) == []


def test_pointer_prefix_is_the_callers() -> None:
    """update's resources document has another root than config.json."""
    (write,) = compile_limits({"pids": {"limit": 3}}, V1, pointer="resources").writes
    assert write.pointer == "resources.pids.limit"


def test_blkio_weight_needs_one_of_two_files() -> None:
    """The file's name depends on the kernel's I/O scheduler, so either may be missing but not both."""
    writes = compile_limits({"blockIO": {"weight": 100}}, V1).writes
    assert [(w.file, w.is_optional, w.one_of) for w in writes] == [
        ("blkio.bfq.weight", True, "blkio weight"),
        ("blkio.weight", True, "blkio weight"),
    ]


def test_swap_file_is_optional_only_when_its_absence_is_the_answer() -> None:
    """Without swap in the kernel, "none" and "all" hold anyway; a real amount does not."""
    for swap, optional in ((4096, True), (-1, True), (8192, False)):
        writes = compile_limits({"memory": {"limit": 4096, "swap": swap}}, V2).writes
        assert [w.is_optional for w in writes if w.file == "memory.swap.max"] == [optional]


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 0), (1, 1), (2, 1), (102, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000)]
)
def test_weight_from_shares_meets_known_values(shares: int, weight: int) -> None:
    """The field's current formula: minimum, default and maximum meet."""
    assert weight_from_shares(shares) == weight


@given(st.integers(2, 262144), st.integers(0, 1000))
def test_weight_from_shares_is_monotonic_and_in_range(shares: int, more: int) -> None:
    """More shares never give less weight, and the kernel takes every result."""
    low, high = weight_from_shares(shares), weight_from_shares(shares + more)
    assert 1 <= low <= high <= 10000


@given(st.integers(10, 1000))
def test_io_weight_is_monotonic_and_in_range(weight: int) -> None:
    """Linear from 10..1000 to 1..10000."""
    assert 1 <= io_weight_from_blkio(weight) <= 10000
    assert io_weight_from_blkio(weight) <= io_weight_from_blkio(min(weight + 1, 1000))
    assert (io_weight_from_blkio(0), io_weight_from_blkio(10), io_weight_from_blkio(1000)) == (0, 1, 10000)


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 50))
def test_swap_is_what_the_sum_has_beyond_memory(memory: int, swap: int) -> None:
    """memory.max + memory.swap.max is v1's sum."""
    assert swap_from_memsw(memory + swap, memory) == swap


@given(RESOURCES, st.sampled_from([V1, V2, HYBRID, Layout(())]))
def test_any_resources_compile_without_exception(resources: dict[str, Any], layout: Layout) -> None:
    """Well-typed values of any size give writes or problems; files are plain names; compiling twice is the same."""
    compiled = compile_limits(resources, layout)
    for write in compiled.writes:
        assert "/" not in write.file
        assert write.pointer.startswith("linux.resources.")
        assert write.hierarchy_index < len(layout.hierarchies)
    assert compile_limits(resources, layout).writes == compiled.writes
    if not layout.hierarchies:
        assert compiled.writes == []
