"""Rules of corral.cgroup.stats and runc_events: one model, and runc's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral.cgroup.group import open_group
from corral.cgroup.member import Member
from corral.cgroup.runc_events import to_runc_events
from corral.cgroup.stats import UNLIMITED, Counter, Stats, parse_pressure, read_stats

V2_FILES = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 2\nthrottled_usec 70\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.25 total=1234\nfull avg10=0 avg60=0 avg300=0 total=5\n",
    "memory.current": "1000\n",
    "memory.max": "4096\n",
    "memory.peak": "2000\n",
    "memory.swap.current": "24\n",
    "memory.swap.max": "4096\n",
    "memory.events": "low 0\nmax 3\noom 1\noom_kill 1\n",
    "memory.stat": "anon 10\nfile 600\nkernel 50\nsock 7\n",
    "pids.current": "4\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=9 dios=9\n",
    "hugetlb.2MB.max": "4194304\n",
    "hugetlb.2MB.rsvd.max": "max\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.events": "max 6\n",
    "cpuset.cpus": "\n",
    "cpuset.cpus.effective": "0-1\n",
    "cpuset.mems.effective": "0\n",
}
V1_FILES = {
    "cpuacct.usage": "11440281\n",
    "cpuacct.usage_percpu": "10559764 880517 \n",
    "cpuacct.usage_all": "cpu user system\n0 4000000 4000001\n1 0 7\n",
    "cpuacct.stat": "user 3\nsystem 2\n",
    "cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 99\n",
    "memory.usage_in_bytes": "417792\n",
    "memory.max_usage_in_bytes": "2539520\n",
    "memory.limit_in_bytes": "67108864\n",
    "memory.failcnt": "5\n",
    "memory.memsw.limit_in_bytes": "9223372036854771712\n",
    "memory.stat": "cache 12\nrss 49152\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids.current": "1\n",
    "pids.max": "20\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 0\nTotal 4096\n",
    "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio.throttle.io_serviced_recursive": "8:0 Read 1\nTotal 1\n",
    "blkio.time_recursive": "8:16 77\n",
    "hugetlb.1GB.limit_in_bytes": "0\n",
    "hugetlb.1GB.usage_in_bytes": "3\n",
    "hugetlb.1GB.max_usage_in_bytes": "4\n",
    "hugetlb.1GB.failcnt": "1\n",
    "cpuset.cpus": "0-1\n",
    "cpuset.mems": "0\n",
    "cpuset.sched_load_balance": "1\n",
    "cpuset.sched_relax_domain_level": "-1\n",
}


def sample(root: Path, files: dict[str, str], version: int) -> Stats:
    """A sample of one directory with ``files``, where every controller is."""
    (root / "a").mkdir()
    for name, text in files.items():
        (root / "a" / name).write_text(text)
    controllers = ("cpu", "cpuacct", "memory", "pids", "io" if version == 2 else "blkio", "hugetlb", "cpuset")
    with open_group([Member(version, controllers, str(root), "/a")]) as group:
        return read_stats(group)


def test_v2_sample_has_units(tmp_path: Path) -> None:
    """Microseconds become nanoseconds, swap becomes memory+swap, "max" becomes UNLIMITED or 0."""
    stats = sample(tmp_path, V2_FILES, 2)
    assert (stats.cpu.usage_ns, stats.cpu.user_ns, stats.cpu.kernel_ns) == (1500000, 1000000, 500000)
    assert (stats.cpu.periods, stats.cpu.throttled_periods, stats.cpu.throttled_ns) == (9, 2, 70000)
    assert stats.cpu.pressure["some"].avg10_percent == 1.5
    usage, swap = stats.memory.usage, stats.memory.memory_and_swap
    assert (usage.usage_bytes, usage.max_bytes, usage.limit_bytes, usage.failures) == (1000, 2000, 4096, 3)
    assert (swap.usage_bytes, swap.limit_bytes) == (1024, 8192)
    assert (stats.memory.cache_bytes, stats.memory.oom_kills) == (600, 1)
    assert (stats.pids_current, stats.pids_limit) == (4, 0)
    assert {k: [(e.op, e.value) for e in v] for k, v in stats.io.tables.items()} == {
        "io_service_bytes": [("Read", 4096), ("Write", 0)],
        "io_serviced": [("Read", 1), ("Write", 0)],
    }
    assert [(size, c.usage_bytes, c.limit_bytes, c.failures) for size, c in stats.hugepages.items()] == [
        ("2MB", 2097152, 4194304, 6)
    ]
    assert (stats.cpus, stats.mems) == ([0, 1], [0])


def test_v1_sample_has_units(tmp_path: Path) -> None:
    """Clock ticks become nanoseconds; the scheduler that counts is found."""
    stats = sample(tmp_path, V1_FILES, 1)
    assert (stats.cpu.usage_ns, stats.cpu.user_ns, stats.cpu.kernel_ns) == (11440281, 30000000, 20000000)
    assert stats.cpu.per_cpu_ns == [10559764, 880517]
    assert (stats.cpu.per_cpu_user_ns, stats.cpu.per_cpu_kernel_ns) == ([4000000, 0], [4000001, 7])
    assert stats.memory.usage.is_limited
    assert not stats.memory.memory_and_swap.is_limited
    assert stats.memory.oom_kills == 2
    assert {k: [(e.major, e.op, e.value) for e in v] for k, v in stats.io.tables.items()} == {
        "io_service_bytes": [(8, "Read", 4096), (8, "Write", 0)],
        "io_serviced": [(8, "Read", 1)],
        "time": [(8, "", 77)],
    }
    assert stats.hugepages["1GB"].max_bytes == 4
    assert stats.cpuset_flags == {"sched_load_balance": 1, "sched_relax_domain_level": -1}


def test_empty_group_is_all_zero(tmp_path: Path) -> None:
    """Missing files are no error: a host may lack any controller."""
    for version in (1, 2):
        (tmp_path / str(version)).mkdir()
        stats = sample(tmp_path / str(version), {}, version)
        assert (stats.cpu.usage_ns, stats.memory.usage.usage_bytes, stats.hugepages) == (0, 0, {})


def test_unlimited_swap_is_unlimited(tmp_path: Path) -> None:
    """A sum with "max" in it is no limit."""
    stats = sample(tmp_path, V2_FILES | {"memory.swap.max": "max\n"}, 2)
    assert stats.memory.memory_and_swap.limit_bytes == UNLIMITED


def test_v1_events_have_runcs_shape(tmp_path: Path) -> None:
    """The document runc 1.1 prints for the same numbers, key by key."""
    event = to_runc_events(sample(tmp_path, V1_FILES, 1), "c1")
    data: dict[str, Any] = event["data"]
    assert (event["type"], event["id"]) == ("stats", "c1")
    assert list(data) == ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"]
    assert data["cpu"] == {
        "usage": {
            "total": 11440281,
            "percpu": [10559764, 880517],
            "percpu_kernel": [4000001, 7],
            "percpu_user": [4000000, 0],
            "kernel": 20000000,
            "user": 30000000,
        },
        "throttling": {"periods": 1, "throttledPeriods": 1, "throttledTime": 99},
    }
    assert data["memory"] == {
        "cache": 12,
        "usage": {"limit": 67108864, "usage": 417792, "max": 2539520, "failcnt": 5},
        "swap": {"limit": 9223372036854771712, "failcnt": 0},
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": {"cache": 12, "rss": 49152},
    }
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "op": "Read", "value": 4096},
        {"major": 8, "op": "Write"},
    ]
    assert data["hugetlb"] == {"1GB": {"usage": 3, "max": 4, "failcnt": 1}}
    assert data["cpuset"]["sched_relax_domain_level"] == -1
    assert (data["intel_rdt"], data["network_interfaces"]) == ({}, None)


def test_pressure_is_in_the_events(tmp_path: Path) -> None:
    """PSI stands beside the controller it belongs to."""
    data = to_runc_events(sample(tmp_path, V2_FILES, 2), "c")["data"]
    assert data["cpu"]["psi"]["some"] == {"avg10": 1.5, "avg60": 0.0, "avg300": 0.25, "total": 1234}
    assert "psi" not in data["memory"]


def test_zero_sample_keeps_the_fields_that_runc_keeps() -> None:
    """Clients index these without asking whether they are there."""
    data = to_runc_events(Stats(), "c")["data"]
    assert data["cpu"] == {"usage": {"kernel": 0, "user": 0}, "throttling": {}}
    assert data["memory"]["usage"] == {"limit": 0, "failcnt": 0}
    assert (data["pids"], data["blkio"], data["hugetlb"]) == ({}, {}, {})


def test_pressure_of_odd_text_is_empty() -> None:
    """A kernel without PSI has no such lines."""
    assert parse_pressure("") == {}
    assert parse_pressure("some avg10=1\nnoise\n") == {}


def test_counter_knows_whether_it_is_limited() -> None:
    """Zero is "not counted", and v1's largest value is no limit."""
    assert [Counter(limit_bytes=n).is_limited for n in (0, 1, 9223372036854771712, UNLIMITED)] == [
        False,
        True,
        False,
        False,
    ]


def test_trend_says_whether_pressure_gets_worse() -> None:
    """The last ten seconds against the last minute."""
    some = parse_pressure("some avg10=12.50 avg60=10.00 avg300=1.00 total=5\n")["some"]
    assert some.trend_percent == 2.5
