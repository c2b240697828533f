"""``pause`` and ``unpause``: all processes of a container are stopped, and go on, without noticing."""

from __future__ import annotations

from corral.engine import groups, journal, names, status
from corral.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["pause", "unpause"]

DEADLINE_S = 10.0


def pause(places: Places, reference: str) -> dict[str, Any]:
    """Freeze a running container; one that is frozen already is fine. Raises: NotFound, FailedPrecondition, Timeout."""
    return _change(places, reference, is_pause=True)


def unpause(places: Places, reference: str) -> dict[str, Any]:
    """Let a frozen container go on; one that runs is fine. Raises: NotFound, FailedPrecondition, Timeout."""
    return _change(places, reference, is_pause=False)


def _change(places: Places, reference: str, *, is_pause: bool) -> dict[str, Any]:
    container_id = names.find_id(places, reference)
    facts = status.look(places, container_id)
    name = facts.definition.get("name", reference)
    word = "pause" if is_pause else "unpause"
    if facts.status not in (status.RUNNING, status.PAUSED_, status.STOPPING):
        raise FailedPrecondition(f"{word} container {name!r}: it is not running, it is {facts.status}")
    if (facts.status == status.PAUSED_) == is_pause:
        return {"id": container_id}
    with groups.require_group(facts.record, name) as group:
        if is_pause:
            group.freeze(deadline_s=DEADLINE_S)
        else:
            group.thaw(deadline_s=DEADLINE_S)
    journal.emit(places, "container", word, container_id, name=name)
    return {"id": container_id}
