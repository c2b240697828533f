"""``inspect``: everything about a container, or about what its limits come to."""

from __future__ import annotations

from corral.engine import files, groups, names, status
from corral.engine.charged import list_charged
from corral.engine.execends import list_execs
from corral.engine.grants import list_delegated
from corral.engine.settle import settle_quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["inspect"]


def inspect(places: Places, reference: str, *, effective: bool = False, size: bool = False) -> dict[str, Any]:
    """The definition, the state, where things are, and its resources.

    ``effective``: what stands in the kernel for each limit, and which group above really binds. ``size``: how much
    its writable layer holds, which is counted. Raises: NotFound.
    """
    container_id = names.find_id(places, reference)
    facts = status.look(places, container_id)
    if facts.status == status.EXITED and facts.state.get("settled") != facts.run:
        settle_quietly(places, container_id)
        facts = status.look(places, container_id)
    shown: dict[str, Any] = {
        **facts.definition,
        "state": facts.to_json(),
        "image_config": (files.read_object_or_none(f"{places.container(container_id)}/image.json") or {}).get("config"),
        "network_result": facts.state.get("network", {}),
        "resources_held": _resources(facts),
        "paths": {
            "directory": places.container(container_id),
            "run": places.container_run(container_id),
            "bundle": places.bundle(container_id),
            "log": f"{places.container(container_id)}/log",
        },
        "execs": list_execs(places, container_id),
    }
    if facts.is_live:
        shown["monitor"] = _monitor(facts)
        shown["charged"] = list_charged(facts)
        shown["delegated_controllers"] = list_delegated(facts)
    if effective:
        shown["effective"] = _effective(facts)
    if size:
        shown["size_rw_bytes"] = files.tree_bytes(f"{places.container(container_id)}/upper")
    return shown


def _resources(facts: Facts) -> list[dict[str, Any]]:
    """What belongs to it: of the runtime's record the cgroups, of the engine's ledger the rest."""
    rows = [dict(row) for row in facts.state.get("resources", [])]
    if facts.record is not None:
        rows += [
            {"kind": "cgroup", "name": f"{group['mount_point']}{group['path']}", "fate": group["fate"]}
            | ({"why": group["reason"]} if group.get("reason") else {})
            for group in facts.record.state.get("cgroups", [])
        ]
    return rows


def _monitor(facts: Facts) -> dict[str, Any]:
    """Who looks after it; a monitor that is stopped, or waits in the kernel for good, is not responsive."""
    from corral.engine.keeper import monitor_pid_or_none

    pid = monitor_pid_or_none(facts.places.container_run(facts.container_id))
    found = groups.describe(pid) if pid else None
    if found is None:
        return {"pid": 0, "is_responsive": False}
    shown: dict[str, Any] = {"pid": pid, "state": found.state, "is_responsive": found.state not in ("T", "t", "D")}
    if not shown["is_responsive"]:
        shown["wchan"] = found.wchan
        stack = files.read_bytes_or_none(f"/proc/{pid}/stack", is_link_fine=True)
        shown["stack"] = (stack or b"").decode("ascii", "replace").splitlines()
    return shown


def _effective(facts: Facts) -> list[dict[str, Any]]:
    from corral.cgroup.binding import effective
    from corral.cgroup.layout import read_layout
    from corral.cgroup.limits import compile_limits

    if facts.record is None:
        return []
    config = facts.record.read_config()
    resources = facts.record.state.get("resources") or config.get("linux", {}).get("resources") or {}
    group = groups.open_group_or_none(facts.record)
    if group is None:
        return []
    with group:
        return [limit.to_record() for limit in effective(group, compile_limits(resources, read_layout()).writes)]
