"""What a group uses, read once: one model for v1, hybrid and v2, with the units in the names.

Each controller is read where the host has it; what is missing is zero or empty, never an error. Nothing here is
cached: callers that sample keep the ``Group`` open.

Source: cgroup-v2.rst; Documentation/admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller,hugetlb}.rst;
Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import os

from corral.cgroup.writes import parse_number_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from corral.cgroup.group import Group
    from corral.cgroup.member import Member

    class Reader(Protocol):
        """Where the counters are read: a ``Group``, or a ``StatsSampler``'s open files."""

        def read_or_none(self, controller: str, file: str) -> str | None:
            """The text of a file, None if this host has no such file."""


__all__ = [
    "UNLIMITED",
    "Counter",
    "CpuStats",
    "IoEntry",
    "IoStats",
    "MemoryStats",
    "Pressure",
    "Stats",
    "parse_pressure",
    "read_stats",
]

UNLIMITED = (1 << 64) - 1
# v1 counts user and system time in clock ticks; USER_HZ is 100 on every architecture that Corral runs on.
_TICK_NS = 10_000_000
_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
)


class Pressure:
    """One line of a pressure file: shares of the last 10, 60 and 300 seconds in percent, and the sum so far."""

    __slots__ = ("avg10_percent", "avg60_percent", "avg300_percent", "total_us")

    def __init__(self, avg10_percent: float, avg60_percent: float, avg300_percent: float, total_us: int) -> None:
        self.avg10_percent = avg10_percent
        self.avg60_percent = avg60_percent
        self.avg300_percent = avg300_percent
        self.total_us = total_us

    @property
    def trend_percent(self) -> float:
        """How far the last 10 seconds are above (below, if negative) the last 60: whether it gets worse."""
        return self.avg10_percent - self.avg60_percent


class Counter:
    """Bytes used now, at most so far, and allowed (``UNLIMITED`` or a v1 counter's largest: see ``is_limited``).

    ``failures``: how often the limit stood in the way.
    """

    __slots__ = ("failures", "limit_bytes", "max_bytes", "usage_bytes")

    def __init__(self, usage_bytes: int = 0, max_bytes: int = 0, limit_bytes: int = 0, failures: int = 0) -> None:
        self.usage_bytes = usage_bytes
        self.max_bytes = max_bytes
        self.limit_bytes = limit_bytes
        self.failures = failures

    @property
    def is_limited(self) -> bool:
        return 0 < self.limit_bytes < 1 << 62


class CpuStats:
    """CPU time, per CPU where v1 tells it, and throttling by the quota."""

    __slots__ = (
        "kernel_ns",
        "per_cpu_kernel_ns",
        "per_cpu_ns",
        "per_cpu_user_ns",
        "periods",
        "pressure",
        "throttled_ns",
        "throttled_periods",
        "usage_ns",
        "user_ns",
    )

    def __init__(self) -> None:
        self.usage_ns = self.user_ns = self.kernel_ns = 0
        self.per_cpu_ns: list[int] = []
        self.per_cpu_kernel_ns: list[int] = []
        self.per_cpu_user_ns: list[int] = []
        self.periods = self.throttled_periods = self.throttled_ns = 0
        self.pressure: dict[str, Pressure] = {}


class MemoryStats:
    """Memory, and memory+swap as v1 counts them (on v2 the two files are added up). ``raw`` is memory.stat."""

    __slots__ = ("cache_bytes", "kernel", "kernel_tcp", "memory_and_swap", "oom_kills", "pressure", "raw", "usage")

    def __init__(self) -> None:
        self.usage = Counter()
        self.memory_and_swap = Counter()
        self.kernel = Counter()
        self.kernel_tcp = Counter()
        self.cache_bytes = 0
        self.oom_kills = 0
        self.raw: dict[str, int] = {}
        self.pressure: dict[str, Pressure] = {}


class IoEntry:
    """One count of a block device: ``op`` is ``Read``, ``Write`` and so on, as v1 spells it."""

    __slots__ = ("major", "minor", "op", "value")

    def __init__(self, major: int, minor: int, op: str, value: int) -> None:
        self.major = major
        self.minor = minor
        self.op = op
        self.value = value


