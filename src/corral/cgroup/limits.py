"""``linux.resources`` as an ordered list of writes, for whatever hierarchies this host has. Pure.

Each controller is compiled for the hierarchy that carries it, so a hybrid host (memory on v1, hugetlb on v2) needs
no case of its own. A limit whose controller the host lacks is a problem, never dropped. The device list is not
here: see ``corral.cgroup.devices``.

Source: runtime-spec config-linux.md "Control groups".
"""

from __future__ import annotations

from corral.cgroup.writes import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from corral.cgroup.layout import Hierarchy, Layout
    from corral.cgroup.writes import Compiled, LimitWrite

    Resources = Mapping[str, Any]
    Section = Callable[[Any, "Host"], None]

__all__ = ["compile_limits", "order_for_update"]

# The order of the sections: cpuset first, for a v1 group without cpus and mems takes no process at all; pids last,
# so that nothing we still do in the group runs against it.
_SECTIONS = ("cpu", "memory", "hugepageLimits", "blockIO", "rdma", "network", "pids")
_CONTROLLERS = {
    "memory": "memory",
    "pids": "pids",
    "hugepageLimits": "hugetlb",
    "rdma": "rdma",
}


def compile_limits(
    resources: Resources,
    layout: Layout,
    *,
    pointer: str = "linux.resources",
    page_size: int = 4096,
    pids_zero_is_limit: bool = True,
) -> Compiled:
    """The writes for ``resources`` (normalised: no nulls) in the order in which a fresh group takes them.

    Everything may be written before a process enters the group; realtime and cpuset values must be.
    ``pids_zero_is_limit``: runtime-spec 1.3 made ``pids.limit: 0`` a real limit; for configs of older versions, whose
    writers mean "unset", pass False.
    """
    host = Host(layout, pointer, page_size, pids_zero_is_limit=pids_zero_is_limit)
    for name in _SECTIONS:
        section = resources.get(name)
        if section:
            _COMPILERS[name](section, host)
    unified = resources.get("unified")
    if unified:
        from corral.cgroup.limits_v2 import compile_unified

        compile_unified(unified, host)
        _drop_overridden(host.out, pointer)
    return host.out


def _sections_of(hierarchy: Hierarchy) -> Mapping[str, Callable[[Any, Host, Hierarchy], None]]:
    """The compilers of the hierarchy's version. Most hosts need one of the two modules: the other is not imported."""
    if hierarchy.version == 1:
        from corral.cgroup import limits_v1

        return limits_v1.SECTIONS
    from corral.cgroup import limits_v2

    return limits_v2.SECTIONS


def _by_version(name: str) -> Section:
    """A compiler for a section that belongs to exactly one controller."""

    def compile_section(section: dict[str, Any] | list[dict[str, Any]], host: Host) -> None:
        pointer = f"{host.pointer}.{name}"
        hierarchy = host.layout.hierarchy_for(_CONTROLLERS[name])
        if hierarchy is None:
            if _asks_for_something(name, section, host):
                host.carrier(_CONTROLLERS[name], pointer)
            return
        _sections_of(hierarchy)[name](section, host, hierarchy)

    return compile_section


def _asks_for_something(name: str, section: dict[str, Any] | list[dict[str, Any]], host: Host) -> bool:
    """Whether the section has any effect: engines send empty and "no limit" ones by the dozen."""
    if not isinstance(section, dict):
        return any(entry.get("limit", 0) for entry in section)
    if name == "memory":
        keys = ("limit", "reservation", "swap", "kernelTCP")
        return any(section.get(k, 0) not in (0, -1) for k in keys) or bool(section.get("disableOOMKiller"))
    if name == "pids":
        limit = section.get("limit", -1)
        return bool(limit > 0 or (limit == 0 and host.pids_zero_is_limit))
    return bool(section)


def _compile_cpu(section: Mapping[str, Any], host: Host) -> None:
    for controller, keys, name in (
        ("cpuset", ("cpus", "mems"), "cpuset"),
        ("cpu", ("shares", "quota", "period", "burst", "idle", "realtimeRuntime", "realtimePeriod"), "cpu"),
    ):
        asked = {key: section[key] for key in keys if section.get(key) not in (None, "", 0)}
        # Zero means "unset" for all of them but idle and burst, where it is a value.
        asked.update({key: section[key] for key in ("idle", "burst") if key in keys and key in section})
        if not asked:
            continue
        first = next(iter(asked))
        hierarchy = host.layout.hierarchy_for(controller)
        if hierarchy is None and not any(asked.values()):
            continue
        if hierarchy is None:
            host.carrier(controller, f"{host.pointer}.cpu.{first}")
            continue
        _sections_of(hierarchy)[name](asked, host, hierarchy)


