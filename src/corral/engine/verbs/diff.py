"""``diff``: what a container changed in its root filesystem."""

from __future__ import annotations

from corral.engine import ledger, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["diff"]


def diff(places: Places, reference: str) -> list[dict[str, Any]]:
    """``kind`` (A added, C changed, D removed) and ``path`` of each change, by path; the container may run.

    Raises: NotFound, FailedPrecondition.
    """
    from corral.engine.changes import Changes

    container_id = names.find_id(places, reference)
    with Changes(places, ledger.read_definition(places, container_id)) as changes:
        return list(changes.entries())