class IoStats:
    """``tables`` maps a kind of count (the names of v1's files, such as ``io_service_bytes``) to its entries."""

    __slots__ = ("pressure", "tables")

    def __init__(self) -> None:
        self.tables: dict[str, list[IoEntry]] = {}
        self.pressure: dict[str, Pressure] = {}


class Stats:
    """One sample. ``pids_limit`` 0 is no limit; ``cpus`` and ``mems`` are the cpuset's, ``cpuset_flags`` v1's."""

    __slots__ = ("cpu", "cpus", "cpuset_flags", "hugepages", "io", "memory", "mems", "pids_current", "pids_limit")

    def __init__(self) -> None:
        self.cpu = CpuStats()
        self.memory = MemoryStats()
        self.io = IoStats()
        self.pids_current = 0
        self.pids_limit = 0
        self.hugepages: dict[str, Counter] = {}
        self.cpus: list[int] = []
        self.mems: list[int] = []
        self.cpuset_flags: dict[str, int] = {}


def read_stats(group: Group) -> Stats:
    """A sample of ``group``. Raises: PermissionDenied or FailedPrecondition when a file that is there has no answer."""
    stats = Stats()
    is_v1 = v1_controllers(group.members)
    read_counters(group, stats, is_v1)
    if "memory" in is_v1:
        # Kernel memory has no limits of its own that anybody sets: not for every sample.
        _read_rest_v1(group, stats.memory.kernel, "kmem.")
        _read_rest_v1(group, stats.memory.kernel_tcp, "kmem.tcp.")
    _read_hugepages(group, stats, is_v1="hugetlb" in is_v1)
    _read_cpuset(group, stats)
    return stats


def v1_controllers(members: Sequence[Member]) -> frozenset[str]:
    """The controllers that are on v1 in the hierarchies of ``members``."""
    return frozenset(name for member in members if member.version == 1 for name in member.controllers)


def read_counters(group: Reader, stats: Stats, is_v1: frozenset[str]) -> None:
    """Fill in what changes as the group runs: CPU, memory, I/O, processes, pressure. Raises: as ``read_stats``."""
    (_read_cpu_v1 if is_v1 & {"cpuacct", "cpu"} else _read_cpu_v2)(group, stats.cpu)
    (_read_memory_v1 if "memory" in is_v1 else _read_memory_v2)(group, stats.memory)
    (_read_io_v1 if "blkio" in is_v1 else _read_io_v2)(group, stats.io)
    stats.pids_current = _number(group, "pids", "pids.current")
    limit = _number(group, "pids", "pids.max")
    stats.pids_limit = 0 if limit == UNLIMITED else limit
    for name, pressure in (("cpu", stats.cpu.pressure), ("memory", stats.memory.pressure), ("io", stats.io.pressure)):
        pressure.update(parse_pressure(group.read_or_none("", f"{name}.pressure") or ""))


def read_cpu_usage_ns(group: Reader, is_v1: frozenset[str]) -> int:
    """CPU time used so far, alone: what a rate needs of a first sample. Raises: as ``read_stats``."""
    if is_v1 & {"cpuacct", "cpu"}:
        return _number(group, "cpuacct", "cpuacct.usage")
    return _pairs(group, "", "cpu.stat").get("usage_usec", 0) * 1000


