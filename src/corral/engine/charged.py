"""Who is charged where: the processes of a container and those that look after it, by control group (S0.10)."""

from __future__ import annotations

from corral.engine import groups
from corral.engine.execends import list_execs
from corral.engine.keeper import keeper_pid_or_none, monitor_pid_or_none
from corral.linux.procfs import read_cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corral.engine.status import Facts

__all__ = ["list_charged"]


def list_charged(facts: Facts) -> list[dict[str, Any]]:
    """Rows of ``who`` (keeper, monitor, container), ``pids`` and ``cgroups``: path to names of the hierarchies there.

    Read from the kernel, one row for those of a kind that are in the same groups; "" names the v2 hierarchy. Processes
    that end meanwhile are left out.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for who, pid in _processes(facts):
        try:
            found = read_cgroups(pid)
        except ProcessLookupError:
            continue
        row = rows.setdefault((who, repr(sorted(found.items()))), {"who": who, "pids": [], "cgroups": {}})
        row["pids"].append(pid)
        if not row["cgroups"]:
            for hierarchy, path in sorted(found.items()):
                row["cgroups"].setdefault(path, []).append(hierarchy)
    return list(rows.values())


def _processes(facts: Facts) -> Iterator[tuple[str, int]]:
    keeper = keeper_pid_or_none(facts.places)
    if keeper:
        yield "keeper", keeper
    run = facts.places.container_run(facts.container_id)
    execs = [facts.places.exec_run(facts.container_id, name) for name in list_execs(facts.places, facts.container_id)]
    for directory in (run, *execs):
        monitor = monitor_pid_or_none(directory)
        if monitor:
            yield "monitor", monitor
    for pid in groups.list_processes(facts.record):
        yield "container", pid
