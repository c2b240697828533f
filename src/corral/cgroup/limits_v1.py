"""``linux.resources`` in the files of cgroup v1. Pure; called by ``corral.cgroup.limits``.

Source: runtime-spec config-linux.md; Documentation/admin-guide/cgroup-v1/ (memory.rst, blkio-controller.rst,
net_cls.rst, net_prio.rst) and Documentation/scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from corral.cgroup.limits_any import compile_cpuset, compile_hugepages, compile_pids, compile_rdma
from corral.cgroup.writes import LimitWrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corral.cgroup.layout import Hierarchy
    from corral.cgroup.writes import Expect, Host

SHARES_MIN = 2
SHARES_MAX = 262144
# "-1" as an unsigned 64 bit number: dockerd sends it for "not set".
_UNSET_U64 = (1 << 64) - 1


def compile_memory(section: Mapping[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Limit and memory+swap first, in the order that a fresh, unlimited group takes: the lower bound of the two."""
    pointer = f"{host.pointer}.memory"
    limit, swap = section.get("limit", 0), section.get("swap", 0)
    if not check_memory(limit, swap, host):
        return
    if limit:
        _bytes(host, hierarchy, "memory.limit_in_bytes", limit, pointer=f"{pointer}.limit", why=_MEMORY_FIRST)
    if swap:
        _bytes(host, hierarchy, "memory.memsw.limit_in_bytes", swap, pointer=f"{pointer}.swap", optional=swap == -1)
    elif limit == -1:
        # As on v2: unlimited memory with nothing said of swap means both.
        _bytes(host, hierarchy, "memory.memsw.limit_in_bytes", -1, pointer=f"{pointer}.limit", optional=True)
    if section.get("reservation"):
        _bytes(host, hierarchy, "memory.soft_limit_in_bytes", section["reservation"], pointer=f"{pointer}.reservation")
    if section.get("kernelTCP"):
        _bytes(host, hierarchy, "memory.kmem.tcp.limit_in_bytes", section["kernelTCP"], pointer=f"{pointer}.kernelTCP")
    if section.get("kernel"):
        host.warn(f"{pointer}.kernel", "kernel memory limits were removed from Linux (5.16) and are ignored")
    swappiness = section.get("swappiness", -1)
    if swappiness not in (-1, _UNSET_U64):
        if not 0 <= swappiness <= 100:
            host.refuse(f"{pointer}.swappiness", f"{swappiness} is not between 0 and 100")
        else:
            _integer(host, hierarchy, "memory.swappiness", swappiness, pointer=f"{pointer}.swappiness")
    if section.get("disableOOMKiller"):
        host.out.writes.append(
            LimitWrite(
                hierarchy.index,
                "memory",
                "memory.oom_control",
                "1",
                pointer=f"{pointer}.disableOOMKiller",
                expect=("line", "oom_kill_disable 1"),
            )
        )


_MEMORY_FIRST = "memory before memory+swap: the kernel keeps the first at or below the second"


def check_memory(limit: int, swap: int, host: Host) -> bool:
    """Whether limit and memory+swap (0: unset, -1: none) can stand together; records why not."""
    pointer = f"{host.pointer}.memory"
    if limit < -1:
        host.refuse(f"{pointer}.limit", f"{limit} is negative", hint="use -1 for no limit")
    elif swap < -1:
        host.refuse(f"{pointer}.swap", f"{swap} is negative", hint="use -1 for no limit")
    elif swap > 0 and limit == 0:
        host.refuse(f"{pointer}.swap", "memory+swap is limited, but memory is not", hint="set memory.limit as well")
    elif swap > 0 and limit == -1:
        return True
    elif 0 < swap < limit:
        host.refuse(
            f"{pointer}.swap",
            f"{swap} is less than the memory limit {limit}",
            hint="swap is the sum of memory and swap: give at least memory.limit",
        )
    else:
        return True
    return False


