"""``ps``: the containers of a store and what each is doing."""

from __future__ import annotations

from corral.engine import names, status
from corral.engine.filters import Filter
from corral.engine.settle import settle_quietly
from corral.errors import CorralError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["ps"]


def ps(
    places: Places, *, is_all: bool = False, filters: list[str] | None = None, last: int = 0, pods: bool = False
) -> list[dict[str, Any]]:
    """One row per container, newest first: those that live, or ``is_all``; ``filters`` as ``key=value``.

    ``last``: only so many, whatever their state. ``pods``: also those that hold a pod's namespaces.
    Raises: InvalidArgument for an unknown filter, or one that names a container which is not there.
    """
    chosen = Filter(filters or [])
    chosen.check(places)
    rows: list[dict[str, Any]] = []
    for container_id in names.list_ids(places):
        try:
            facts = status.look(places, container_id)
            if _needs_settling(facts):
                settle_quietly(places, container_id)
                facts = status.look(places, container_id)
        except NotFound:
            continue
        except CorralError as exc:
            rows.append({"id": container_id, "name": "", "status": "unreadable", "error": str(exc), "created_ns": 0})
            continue
        is_wanted = is_all or last or facts.is_live or chosen.has("status") or chosen.has("exited")
        if is_wanted and (pods or not facts.definition.get("is_infra")) and chosen.matches(facts):
            rows.append(to_row(facts))
    rows.sort(key=lambda row: row["created_ns"], reverse=True)
    return rows[:last] if last else rows


def _needs_settling(facts: Facts) -> bool:
    return facts.status == status.EXITED and facts.state.get("settled") != facts.run


def to_row(facts: Facts) -> dict[str, Any]:
    """What ``ps`` shows of one container."""
    definition = facts.definition
    return {
        "id": facts.container_id,
        "name": definition.get("name", ""),
        "image": definition.get("root", {}).get("image") or definition.get("root", {}).get("kind", ""),
        "image_id": definition.get("root", {}).get("image_id", ""),
        "command": [*definition["process"].get("entrypoint", []), *definition["process"].get("command", [])],
        "created_ns": definition.get("created_ns", 0),
        "ports": facts.state.get("network", {}).get("ports") or definition.get("network", {}).get("ports", []),
        "networks": [item["name"] for item in definition.get("network", {}).get("attachments", [])],
        "labels": definition.get("labels", {}),
        "mounts": [item.get("source") or item["target"] for item in definition.get("mounts", [])],
        "pod": definition.get("pod", ""),
        "is_infra": bool(definition.get("is_infra")),
        **facts.to_json(),
    }
