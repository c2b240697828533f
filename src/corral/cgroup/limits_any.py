"""Limits whose files are alike on v1 and v2: cpuset, pids, hugetlb, rdma. Pure.

Source: runtime-spec config-linux.md; Documentation/admin-guide/cgroup-v1/{cpusets,pids,hugetlb,rdma}.rst and
cgroup-v2.rst.
"""

from __future__ import annotations

from corral.cgroup.writes import LimitWrite, parse_number_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from corral.cgroup.layout import Hierarchy
    from corral.cgroup.writes import Host

_UNITS = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def compile_cpuset(asked: dict[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """``cpus`` and ``mems``."""
    for key in ("cpus", "mems"):
        text = asked.get(key)
        if not text:
            continue
        pointer = f"{host.pointer}.cpu.{key}"
        try:
            numbers = parse_number_set(text)
        except ValueError as cause:
            host.refuse(pointer, str(cause), hint="write a list such as '0-2,7'")
            continue
        if not numbers:
            host.refuse(pointer, f"{text!r} names none", hint="write a list such as '0-2,7'")
            continue
        host.out.writes.append(
            LimitWrite(
                hierarchy.index,
                "cpuset",
                f"cpuset.{key}",
                text,
                pointer=pointer,
                expect=("cpus", text),
                why="before the attach: the set must not be empty or too wide when a process comes in",
            )
        )


def compile_pids(section: Mapping[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """``limit``: negative is no limit, absent leaves the file alone.

    Zero is told apart by the config's version (``Host.pids_zero_is_limit``). As a limit it becomes 1: a group with
    one process that cannot fork is what 0 means, and with 0 itself nothing could be cloned into the group.
    """
    limit = section.get("limit")
    if limit is None or (limit == 0 and not host.pids_zero_is_limit):
        return
    value = "max" if limit < 0 else str(max(limit, 1))
    host.out.writes.append(
        LimitWrite(
            hierarchy.index,
            "pids",
            "pids.max",
            value,
            pointer=f"{host.pointer}.pids.limit",
            expect=("max",) if limit < 0 else ("integer", int(value)),
        )
    )


def compile_hugepages(section: Sequence[Mapping[str, Any]], host: Host, hierarchy: Hierarchy) -> None:
    """A limit per page size, and the same for reservations, so that a mapping is refused and not killed later.

    The ``rsvd`` files exist since Linux 5.7 (commit cdc2fcfea79b).
    """
    last = "limit_in_bytes" if hierarchy.version == 1 else "max"
    for at, entry in enumerate(section):
        pointer = f"{host.pointer}.hugepageLimits[{at}]"
        size = entry.get("pageSize", "")
        number, unit = size[:-2], _UNITS.get(size[-2:])
        if unit is None or not (number.isdecimal() and number.isascii()) or number.startswith("0"):
            host.refuse(f"{pointer}.pageSize", f"{size!r} is not a page size", hint="write it as '2MB' or '1GB'")
            continue
        limit = entry.get("limit", 0)
        for middle, optional in (("rsvd.", True), ("", False)):
            host.out.writes.append(
                LimitWrite(
                    hierarchy.index,
                    "hugetlb",
                    f"hugetlb.{size}.{middle}{last}",
                    str(limit),
                    pointer=f"{pointer}.limit",
                    expect=("bytes", limit, int(number) * unit),
                    is_optional=optional,
                )
            )


def compile_rdma(section: Mapping[str, Any], host: Host, hierarchy: Hierarchy) -> None:
    """Handles and objects per device."""
    for device, limits in section.items():
        pointer = f"{host.pointer}.rdma.{device}"
        if not device or any(c.isspace() for c in device):
            host.refuse(pointer, f"{device!r} is not a device's name")
            continue
        words = [
            f"{name}={limits[key]}"
            for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if key in limits
        ]
        if not words:
            host.refuse(pointer, "neither hcaHandles nor hcaObjects is given")
            continue
        value = f"{device} {' '.join(words)}"
        host.out.writes.append(
            LimitWrite(hierarchy.index, "rdma", "rdma.max", value, pointer=pointer, expect=("line", value))
        )
