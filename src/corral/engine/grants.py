"""Writable control groups: whether this host can grant them, and what a container was given."""

from __future__ import annotations

from corral.cgroup.delegate import check_delegation
from corral.cgroup.layout import read_layout
from corral.engine import groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.status import Facts

__all__ = ["check_grant", "list_delegated"]


def check_grant(definition: dict[str, Any]) -> None:
    """Refuse writable groups when they are asked for, not when the container starts (S1.4, S1.5).

    With a user namespace the files' owners keep the container off its own limits, and ``nsdelegate`` is not needed.
    Raises: Unsupported, FailedPrecondition.
    """
    if not _is_asked(definition):
        return
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        has_user = bool(definition.get("namespaces", {}).get("uid_map"))
        check_delegation(read_layout(), file.read(), allow_without_nsdelegate=has_user)


def list_delegated(facts: Facts) -> list[str] | None:
    """The controllers that a container may give to groups of its own (S1.15); None where it may make none."""
    group = groups.open_group_or_none(facts.record) if _is_asked(facts.definition) else None
    if group is None:
        return None
    with group:
        return (group.read_or_none("", "cgroup.subtree_control") or "").split()


def _is_asked(definition: dict[str, Any]) -> bool:
    return bool(definition.get("security", {}).get("writable_cgroups"))
