"""Samples of what a container uses, and what two of them come to."""

from __future__ import annotations

import time

from corral.cgroup.stats import read_stats
from corral.engine import files, groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cgroup.stats import Stats
    from corral.engine.status import Facts

__all__ = ["add_rates", "sample"]


def sample(facts: Facts) -> dict[str, Any] | None:
    """What the container uses now; None if it has no group to ask. Raises: CorralError."""
    group = groups.open_group_or_none(facts.record)
    if group is None:
        return None
    with group:
        stats = read_stats(group)
    shown = to_json(stats)
    shown.update(
        id=facts.container_id,
        name=facts.definition.get("name", ""),
        status=facts.status,
        time_ns=time.monotonic_ns(),
        pids=stats.pids_current,
        **network_bytes(facts.pid),
    )
    return shown


def to_json(stats: Stats) -> dict[str, Any]:
    """A sample of a group as plain values."""
    memory = stats.memory
    read = write = 0
    for entry in stats.io.tables.get("io_service_bytes_recursive", []) or stats.io.tables.get("io_service_bytes", []):
        if entry.op.lower() == "read":
            read += entry.value
        elif entry.op.lower() == "write":
            write += entry.value
    shown: dict[str, Any] = {
        "cpu_ns": stats.cpu.usage_ns,
        "cpu_user_ns": stats.cpu.user_ns,
        "cpu_kernel_ns": stats.cpu.kernel_ns,
        "throttled_ns": stats.cpu.throttled_ns,
        # As free(1) and docker count it: what the kernel could give back at once is not used.
        "memory_bytes": max(0, memory.usage.usage_bytes - _inactive_file(memory.raw)),
        "memory_total_bytes": memory.usage.usage_bytes,
        "memory_peak_bytes": memory.usage.max_bytes,
        "memory_limit_bytes": memory.usage.limit_bytes if memory.usage.is_limited else 0,
        "oom_kills": memory.oom_kills,
        "pids": stats.pids_current,
        "pids_limit": stats.pids_limit,
        "io_read_bytes": read,
        "io_write_bytes": write,
    }
    pressure = {}
    for name, found in (("cpu", stats.cpu.pressure), ("memory", memory.pressure), ("io", stats.io.pressure)):
        if found:
            pressure[name] = {
                kind: {"avg10": line.avg10_percent, "avg60": line.avg60_percent, "total_us": line.total_us}
                for kind, line in found.items()
            }
    if pressure:
        shown["pressure"] = pressure
    return shown


def _inactive_file(raw: dict[str, int]) -> int:
    return raw.get("total_inactive_file", raw.get("inactive_file", 0))


def network_bytes(pid: int) -> dict[str, int]:
    """Bytes in and out of all interfaces but loopback, in the network namespace of ``pid``."""
    received = sent = 0
    text = files.read_bytes_or_none(f"/proc/{pid}/net/dev", is_link_fine=True) if pid else None
    for line in (text or b"").decode("ascii", "replace").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() != "lo" and len(words) >= 9:
            received += int(words[0])
            sent += int(words[8])
    return {"net_received_bytes": received, "net_sent_bytes": sent}


def add_rates(now: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """``now`` with ``cpu_percent`` (100 = one CPU all the time) since ``before``; None: since it began, so no rate."""
    elapsed = now["time_ns"] - before["time_ns"] if before is not None else 0
    used = now["cpu_ns"] - before["cpu_ns"] if before is not None else 0
    limit = now["memory_limit_bytes"]
    return {
        **now,
        "cpu_percent": 100.0 * used / elapsed if elapsed > 0 and used > 0 else 0.0,
        "memory_percent": 100.0 * now["memory_bytes"] / limit if limit else 0.0,
    }
