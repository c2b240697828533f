"""What systemd must know of a container's unit: its limits once more as properties, and how the unit is to behave.

systemd writes what it knows to a unit's files whenever it reloads, so a limit that only the files have is lost then.
Limits come in as the writes compiled for the files (``corral.cgroup.limits``): one meaning, rendered twice. Files
without a property (huge pages, rdma, burst) are none of systemd's business, and it leaves them alone. Pure.

Source: org.freedesktop.systemd1(5), systemd.resource-control(5), systemd.scope(5).
"""

from __future__ import annotations

from corral.cgroup.slices import ROOT_SLICE
from corral.cgroup.writes import parse_number_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from corral.cgroup.layout import Layout
    from corral.cgroup.slices import UnitPlace
    from corral.cgroup.writes import LimitWrite

    DeviceTable = Mapping[tuple[str, int, int], str]
    Render = Callable[[LimitWrite, Mapping[str, "UnitProperty"]], list["UnitProperty"]]

__all__ = [
    "INFINITY",
    "UnitProperty",
    "bit_mask",
    "device_properties",
    "limit_properties",
    "quota_per_second",
    "unit_properties",
]

# "no limit", in every property that counts something.
INFINITY = (1 << 64) - 1
# systemd keeps a quota as whole percents of a second in its unit files, and would round ours down on a reload.
_PERCENT_US = 10_000
_ANY = -1


