"""``linux.resources`` in the files of cgroup v2, with the conversions from v1 units. Pure.

Source: runtime-spec config-linux.md; Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from corral.cgroup.limits_any import compile_cpuset, compile_hugepages, compile_pids, compile_rdma
from corral.cgroup.limits_v1 import (
    SHARES_MAX,
    SHARES_MIN,
    check_bandwidth,
    check_memory,
    check_weight,
)
from corral.cgroup.writes import LimitWrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral.cgroup.layout import Hierarchy
    from corral.cgroup.writes import Expect, Host

_UNSET_U64 = (1 << 64) - 1


def weight_from_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144), 0 for 0 ("unset").

    Minimum, default (1024 is 100) and maximum meet: ten to a quadratic in log2(shares), rounded up. This is the
    formula of runc 1.3.2 and crun 1.23; the linear one before them gave the default of v1 a weight of 39.
    Source: https://github.com/opencontainers/runc/issues/4772.
    """
    if shares == 0:
        return 0
    if shares <= SHARES_MIN:
        return 1
    if shares >= SHARES_MAX:
        return 10000
    import math

    log = math.log2(shares)
    exponent = (log * log + 125 * log) / 612.0 - 7.0 / 34.0
    return math.ceil(math.pow(10.0, exponent))


def io_weight_from_blkio(weight: int) -> int:
    """io.weight (1 to 10000) for v1's blkio.weight (10 to 1000), linear, 0 for 0 ("unset")."""
    return 1 + (weight - 10) * 9999 // 990 if weight else 0


def swap_from_memsw(memsw: int, memory: int) -> int | None:
    """memory.swap.max for v1's sum of memory and swap; -1 is no limit, None leaves the file alone.

    Arguments: 0 is unset, -1 no limit; the pair has passed ``check_memory``.
    """
    if memory == -1 and memsw == 0:
        return -1
    if memsw == 0:
        return None
    if memsw == -1 or memory == -1:
        return memsw
    return memsw - memory