def parse_pressure(text: str) -> dict[str, Pressure]:
    """The lines ``some`` and ``full`` of a pressure file; other lines are skipped."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        values = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        if len(values) < 4:
            continue
        found[words[0]] = Pressure(
            float(values["avg10"]), float(values["avg60"]), float(values["avg300"]), int(values["total"])
        )
    return found


def _read_cpu_v1(group: Reader, cpu: CpuStats) -> None:
    cpu.usage_ns = _number(group, "cpuacct", "cpuacct.usage")
    ticks = _pairs(group, "cpuacct", "cpuacct.stat")
    cpu.user_ns = ticks.get("user", 0) * _TICK_NS
    cpu.kernel_ns = ticks.get("system", 0) * _TICK_NS
    cpu.per_cpu_ns = _integers((group.read_or_none("cpuacct", "cpuacct.usage_percpu") or "").split())
    for line in (group.read_or_none("cpuacct", "cpuacct.usage_all") or "").splitlines()[1:]:
        words = _integers(line.split())
        if len(words) == 3:
            cpu.per_cpu_user_ns.append(words[1])
            cpu.per_cpu_kernel_ns.append(words[2])
    throttling = _pairs(group, "cpu", "cpu.stat")
    cpu.periods = throttling.get("nr_periods", 0)
    cpu.throttled_periods = throttling.get("nr_throttled", 0)
    cpu.throttled_ns = throttling.get("throttled_time", 0)


def _read_cpu_v2(group: Reader, cpu: CpuStats) -> None:
    values = _pairs(group, "", "cpu.stat")
    cpu.usage_ns = values.get("usage_usec", 0) * 1000
    cpu.user_ns = values.get("user_usec", 0) * 1000
    cpu.kernel_ns = values.get("system_usec", 0) * 1000
    cpu.periods = values.get("nr_periods", 0)
    cpu.throttled_periods = values.get("nr_throttled", 0)
    cpu.throttled_ns = values.get("throttled_usec", 0) * 1000


def _read_memory_v1(group: Reader, memory: MemoryStats) -> None:
    memory.raw = _pairs(group, "memory", "memory.stat")
    memory.cache_bytes = memory.raw.get("cache", 0)
    memory.oom_kills = _pairs(group, "memory", "memory.oom_control").get("oom_kill", 0)
    memory.kernel.usage_bytes = _number(group, "memory", "memory.kmem.usage_in_bytes")
    memory.kernel_tcp.usage_bytes = _number(group, "memory", "memory.kmem.tcp.usage_in_bytes")
    for counter, middle in ((memory.usage, ""), (memory.memory_and_swap, "memsw.")):
        counter.usage_bytes = _number(group, "memory", f"memory.{middle}usage_in_bytes")
        _read_rest_v1(group, counter, middle)


def _read_rest_v1(group: Reader, counter: Counter, middle: str) -> None:
    counter.max_bytes = _number(group, "memory", f"memory.{middle}max_usage_in_bytes")
    counter.limit_bytes = _number(group, "memory", f"memory.{middle}limit_in_bytes")
    counter.failures = _number(group, "memory", f"memory.{middle}failcnt")


def _read_memory_v2(group: Reader, memory: MemoryStats) -> None:
    memory.raw = _pairs(group, "memory", "memory.stat")
    memory.cache_bytes = memory.raw.get("file", 0)
    events = _pairs(group, "memory", "memory.events")
    memory.oom_kills = events.get("oom_kill", 0)
    usage, swap = memory.usage, memory.memory_and_swap
    usage.usage_bytes = _number(group, "memory", "memory.current")
    usage.limit_bytes = _number(group, "memory", "memory.max")
    usage.max_bytes = _number(group, "memory", "memory.peak")
    usage.failures = events.get("max", 0)
    # v1's counters of memory and swap together; where there is no swap, memory alone is the sum.
    swap.usage_bytes = usage.usage_bytes + _number(group, "memory", "memory.swap.current")
    swap_limit = _number(group, "memory", "memory.swap.max")
    is_open = UNLIMITED in (swap_limit, usage.limit_bytes)
    swap.limit_bytes = UNLIMITED if is_open else usage.limit_bytes + swap_limit
    swap.max_bytes = usage.max_bytes + _number(group, "memory", "memory.swap.peak")
    memory.kernel.usage_bytes = memory.raw.get("kernel", 0)
    memory.kernel_tcp.usage_bytes = memory.raw.get("sock", 0)


_IO_KINDS = (
    "io_service_bytes",
    "io_serviced",
    "io_queued",
    "io_service_time",
    "io_wait_time",
    "io_merged",
    "time",
    "sectors",
)
_IO_FILES = {
    kind: [
        f"{prefix}{kind}_recursive"
        for prefix in ("blkio.bfq.", "blkio.", "blkio.throttle.")
        if prefix != "blkio.throttle." or kind in ("io_service_bytes", "io_serviced")
    ]
    for kind in _IO_KINDS
}


def _read_io_v1(group: Reader, io: IoStats) -> None:
    """Whichever scheduler counts: BFQ, the CFQ of kernels before 5.0, else what throttling sees."""
    for kind, files in _IO_FILES.items():
        for file in files:
            text = group.read_or_none("blkio", file)
            entries = list(_io_entries(text)) if text else []
            if entries:
                io.tables[kind] = entries
                break


def _io_entries(text: str) -> Iterable[IoEntry]:
    """Lines ``8:0 Read 4096`` or ``8:0 4096``; the grand total, which has no device, is left out."""
    for line in text.splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if colon and words and words[-1].isdecimal():
            yield IoEntry(int(major), int(minor), words[0] if len(words) > 1 else "", int(words[-1]))


_IO_WORDS = {
    "rbytes": ("io_service_bytes", "Read"),
    "wbytes": ("io_service_bytes", "Write"),
    "rios": ("io_serviced", "Read"),
    "wios": ("io_serviced", "Write"),
}


def _read_io_v2(group: Reader, io: IoStats) -> None:
    for line in (group.read_or_none("io", "io.stat") or "").splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if not colon:
            continue
        for word in words:
            name, _, value = word.partition("=")
            if name in _IO_WORDS and value.isdecimal():
                kind, op = _IO_WORDS[name]
                io.tables.setdefault(kind, []).append(IoEntry(int(major), int(minor), op, int(value)))


def _read_hugepages(group: Group, stats: Stats, *, is_v1: bool) -> None:
    fd = group.fd_for("hugetlb")
    if fd is None:
        return
    last = ".limit_in_bytes" if is_v1 else ".max"
    for name in sorted(os.listdir(fd)):
        size = name.removeprefix("hugetlb.").removesuffix(last)
        if not (name.startswith("hugetlb.") and name.endswith(last)) or "." in size:
            continue
        prefix = f"hugetlb.{size}"
        if is_v1:
            usage, peak = f"{prefix}.usage_in_bytes", f"{prefix}.max_usage_in_bytes"
            failures = _number(group, "hugetlb", f"{prefix}.failcnt")
        else:
            usage, peak = f"{prefix}.current", ""
            failures = _pairs(group, "hugetlb", f"{prefix}.events").get("max", 0)
        stats.hugepages[size] = Counter(
            _number(group, "hugetlb", usage),
            _number(group, "hugetlb", peak) if peak else 0,
            _number(group, "hugetlb", name),
            failures,
        )


def _read_cpuset(group: Group, stats: Stats) -> None:
    for name in ("cpus", "mems"):
        text = group.read_or_none("cpuset", f"cpuset.{name}") or ""
        if not text.strip():
            text = group.read_or_none("cpuset", f"cpuset.{name}.effective") or ""
        try:
            numbers = sorted(parse_number_set(text))
        except ValueError:
            numbers = []
        if name == "cpus":
            stats.cpus = numbers
        else:
            stats.mems = numbers
    for name in (*_CPUSET_FLAGS, "sched_relax_domain_level"):
        text = group.read_or_none("cpuset", f"cpuset.{name}") or ""
        if text.strip().lstrip("-").isdecimal():
            stats.cpuset_flags[name] = int(text)


def _number(group: Reader, controller: str, file: str) -> int:
    """A file's only number; ``max`` is ``UNLIMITED``, a missing file 0."""
    text = group.read_or_none(controller, file) or "0"
    try:
        return int(text)
    except ValueError:
        return UNLIMITED if text.strip() == "max" else 0


def _pairs(group: Reader, controller: str, file: str) -> dict[str, int]:
    """A flat keyed file; lines that are not ``key number`` are skipped."""
    text = group.read_or_none(controller, file) or ""
    words = text.split()
    if len(words) == 2 * text.count("\n"):
        try:
            return dict(zip(words[::2], map(int, words[1::2]), strict=True))
        except ValueError:
            pass  # a line of another kind, and one more that makes up for its words
    pairs = {}
    for line in text.splitlines():
        key, _, number = line.partition(" ")
        if number.isdecimal():
            pairs[key] = int(number)
    return pairs


def _integers(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isdecimal()]
