"""Samples of what containers use, and what two of them come to.

A sample reads only the counters that are shown, each file once: all containers of a store are sampled in one go, and
what the kernel's files cost is what that costs.
"""

from __future__ import annotations

import errno
import posix
import time

from corral.cgroup.handles import from_os_error
from corral.cgroup.stats import Stats, read_counters, read_cpu_usage_ns
from corral.engine import files
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.status import Facts

__all__ = ["Counters", "add_rates", "sample"]

# Every counter that a sample shows: of the dozens that a group has, the others are not even opened.
_SHOWN = frozenset(
    (
        *("cpuacct.usage", "cpuacct.stat", "cpu.stat", "cpu.pressure"),
        *("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"),
        *("memory.current", "memory.peak", "memory.max", "memory.events", "memory.stat", "memory.pressure"),
        *("io.stat", "io.pressure", "pids.current", "pids.max"),
        *(f"blkio.{kind}io_service_bytes_recursive" for kind in ("bfq.", "", "throttle.")),
    )
)
_ABSENT = (errno.ENODEV, errno.EOPNOTSUPP)


class Counters:
    """The files of a container's groups, by the runtime's record. ``missing``: files that this host does not have.

    Share ``missing`` between the containers of one pass: what the host lacks is asked for once.
    """

    __slots__ = ("_directories", "_missing", "is_v1")

    def __init__(self, facts: Facts, missing: set[str]) -> None:
        self._directories: dict[str, str] = {}
        self._missing = missing
        is_v1 = []
        for group in facts.record.state.get("cgroups", []) if facts.record is not None else ():
            directory = group["mount_point"].rstrip("/") + group["path"]
            if group["fate"] not in ("created", "joined") or not _is_same(directory, group.get("inode", 0)):
                continue
            self._directories.update(dict.fromkeys(group["controllers"], directory))
            if group["version"] == 1:
                is_v1 += group["controllers"]
            else:
                self._directories[""] = directory
        self.is_v1 = frozenset(is_v1)

    def has_group(self) -> bool:
        """Whether it was put into a group of its own at all: rootless containers may go without."""
        return bool(self._directories)

    def is_there(self) -> bool:
        """Whether it has a group to ask, still."""
        return any(paths.isdir(directory) for directory in self._directories.values())

    def read_or_none(self, controller: str, file: str) -> str | None:
        """The text of a counter that is shown; None for others, and where there is none. Raises: CorralError."""
        directory = self._directories.get(controller)
        if directory is None and controller in ("cpuacct", "freezer"):
            directory = self._directories.get("")
        if directory is None or file not in _SHOWN or file in self._missing:
            return None
        path = f"{directory}/{file}"
        try:
            data = files.read_bytes_or_none(path)
        except OSError as exc:
            if exc.errno in _ABSENT:
                return None
            raise from_os_error("read", path, exc) from exc
        if data is None:
            if paths.isdir(directory):
                self._missing.add(file)
            return None
        return data.decode("ascii", "replace")

    def cpu_ns(self) -> int:
        """CPU time used so far. Raises: CorralError."""
        return read_cpu_usage_ns(self, self.is_v1)

    def read(self) -> Stats:
        """All that a sample shows. Raises: CorralError."""
        stats = Stats()
        read_counters(self, stats, self.is_v1)
        return stats


def _is_same(directory: str, inode: int) -> bool:
    """Whether it is the recorded group, where that is on record: another may have been made in its place."""
    try:
        return not inode or posix.stat(directory, follow_symlinks=False).st_ino == inode
    except OSError:
        return False


def sample(facts: Facts, counters: Counters | None = None) -> dict[str, Any] | None:
    """What the container uses now; None if it has no group to ask. Raises: CorralError."""
    counters = counters or Counters(facts, set())
    if not counters.is_there():
        return None
    stats = counters.read()
    shown = to_json(stats)
    shown.update(
        id=facts.container_id,
        name=facts.definition.get("name", ""),
        status=facts.status,
        time_ns=time.monotonic_ns(),
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