def compile_memory(section: Mapping[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Swap, then memory: with memory first, a group that is over its new limit would swap out what it may not."""
    pointer = f"{host.pointer}.memory"
    limit, memsw = section.get("limit", 0), section.get("swap", 0)
    if not check_memory(limit, memsw, host):
        return
    swap = swap_from_memsw(memsw, limit)
    if swap is not None:
        # A kernel without swap has no such file, and then "no swap" and "all swap" are both true already.
        asked = f"{pointer}.swap" if memsw else f"{pointer}.limit"
        _bytes(host, hierarchy, "memory.swap.max", swap, pointer=asked, optional=swap in (0, -1))
    if limit:
        _bytes(host, hierarchy, "memory.max", limit, pointer=f"{pointer}.limit")
    if section.get("reservation"):
        _bytes(host, hierarchy, "memory.low", section["reservation"], pointer=f"{pointer}.reservation")
    if section.get("kernel"):
        host.warn(f"{pointer}.kernel", "kernel memory limits were removed from Linux (5.16) and are ignored")
    if section.get("kernelTCP", 0) > 0:
        host.lack(f"{pointer}.kernelTCP", "cgroup v2 has no limit of its own for TCP buffers: memory.max counts them")
    if section.get("swappiness", -1) not in (-1, _UNSET_U64):
        host.lack(f"{pointer}.swappiness", "cgroup v2 has no swappiness of its own per group")
    if section.get("disableOOMKiller"):
        host.lack(
            f"{pointer}.disableOOMKiller",
            "cgroup v2 cannot switch the OOM killer off",
            hint="use unified 'memory.high' to throttle instead",
        )


def compile_cpu(asked: dict[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Weight, bandwidth, burst, idle."""
    pointer = f"{host.pointer}.cpu"
    for key in ("realtimeRuntime", "realtimePeriod"):
        if asked.get(key):
            host.lack(f"{pointer}.{key}", "cgroup v2 has no realtime limits")
    idle = asked.get("idle")
    if idle is not None and idle != 1:
        _write(host, hierarchy, "cpu.idle", str(idle), pointer=f"{pointer}.idle", expect=("integer", idle))
    shares = asked.get("shares")
    if shares and idle == 1:
        host.warn(f"{pointer}.shares", "an idle group has the least weight there is; shares are not used")
    elif shares:
        weight = weight_from_shares(shares)
        _write(host, hierarchy, "cpu.weight", str(weight), pointer=f"{pointer}.shares", expect=("integer", weight))
    if check_bandwidth(asked, host):
        _bandwidth(asked, host, hierarchy, pointer)
    if idle == 1:
        _write(host, hierarchy, "cpu.idle", "1", pointer=f"{pointer}.idle", expect=("integer", 1))


def _bandwidth(asked: dict[str, Any], host: Host, hierarchy: Hierarchy, pointer: str) -> None:
    quota, period = asked.get("quota", 0), asked.get("period", 0)
    if quota or period:
        allowed = str(quota) if quota > 0 else "max"
        period = period or 100000
        where = f"{pointer}.quota" if quota else f"{pointer}.period"
        _write(
            host, hierarchy, "cpu.max", f"{allowed} {period}", pointer=where, expect=("cpu_max", allowed, str(period))
        )
    if "burst" in asked:
        burst = asked["burst"]
        write = LimitWrite(
            hierarchy.index,
            "cpu",
            "cpu.max.burst",
            str(burst),
            pointer=f"{pointer}.burst",
            expect=("integer", burst),
            why="burst after quota: it may not be larger",
            is_optional=burst == 0,
        )
        host.out.writes.append(write)


def compile_block_io(asked: dict[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Weights go to BFQ's file and to the one of iocost (converted), whichever exist; throttles to io.max."""
    pointer = f"{host.pointer}.blockIO"
    weight = asked.get("weight")
    if weight and check_weight(weight, f"{pointer}.weight", host):
        for name, value in (("io.bfq.weight", weight), ("io.weight", io_weight_from_blkio(weight))):
            _io(host, hierarchy, name, str(value), pointer=f"{pointer}.weight", expect=("default", value))
    if asked.get("leafWeight"):
        host.lack(f"{pointer}.leafWeight", "cgroup v2 has no leaf weights")
    for at, entry in enumerate(asked.get("weightDevice", ())):
        place = f"{pointer}.weightDevice[{at}]"
        weight = entry.get("weight")
        if weight and check_weight(weight, f"{place}.weight", host):
            device = _device(entry)
            for name, value in (("io.bfq.weight", weight), ("io.weight", io_weight_from_blkio(weight))):
                text = f"{device} {value}"
                _io(host, hierarchy, name, text, pointer=f"{place}.weight", expect=("line", text))
        if entry.get("leafWeight"):
            host.lack(f"{place}.leafWeight", "cgroup v2 has no leaf weights")
    for key, word in _THROTTLES:
        for at, entry in enumerate(asked.get(key, ())):
            rate = entry.get("rate", 0)
            # v1 takes 0 for "no rule"; io.max wants the word.
            text = f"{_device(entry)} {word}={rate or 'max'}"
            expect: Expect = ("line", text) if rate else ("none",)
            _write(host, hierarchy, "io.max", text, pointer=f"{pointer}.{key}[{at}].rate", expect=expect)


_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def _device(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('major', 0)}:{entry.get('minor', 0)}"


def compile_unified(section: Mapping[str, Any], host: Host) -> None:
    """Raw v2 files, in the config's order; a value of several lines is written line by line, as the kernel takes it."""
    unified = host.layout.unified
    for name, value in section.items():
        pointer = f"{host.pointer}.unified[{name!r}]"
        controller = name.partition(".")[0]
        if "/" in name:
            host.refuse(pointer, f"{name!r} must be a file name (no slashes)")
        elif not _is_file_name(name):
            host.refuse(pointer, f"{name!r} is not of the form 'controller.file'")
        elif controller == "cgroup" and name not in _CORE_FILES:
            host.refuse(pointer, f"{name!r} is Corral's to write", hint=f"of the core files: {', '.join(_CORE_FILES)}")
        elif unified is None:
            host.lack(pointer, f"this host has no cgroup v2 hierarchy (layout {host.layout.mode})")
        elif controller != "cgroup" and controller not in unified.controllers:
            host.lack(
                pointer,
                f"the cgroup v2 hierarchy has no {controller!r} controller (layout {host.layout.mode})",
                hint=f"it has: {' '.join(unified.controllers) or 'none'}",
            )
        else:
            lines = [line for line in str(value).split("\n") if line.strip()] or [""]
            for line in lines:
                expect = _raw_expect(name, line.strip(), host.page_size)
                _write(host, unified, name, line, pointer=pointer, expect=expect)


_CORE_FILES = ("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure")


def _is_file_name(name: str) -> bool:
    head, dot, tail = name.partition(".")
    return bool(head and dot and tail) and name.isascii() and all(c.isalnum() or c in "._-" for c in name)


def _raw_expect(name: str, value: str, page_size: int) -> Expect:
    """How a raw file reads back, for those whose form is plain; the others are the kernel's word alone."""
    if name in ("cpuset.cpus", "cpuset.mems"):
        return ("cpus", value)
    if not (value.isdecimal() and value.isascii()):
        return ("max",) if value == "max" and name != "cpu.max" else ("none",)
    number = int(value)
    if name.startswith("memory.") and name.rpartition(".")[2] in ("min", "low", "high", "max"):
        return ("bytes", number, page_size)
    if name in ("pids.max", "cpu.weight", "cpu.idle", "cpu.max.burst", "memory.oom.group", *_CORE_FILES):
        return ("integer", number)
    return ("none",)


def _bytes(host: Host, hierarchy: Hierarchy, file: str, value: int, *, pointer: str, optional: bool = False) -> None:
    text = "max" if value < 0 else str(value)
    expect: Expect = ("max",) if value < 0 else ("bytes", value, host.page_size)
    write = LimitWrite(hierarchy.index, "memory", file, text, pointer=pointer, expect=expect, is_optional=optional)
    host.out.writes.append(write)


def _write(host: Host, hierarchy: Hierarchy, file: str, value: str, *, pointer: str, expect: Expect) -> None:
    controller = file.partition(".")[0]
    if controller == "cgroup":
        controller = ""
    host.out.writes.append(LimitWrite(hierarchy.index, controller, file, value, pointer=pointer, expect=expect))


def _io(host: Host, hierarchy: Hierarchy, file: str, value: str, *, pointer: str, expect: Expect) -> None:
    host.out.writes.append(
        LimitWrite(hierarchy.index, "io", file, value, pointer=pointer, expect=expect, one_of=pointer)
    )


SECTIONS: dict[str, Any] = {
    "cpuset": compile_cpuset,
    "cpu": compile_cpu,
    "memory": compile_memory,
    "hugepageLimits": compile_hugepages,
    "rdma": compile_rdma,
    "pids": compile_pids,
}
