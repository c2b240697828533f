"""A sample in the JSON shape of ``runc events --stats``, which dashboards and wrappers parse. Pure.

Source: runc's documented output (man runc-events); fields that are zero are left out where runc leaves them out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cgroup.stats import Counter, IoEntry, Pressure, Stats

__all__ = ["to_runc_events"]

_IO_NAMES = {
    "io_service_bytes": "ioServiceBytesRecursive",
    "io_serviced": "ioServicedRecursive",
    "io_queued": "ioQueueRecursive",
    "io_service_time": "ioServiceTimeRecursive",
    "io_wait_time": "ioWaitTimeRecursive",
    "io_merged": "ioMergedRecursive",
    "time": "ioTimeRecursive",
    "sectors": "sectorsRecursive",
}
# In runc's order; all are printed, zero or not.
_CPUSET_FIELDS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def to_runc_events(stats: Stats, container_id: str) -> dict[str, Any]:
    """The event object of type ``stats``: CPU times in nanoseconds, everything else in bytes or counts."""
    return {
        "type": "stats",
        "id": container_id,
        "data": {
            "cpu": _cpu(stats),
            "cpuset": _cpuset(stats),
            "memory": _memory(stats),
            "pids": _present({"current": stats.pids_current, "limit": stats.pids_limit}),
            "blkio": _blkio(stats),
            "hugetlb": {size: _counter(counter, limit=False) for size, counter in stats.hugepages.items()},
            "intel_rdt": {},
            "network_interfaces": None,
        },
    }


def _cpu(stats: Stats) -> dict[str, Any]:
    cpu = stats.cpu
    usage = _present(
        {
            "total": cpu.usage_ns,
            "percpu": cpu.per_cpu_ns,
            "percpu_kernel": cpu.per_cpu_kernel_ns,
            "percpu_user": cpu.per_cpu_user_ns,
        }
    )
    usage["kernel"] = cpu.kernel_ns
    usage["user"] = cpu.user_ns
    throttling = _present(
        {
            "periods": cpu.periods,
            "throttledPeriods": cpu.throttled_periods,
            "throttledTime": cpu.throttled_ns,
        }
    )
    return {"usage": usage, "throttling": throttling, **_psi(cpu.pressure)}


def _cpuset(stats: Stats) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if stats.cpus:
        fields["cpus"] = stats.cpus
    fields["cpu_exclusive"] = stats.cpuset_flags.get("cpu_exclusive", 0)
    if stats.mems:
        fields["mems"] = stats.mems
    for name in _CPUSET_FIELDS:
        fields[name] = stats.cpuset_flags.get(name, 0)
    return fields


def _memory(stats: Stats) -> dict[str, Any]:
    memory = stats.memory
    return {
        **_present({"cache": memory.cache_bytes}),
        "usage": _counter(memory.usage),
        "swap": _counter(memory.memory_and_swap),
        "kernel": _counter(memory.kernel),
        "kernelTCP": _counter(memory.kernel_tcp),
        **_present({"raw": memory.raw}),
        **_psi(memory.pressure),
    }


def _blkio(stats: Stats) -> dict[str, Any]:
    tables = {
        name: [_io_entry(entry) for entry in stats.io.tables[kind]]
        for kind, name in _IO_NAMES.items()
        if stats.io.tables.get(kind)
    }
    return {**tables, **_psi(stats.io.pressure)}


def _io_entry(entry: IoEntry) -> dict[str, Any]:
    return _present({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value})


def _counter(counter: Counter, *, limit: bool = True) -> dict[str, Any]:
    fields: dict[str, Any] = {"limit": counter.limit_bytes} if limit else {}
    fields.update(_present({"usage": counter.usage_bytes, "max": counter.max_bytes}))
    fields["failcnt"] = counter.failures
    return fields


def _psi(pressure: dict[str, Pressure]) -> dict[str, Any]:
    if not pressure:
        return {}
    return {
        "psi": {
            word: {
                "avg10": line.avg10_percent,
                "avg60": line.avg60_percent,
                "avg300": line.avg300_percent,
                "total": line.total_us,
            }
            for word, line in pressure.items()
        }
    }


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without zeros and empty values, which Go's ``omitempty`` leaves out."""
    return {name: value for name, value in fields.items() if value}