class UnitProperty:
    """A property by its D-Bus name, its type and value in jeepney's terms.

    ``is_optional``: a systemd that does not know it (yet, or any more) does without, and so do we. ``is_fixed``: it
    can only be given when the unit is started. ``pointer`` is the place in config.json that asked for it, or "".
    """

    __slots__ = ("is_fixed", "is_optional", "name", "pointer", "signature", "value")

    def __init__(
        self,
        name: str,
        signature: str,
        value: Any,  # noqa: ANN401  # what a D-Bus variant may be
        *,
        pointer: str = "",
        is_optional: bool = False,
        is_fixed: bool = False,
    ) -> None:
        self.name = name
        self.signature = signature
        self.value = value
        self.pointer = pointer
        self.is_optional = is_optional
        self.is_fixed = is_fixed

    @property
    def wire(self) -> tuple[str, tuple[str, Any]]:
        """As a member of ``a(sv)``."""
        return (self.name, (self.signature, self.value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnitProperty):
            return NotImplemented
        return (self.wire, self.is_optional, self.is_fixed) == (other.wire, other.is_optional, other.is_fixed)

    # A value may be a list.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"UnitProperty({self.name}={self.value!r}{' or without' if self.is_optional else ''})"


def unit_properties(place: UnitPlace, *, description: str) -> list[UnitProperty]:
    """How the unit itself is to behave; limits and pids are not among these.

    Accounting makes systemd enable the controllers on the way down, and for the unit.
    """
    common = [
        UnitProperty("Description", "s", description, is_fixed=True),
        # Nothing of the host's shutdown order, and no conflict with it: the caller ends its containers.
        UnitProperty("DefaultDependencies", "b", False, is_fixed=True),
        UnitProperty("CollectMode", "s", "inactive-or-failed", is_optional=True, is_fixed=True),
    ]
    if place.is_slice and place.slice != ROOT_SLICE:
        common.append(UnitProperty("Wants", "as", [place.slice], is_fixed=True))
    if not place.is_slice:
        common.append(UnitProperty("Slice", "s", place.slice, is_fixed=True))
        common.append(UnitProperty("Delegate", "b", True, is_fixed=True))
        # Before systemd 253 a scope had no such property: an OOM kill in it then ends the whole scope.
        common.append(UnitProperty("OOMPolicy", "s", "continue", is_optional=True, is_fixed=True))
    common += [UnitProperty(name, "b", True, is_optional=name in _MAY_LACK) for name in _ACCOUNTING]
    return common


_ACCOUNTING = ("CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting")
# Since systemd 258 there is CPU time without it, and v1's block I/O was never "IO".
_MAY_LACK = ("CPUAccounting", "IOAccounting")


def limit_properties(writes: Sequence[LimitWrite], layout: Layout) -> list[UnitProperty]:
    """The properties that say what ``writes`` write, in their order; each property once (the last one counts)."""
    found: dict[str, UnitProperty] = {}
    for write in writes:
        version = layout.hierarchies[write.hierarchy_index].version
        render = (_V1 if version == 1 else _V2).get(write.file)
        if render is None:
            continue
        for unit_property in render(write, found):
            found[unit_property.name] = unit_property
    return list(found.values())


def device_properties(table: DeviceTable | None, *, is_v1: bool) -> list[UnitProperty]:
    """Which devices systemd lets the unit have. ``table`` is (type, major, minor) to access, None for all devices.

    On v1 a reload writes systemd's own list over ours, so it must know ours. On v2 both attach a program and an
    access must pass both; ours alone does, while systemd's looks devices up by name and, at a reload, forgets those
    without a link in /dev/char: there it gets no list.
    """
    if not is_v1 or table is None:
        return [
            UnitProperty("DevicePolicy", "s", "auto", is_optional=True),
            UnitProperty("DeviceAllow", "a(ss)", [], is_optional=True),
        ]
    entries: dict[str, str] = {}
    for (kind, major, minor), access in table.items():
        name = _device_name(kind, major, minor)
        merged = set(entries.get(name, "")) | set(access)
        entries[name] = "".join(letter for letter in "rwm" if letter in merged)
    return [
        UnitProperty("DevicePolicy", "s", "strict"),
        # Emptied first: what is set is added to the list that is there.
        UnitProperty("DeviceAllow", "a(ss)", []),
        UnitProperty("DeviceAllow", "a(ss)", sorted(entries.items())),
    ]


def _device_name(kind: str, major: int, minor: int) -> str:
    """systemd's way to name devices; what it cannot say (any major, one minor) becomes all of the type."""
    word = "block" if kind == "b" else "char"
    if major == _ANY:
        return f"{word}-*"
    return f"{word}-{major}" if minor == _ANY else f"/dev/{word}/{major}:{minor}"


def _number(text: str) -> int:
    """A limit's text as an unsigned number; ``max``, -1 and what is beyond 64 bits are no limit."""
    words = text.split()
    word = words[-1] if words[:1] == ["default"] else (words or ["max"])[0]
    return min(int(word), INFINITY) if word.isdecimal() and word.isascii() else INFINITY


def _count(name: str, *, optional: bool = False) -> Render:
    """A property that holds the file's number."""

    def render(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
        number = _number(write.value)
        return [UnitProperty(name, "t", number, pointer=write.pointer, is_optional=optional)]

    return render


def _mask(name: str) -> Render:
    """A set of numbers. Optional: systemd before 244 leaves the cpuset alone."""

    def render(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
        try:
            mask = bit_mask(write.value)
        except ValueError:
            return []
        return [UnitProperty(name, "ay", mask, pointer=write.pointer, is_optional=True)]

    return render


def _cpu_max(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    quota, period = [*write.value.split(), "100000"][:2]
    return _bandwidth(quota, period, write.pointer)


def _quota_v1(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    """Quota and period are two files on v1; whichever comes second finds what the first left."""
    period_now = found.get("CPUQuotaPeriodUSec")
    period = str(period_now.value) if period_now is not None else "100000"
    return _bandwidth(write.value, period, write.pointer)


def _period_v1(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    return [UnitProperty("CPUQuotaPeriodUSec", "t", _number(write.value), pointer=write.pointer, is_optional=True)]


def _bandwidth(quota: str, period: str, pointer: str) -> list[UnitProperty]:
    """Optional is the period alone (systemd 242)."""
    if not (period.isdecimal() and int(period)):
        return []
    per_second = quota_per_second(int(quota), int(period)) if quota.isdecimal() else INFINITY
    return [
        UnitProperty("CPUQuotaPeriodUSec", "t", int(period), pointer=pointer, is_optional=True),
        UnitProperty("CPUQuotaPerSecUSec", "t", min(per_second, INFINITY), pointer=pointer),
    ]


def _cpu_idle(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    """Weight 0 is systemd's word for idle (252). Not idle is what any other weight means."""
    if write.value != "1":
        return []
    return [UnitProperty("CPUWeight", "t", 0, pointer=write.pointer, is_optional=True)]


def _oom_group(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    policy = "kill" if write.value == "1" else "continue"
    return [UnitProperty("OOMPolicy", "s", policy, pointer=write.pointer, is_optional=True, is_fixed=True)]


def _writeback(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    return [UnitProperty("MemoryZSwapWriteback", "b", write.value != "0", pointer=write.pointer, is_optional=True)]


def _per_device(name: str) -> Render:
    """One entry (device, number) of a list; optional, for systemd finds a device only by its link in /dev/block."""

    def render(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
        device, *words = write.value.split()
        return [_added(name, device, words[0], write, found)] if words else []

    return render


def _io_max(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    device, *words = write.value.split() or [""]
    pairs = [word.partition("=") for word in words]
    return [_added(_IO_MAX[key], device, value, write, found) for key, _, value in pairs if key in _IO_MAX]


def _io_weight(write: LimitWrite, found: Mapping[str, UnitProperty]) -> list[UnitProperty]:
    """The group's weight, or a device's when a device stands before it."""
    if ":" in write.value:
        return _per_device("IODeviceWeight")(write, found)
    return _count("IOWeight")(write, found)


def _added(name: str, device: str, value: str, write: LimitWrite, found: Mapping[str, UnitProperty]) -> UnitProperty:
    entry = (f"/dev/block/{device}", _number(value))
    before = [old for old in found[name].value if old[0] != entry[0]] if name in found else []
    return UnitProperty(name, "a(st)", [*before, entry], pointer=write.pointer, is_optional=True)


_IO_MAX = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}

# io.bfq.weight has no row: systemd derives it from IOWeight by itself.
_V2: dict[str, Render] = {
    "memory.max": _count("MemoryMax"),
    "memory.high": _count("MemoryHigh"),
    "memory.low": _count("MemoryLow"),
    "memory.min": _count("MemoryMin", optional=True),
    "memory.swap.max": _count("MemorySwapMax"),
    "memory.zswap.max": _count("MemoryZSwapMax", optional=True),
    "memory.zswap.writeback": _writeback,
    "memory.oom.group": _oom_group,
    "cpu.weight": _count("CPUWeight"),
    "cpu.idle": _cpu_idle,
    "cpu.max": _cpu_max,
    "cpuset.cpus": _mask("AllowedCPUs"),
    "cpuset.mems": _mask("AllowedMemoryNodes"),
    "pids.max": _count("TasksMax"),
    "io.weight": _io_weight,
    "io.max": _io_max,
}
# v1's own names are gone since systemd 258, and its hosts with them. A v1 cpuset is none of systemd's business.
_V1: dict[str, Render] = {
    "memory.limit_in_bytes": _count("MemoryLimit"),
    "cpu.shares": _count("CPUShares"),
    "cpu.cfs_period_us": _period_v1,
    "cpu.cfs_quota_us": _quota_v1,
    "pids.max": _count("TasksMax"),
    "blkio.weight": _count("BlockIOWeight"),
    "blkio.weight_device": _per_device("BlockIODeviceWeight"),
    "blkio.throttle.read_bps_device": _per_device("BlockIOReadBandwidth"),
    "blkio.throttle.write_bps_device": _per_device("BlockIOWriteBandwidth"),
}


def quota_per_second(quota_us: int, period_us: int) -> int:
    """CPU time per second in us, rounded up to whole percents of a CPU: systemd's ``CPUQuotaPerSecUSec``."""
    per_second = -(-quota_us * 1_000_000 // period_us)
    return -(-per_second // _PERCENT_US) * _PERCENT_US


def bit_mask(text: str) -> bytes:
    """A list such as ``0-2,7`` as systemd takes sets of CPUs and nodes: bit n of the whole is number n."""
    numbers = parse_number_set(text)
    mask = bytearray(max(numbers, default=0) // 8 + 1)
    for number in numbers:
        mask[number // 8] |= 1 << number % 8
    return bytes(mask)
