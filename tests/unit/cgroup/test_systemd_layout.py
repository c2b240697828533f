"""The engine's layout of a scope: what the scope is allowed beyond the container."""

from __future__ import annotations

import pytest

from corral.cgroup.systemd_layout import MEMORY_ALLOWANCE_BYTES, TASKS_ALLOWANCE, with_allowance
from corral.cgroup.systemd_properties import INFINITY, UnitProperty


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryZSwapMax", "MemoryLimit"])
def test_limit_of_memory_is_wider_on_the_scope(name: str) -> None:
    """By the stated allowance, with everything else as it was."""
    (widened,) = with_allowance([UnitProperty(name, "t", 1 << 20, pointer="p", is_optional=True)])
    assert widened == UnitProperty(name, "t", (1 << 20) + MEMORY_ALLOWANCE_BYTES, is_optional=True)
    assert widened.pointer == "p"


def test_limit_of_processes_leaves_room_for_the_holder() -> None:
    """Or a container with its own number of processes would not even start."""
    (widened,) = with_allowance([UnitProperty("TasksMax", "t", 1)])
    assert widened.value == 1 + TASKS_ALLOWANCE


@pytest.mark.parametrize("value", [INFINITY, INFINITY - 1])
def test_no_limit_stays_none_and_the_largest_does_not_become_one(value: int) -> None:
    """The largest number means "no limit" to systemd."""
    assert with_allowance([UnitProperty("MemoryMax", "t", value)])[0].value == value


@pytest.mark.parametrize("item", [UnitProperty("CPUWeight", "t", 50), UnitProperty("CPUQuotaPerSecUSec", "t", 10_000)])
def test_shares_of_time_are_the_same_for_both(item: UnitProperty) -> None:
    """The holder takes none."""
    assert with_allowance([item]) == [item]


def test_policy_for_the_whole_unit_is_left_out() -> None:
    """``memory.oom.group`` is the leaf's alone."""
    assert with_allowance([UnitProperty("OOMPolicy", "s", "kill")]) == []
