"""Control groups: where they are, what limits mean, how they are read back. A library of its own.

Whatever a program needs is a name of this package: ``from corral.cgroup import read_layout, open_group``. A module is
loaded when one of its names is first asked for, so that importing the package costs nothing. docs/cgroup-library.md
shows how the names work together.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.binding import EffectiveLimit, effective, render_effective
    from corral.cgroup.creation import CreatedGroup, create_group
    from corral.cgroup.delegate import (
        Delegation,
        check_delegation,
        enable_delegation,
        plan_delegation,
        prepare_delegation,
        read_delegate_files,
    )
    from corral.cgroup.devices import CompiledDevices, DeviceRule, compile_devices
    from corral.cgroup.direct import (
        DelegatedParent,
        ensure_delegated_parent,
        remove_delegated_parent,
        verify_delegated_parent,
    )
    from corral.cgroup.events import GONE, EventWatch, GroupEvent, PressureTrigger, iterate_events
    from corral.cgroup.group import Existing, Group, inspect_existing, open_group
    from corral.cgroup.layout import Hierarchy, Layout, parse_layout, read_layout
    from corral.cgroup.limits import compile_limits, order_for_update
    from corral.cgroup.location import (
        CGROUPFS,
        DISABLED,
        SYSTEMD,
        CgroupfsLocation,
        Placement,
        SystemdLocation,
        parse_cgroups_path,
        place,
    )
    from corral.cgroup.member import Member, members_below, members_of
    from corral.cgroup.oom import OomCounters, OomSample, OomVerdict, attribute_oom
    from corral.cgroup.removal import Pending, RemovalResult, Survivor, remove_group, remove_parents
    from corral.cgroup.sampler import StatsSampler
    from corral.cgroup.slices import (
        UnitPlace,
        escape_name,
        escape_path,
        nest_slice,
        parent_slice,
        place_unit,
        slice_from_path,
        slice_path,
        unescape_name,
    )
    from corral.cgroup.stats import (
        UNLIMITED,
        Counter,
        CpuStats,
        IoEntry,
        IoStats,
        MemoryStats,
        Pressure,
        Stats,
        parse_pressure,
        read_stats,
    )
    from corral.cgroup.systemd_annotations import annotation_property, parse_variant
    from corral.cgroup.systemd_bus import Manager, StartedUnit, is_systemd_running, system_manager, user_manager
    from corral.cgroup.systemd_layout import MEMORY_ALLOWANCE_BYTES, TASKS_ALLOWANCE, with_allowance
    from corral.cgroup.systemd_properties import UnitProperty, device_properties, limit_properties, unit_properties
    from corral.cgroup.writes import Compiled, LimitWrite, judge, judge_all

__all__ = [
    "CGROUPFS",
    "DISABLED",
    "GONE",
    "MEMORY_ALLOWANCE_BYTES",
    "SYSTEMD",
    "TASKS_ALLOWANCE",
    "UNLIMITED",
    "CgroupfsLocation",
    "Compiled",
    "CompiledDevices",
    "Counter",
    "CpuStats",
    "CreatedGroup",
    "DelegatedParent",
    "Delegation",
    "DeviceRule",
    "EffectiveLimit",
    "EventWatch",
    "Existing",
    "Group",
    "GroupEvent",
    "Hierarchy",
    "IoEntry",
    "IoStats",
    "Layout",
    "LimitWrite",
    "Manager",
    "Member",
    "MemoryStats",
    "OomCounters",
    "OomSample",
    "OomVerdict",
    "Pending",
    "Placement",
    "Pressure",
    "PressureTrigger",
    "RemovalResult",
    "StartedUnit",
    "Stats",
    "StatsSampler",
    "Survivor",
    "SystemdLocation",
    "UnitPlace",
    "UnitProperty",
    "annotation_property",
    "attribute_oom",
    "check_delegation",
    "compile_devices",
    "compile_limits",
    "create_group",
    "device_properties",
    "effective",
    "enable_delegation",
    "ensure_delegated_parent",
    "escape_name",
    "escape_path",
    "inspect_existing",
    "is_systemd_running",
    "iterate_events",
    "judge",
    "judge_all",
    "limit_properties",
    "members_below",
    "members_of",
    "nest_slice",
    "open_group",
    "order_for_update",
    "parent_slice",
    "parse_cgroups_path",
    "parse_layout",
    "parse_pressure",
    "parse_variant",
    "place",
    "place_unit",
    "plan_delegation",
    "prepare_delegation",
    "read_delegate_files",
    "read_layout",
    "read_stats",
    "remove_delegated_parent",
    "remove_group",
    "remove_parents",
    "render_effective",
    "slice_from_path",
    "slice_path",
    "system_manager",
    "unescape_name",
    "unit_properties",
    "user_manager",
    "verify_delegated_parent",
    "with_allowance",
]

# Where each of them is defined.
_NAMES = {
    "binding": "EffectiveLimit effective render_effective",
    "creation": "CreatedGroup create_group",
    "delegate": "Delegation check_delegation enable_delegation plan_delegation prepare_delegation read_delegate_files",
    "devices": "CompiledDevices DeviceRule compile_devices",
    "direct": "DelegatedParent ensure_delegated_parent remove_delegated_parent verify_delegated_parent",
    "events": "GONE EventWatch GroupEvent PressureTrigger iterate_events",
    "group": "Existing Group inspect_existing open_group",
    "layout": "Hierarchy Layout parse_layout read_layout",
    "limits": "compile_limits order_for_update",
    "location": "CGROUPFS DISABLED SYSTEMD CgroupfsLocation Placement SystemdLocation parse_cgroups_path place",
    "member": "Member members_below members_of",
    "oom": "OomCounters OomSample OomVerdict attribute_oom",
    "removal": "Pending RemovalResult Survivor remove_group remove_parents",
    "sampler": "StatsSampler",
    "slices": "UnitPlace escape_name escape_path nest_slice parent_slice place_unit slice_from_path slice_path"
    " unescape_name",
    "stats": "UNLIMITED Counter CpuStats IoEntry IoStats MemoryStats Pressure Stats parse_pressure read_stats",
    "systemd_annotations": "annotation_property parse_variant",
    "systemd_bus": "Manager StartedUnit is_systemd_running system_manager user_manager",
    "systemd_layout": "MEMORY_ALLOWANCE_BYTES TASKS_ALLOWANCE with_allowance",
    "systemd_properties": "UnitProperty device_properties limit_properties unit_properties",
    "writes": "Compiled LimitWrite judge judge_all",
}

if not TYPE_CHECKING:
    # The type checker would take every name for one of the package.
    def __getattr__(name: str) -> object:
        """Load the module that defines ``name``, which then stays (PEP 562). Submodules never get here."""
        for module, names in _NAMES.items():
            if name in names.split():
                value: object = getattr(__import__(f"{__name__}.{module}", fromlist=(name,)), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
