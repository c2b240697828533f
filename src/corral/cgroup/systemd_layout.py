"""The engine's layout of a scope: ``scope/{holder,container}``, and what the scope is allowed beyond the container.

The container's own limits stand on ``container``, exactly. The scope gets the same as properties, plus an allowance
for the holder and for what the kernel charges to the scope itself: with equal limits the scope, which counts the holder
too, would be full first, and every OOM kill would look like that of a limit above. Pure.

Source: cgroup-v2.rst "memory.events.local", "memory.oom.group"; systemd.scope(5) "OOMPolicy=".
"""

from __future__ import annotations

from corral.cgroup.systemd_properties import INFINITY, UnitProperty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CONTAINER", "HOLDER", "MEMORY_ALLOWANCE_BYTES", "TASKS_ALLOWANCE", "with_allowance"]

# The groups in the scope. CRI-O's sub-group has the name of the second one, too.
HOLDER = "holder"
CONTAINER = "container"

# The holder takes less than 1 MiB; the groups' own bookkeeping, which is charged to the scope, grows with the CPUs, and
# each CPU may hold 256 KiB in advance for a group that is charged on it.
MEMORY_ALLOWANCE_BYTES = 16 << 20
# The holder is one; the others are for whoever looks after the container from within its scope.
TASKS_ALLOWANCE = 8

_ALLOWANCES = {
    "MemoryMax": MEMORY_ALLOWANCE_BYTES,
    "MemoryHigh": MEMORY_ALLOWANCE_BYTES,
    "MemorySwapMax": MEMORY_ALLOWANCE_BYTES,
    "MemoryZSwapMax": MEMORY_ALLOWANCE_BYTES,
    "MemoryLimit": MEMORY_ALLOWANCE_BYTES,
    "TasksMax": TASKS_ALLOWANCE,
}


def with_allowance(properties: Sequence[UnitProperty]) -> list[UnitProperty]:
    """The container's limits as the scope's: those on memory and processes are wider by the allowance.

    An ``OOMPolicy`` among them is left out: it would put ``memory.oom.group`` on the scope, and kill the holder, and
    with it the counters, when the container runs out of memory.
    """
    return [_widened(item) for item in properties if item.name != "OOMPolicy"]


def _widened(item: UnitProperty) -> UnitProperty:
    allowance = _ALLOWANCES.get(item.name)
    if allowance is None or item.value == INFINITY:
        return item
    return UnitProperty(
        item.name,
        item.signature,
        min(item.value + allowance, INFINITY - 1),
        pointer=item.pointer,
        is_optional=item.is_optional,
        is_fixed=item.is_fixed,
    )