def compile_cpu(asked: dict[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Realtime first (a realtime process may only enter a group with runtime), then shares, then bandwidth."""
    pointer = f"{host.pointer}.cpu"
    for key, name in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        if asked.get(key):
            _integer(host, hierarchy, name, asked[key], pointer=f"{pointer}.{key}", why="realtime before the attach")
    idle = asked.get("idle")
    if idle is not None and idle != 1:
        _integer(host, hierarchy, "cpu.idle", idle, pointer=f"{pointer}.idle", why="an idle group takes no shares")
    shares = asked.get("shares")
    if shares and idle == 1:
        host.warn(f"{pointer}.shares", "an idle group has the least weight there is; shares are not used")
    elif shares and not SHARES_MIN <= shares <= SHARES_MAX:
        bound = f"the minimum allowed cpu-shares is {SHARES_MIN}"
        if shares > SHARES_MAX:
            bound = f"the maximum allowed cpu-shares is {SHARES_MAX}"
        host.refuse(f"{pointer}.shares", f"{shares} is out of range: {bound}")
    elif shares:
        _integer(host, hierarchy, "cpu.shares", shares, pointer=f"{pointer}.shares")
    if check_bandwidth(asked, host):
        _bandwidth(asked, host, hierarchy, pointer)
    if idle == 1:
        _integer(host, hierarchy, "cpu.idle", 1, pointer=f"{pointer}.idle")


def _bandwidth(asked: dict[str, Any], host: Host, hierarchy: Hierarchy, pointer: str) -> None:
    if asked.get("period"):
        why = "period before quota: the ratio is checked against the parent's"
        _integer(host, hierarchy, "cpu.cfs_period_us", asked["period"], pointer=f"{pointer}.period", why=why)
    if asked.get("quota"):
        quota = max(asked["quota"], -1)
        _integer(host, hierarchy, "cpu.cfs_quota_us", quota, pointer=f"{pointer}.quota")
    if "burst" in asked:
        why = "burst after quota: it may not be larger"
        _integer(
            host,
            hierarchy,
            "cpu.cfs_burst_us",
            asked["burst"],
            pointer=f"{pointer}.burst",
            why=why,
            optional=asked["burst"] == 0,
        )


def check_bandwidth(asked: dict[str, Any], host: Host) -> bool:
    """Whether quota, period and burst are in the kernel's ranges (1 ms to 1 s; quota at least 1 ms)."""
    pointer = f"{host.pointer}.cpu"
    problems = len(host.out.problems)
    period, quota, burst = asked.get("period", 0), asked.get("quota", 0), asked.get("burst", 0)
    if period and not 1000 <= period <= 1000000:
        host.refuse(f"{pointer}.period", f"{period} us is not between 1000 and 1000000")
    if 0 < quota < 1000:
        host.refuse(f"{pointer}.quota", f"{quota} us is less than 1000", hint="lengthen period and quota alike")
    if quota > 0 and burst > quota:
        host.refuse(f"{pointer}.burst", f"{burst} us is more than the quota of {quota}")
    return len(host.out.problems) == problems


def compile_block_io(asked: dict[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Weights (whose files depend on the I/O scheduler that the kernel has) and throttles."""
    pointer = f"{host.pointer}.blockIO"
    for key, names in (("weight", _WEIGHT_FILES), ("leafWeight", ("blkio.leaf_weight",))):
        weight = asked.get(key)
        if weight and check_weight(weight, f"{pointer}.{key}", host):
            for name in names:
                host.out.writes.append(
                    _blkio(
                        hierarchy,
                        name,
                        str(weight),
                        pointer=f"{pointer}.{key}",
                        expect=("default", weight),
                        one_of=f"blkio {key}",
                    )
                )
    for at, entry in enumerate(asked.get("weightDevice", ())):
        device = f"{entry.get('major', 0)}:{entry.get('minor', 0)}"
        place = f"{pointer}.weightDevice[{at}]"
        for key, names in (("weight", _WEIGHT_DEVICE_FILES), ("leafWeight", ("blkio.leaf_weight_device",))):
            weight = entry.get(key)
            if weight and check_weight(weight, f"{place}.{key}", host):
                value = f"{device} {weight}"
                for name in names:
                    host.out.writes.append(
                        _blkio(
                            hierarchy,
                            name,
                            value,
                            pointer=f"{place}.{key}",
                            expect=("line", value),
                            one_of=f"{place} {key}",
                        )
                    )
    for key, name in _THROTTLES:
        for at, entry in enumerate(asked.get(key, ())):
            device, rate = f"{entry.get('major', 0)}:{entry.get('minor', 0)}", entry.get("rate", 0)
            value = f"{device} {rate}"
            # Rate 0 takes the rule away.
            expect: Expect = ("line", value) if rate else ("no_line", device)
            host.out.writes.append(_blkio(hierarchy, name, value, pointer=f"{pointer}.{key}[{at}].rate", expect=expect))


_WEIGHT_FILES = ("blkio.bfq.weight", "blkio.weight")
_WEIGHT_DEVICE_FILES = ("blkio.bfq.weight_device", "blkio.weight_device")
_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def check_weight(weight: int, pointer: str, host: Host) -> bool:
    """Whether a block I/O weight is in the spec's range; records why not."""
    if 10 <= weight <= 1000:
        return True
    host.refuse(pointer, f"weight {weight} is not between 10 and 1000")
    return False


def compile_network(key: str, value: int | Sequence[Mapping[str, Any]], host: Host, hierarchy: Hierarchy) -> None:
    """``classID`` for net_cls, ``priorities`` for net_prio."""
    pointer = f"{host.pointer}.network.{key}"
    if isinstance(value, int):
        host.out.writes.append(
            LimitWrite(
                hierarchy.index, "net_cls", "net_cls.classid", str(value), pointer=pointer, expect=("integer", value)
            )
        )
        return
    for at, entry in enumerate(value):
        name, priority = entry.get("name", ""), entry.get("priority", 0)
        if not name or any(c.isspace() for c in name):
            host.refuse(f"{pointer}[{at}].name", f"{name!r} is not an interface's name")
            continue
        text = f"{name} {priority}"
        host.out.writes.append(
            LimitWrite(
                hierarchy.index,
                "net_prio",
                "net_prio.ifpriomap",
                text,
                pointer=f"{pointer}[{at}]",
                expect=("line", text),
            )
        )


def _bytes(
    host: Host,
    hierarchy: Hierarchy,
    file: str,
    value: int,
    *,
    pointer: str,
    why: str = "",
    optional: bool = False,
) -> None:
    expect: Expect = ("unlimited",) if value < 0 else ("bytes", value, host.page_size)
    text = str(max(value, -1))
    host.out.writes.append(
        LimitWrite(hierarchy.index, "memory", file, text, pointer=pointer, expect=expect, why=why, is_optional=optional)
    )


def _integer(
    host: Host,
    hierarchy: Hierarchy,
    file: str,
    value: int,
    *,
    pointer: str,
    why: str = "",
    optional: bool = False,
) -> None:
    host.out.writes.append(
        LimitWrite(
            hierarchy.index,
            file.partition(".")[0],
            file,
            str(value),
            pointer=pointer,
            expect=("integer", value),
            why=why,
            is_optional=optional,
        )
    )


def _blkio(
    hierarchy: Hierarchy, file: str, value: str, *, pointer: str, expect: Expect, one_of: str = ""
) -> LimitWrite:
    return LimitWrite(hierarchy.index, "blkio", file, value, pointer=pointer, expect=expect, one_of=one_of)


SECTIONS: dict[str, Any] = {
    "cpuset": compile_cpuset,
    "cpu": compile_cpu,
    "memory": compile_memory,
    "hugepageLimits": compile_hugepages,
    "rdma": compile_rdma,
    "pids": compile_pids,
}