def _compile_block_io(section: Mapping[str, Any], host: Host) -> None:
    asked = {key: value for key, value in section.items() if value}
    if not asked:
        return
    v1 = host.layout.hierarchy_for("blkio")
    if v1 is not None:
        from corral.cgroup import limits_v1

        limits_v1.compile_block_io(asked, host, v1)
        return
    v2 = host.layout.hierarchy_for("io")
    if v2 is not None:
        from corral.cgroup import limits_v2

        limits_v2.compile_block_io(asked, host, v2)
        return
    pointer = f"{host.pointer}.blockIO.{next(iter(asked))}"
    host.lack(pointer, f"this host has neither a 'blkio' nor an 'io' cgroup controller (layout {host.layout.mode})")


def _compile_network(section: Mapping[str, Any], host: Host) -> None:
    """v1 only: v2 marks traffic by cgroup path (BPF, nftables), and has no file for either."""
    for controller, key in (("net_cls", "classID"), ("net_prio", "priorities")):
        if not section.get(key):
            continue
        pointer = f"{host.pointer}.network.{key}"
        hierarchy = host.layout.hierarchy_for(controller)
        if hierarchy is None:
            host.carrier(controller, pointer)
        else:
            from corral.cgroup.limits_v1 import compile_network

            compile_network(key, section[key], host, hierarchy)


_COMPILERS: dict[str, Section] = {
    "cpu": _compile_cpu,
    "memory": _by_version("memory"),
    "hugepageLimits": _by_version("hugepageLimits"),
    "blockIO": _compile_block_io,
    "rdma": _by_version("rdma"),
    "network": _compile_network,
    "pids": _by_version("pids"),
}


def _drop_overridden(out: Compiled, pointer: str) -> None:
    """``unified`` has the last word on a file (runtime-spec): a typed write to the same one would only be undone."""
    raw = {(w.hierarchy_index, w.file) for w in out.writes if w.pointer.startswith(f"{pointer}.unified")}
    kept = []
    for write in out.writes:
        if (write.hierarchy_index, write.file) in raw and not write.pointer.startswith(f"{pointer}.unified"):
            out.warnings.append((write.pointer, f"{pointer}.unified[{write.file!r}] overrides it"))
        else:
            kept.append(write)
    out.writes[:] = kept


def order_for_update(current: Mapping[tuple[int, str], str], wanted: Sequence[LimitWrite]) -> list[LimitWrite]:
    """``wanted`` in the order in which a group that has the ``current`` values takes them.

    ``current`` maps (hierarchy index, file) to the text that the file has now; a missing entry counts as "no limit".
    Pairs that bind each other (memory <= memory+swap, burst <= quota, realtime runtime <= period) are turned around
    where the first write alone would break the bond. Pure; keeps all other writes in place.
    """
    ordered = list(wanted)
    _turn(ordered, current, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    _turn(ordered, current, "cpu.cfs_quota_us", "cpu.cfs_burst_us", first_is_ceiling=True)
    _turn(ordered, current, "cpu.max", "cpu.max.burst", first_is_ceiling=True)
    _turn(ordered, current, "cpu.rt_period_us", "cpu.rt_runtime_us", first_is_ceiling=True)
    _tighten_period(ordered, current)
    return ordered


def _turn(
    ordered: list[LimitWrite],
    current: Mapping[tuple[int, str], str],
    first: str,
    second: str,
    *,
    first_is_ceiling: bool = False,
) -> None:
    """Put ``second`` before ``first`` if writing ``first`` now would break the bond between them.

    The bond is first <= second (memory and memory+swap), or second <= first if ``first_is_ceiling``.
    """
    places = {write.file: at for at, write in enumerate(ordered) if write.file in (first, second)}
    if len(places) < 2:
        return
    a, b = ordered[places[first]], ordered[places[second]]
    new, other = amount(a.value), amount(current.get((b.hierarchy_index, second), "0" if first_is_ceiling else "max"))
    breaks = new < other if first_is_ceiling else new > other
    if breaks != (places[second] < places[first]):
        ordered[places[first]], ordered[places[second]] = b, a


def _tighten_period(ordered: list[LimitWrite], current: Mapping[tuple[int, str], str]) -> None:
    """Quota before period if the old quota over the new, shorter period could exceed what the parent has."""
    places = {write.file: at for at, write in enumerate(ordered) if write.file.startswith("cpu.cfs_")}
    if "cpu.cfs_period_us" not in places or "cpu.cfs_quota_us" not in places:
        return
    period, quota = ordered[places["cpu.cfs_period_us"]], ordered[places["cpu.cfs_quota_us"]]
    old_period = amount(current.get((period.hierarchy_index, period.file), "100000"))
    if amount(period.value) < old_period and places["cpu.cfs_period_us"] < places["cpu.cfs_quota_us"]:
        ordered.remove(period)
        ordered.insert(ordered.index(quota) + 1, period)


def amount(text: str) -> int:
    """The first number of a limit file's text; "max" and -1 count as larger than any limit."""
    word = (text.split() or ["max"])[0]
    if word == "max" or word.startswith("-") or not word.isdecimal():
        return 1 << 64
    return int(word)
