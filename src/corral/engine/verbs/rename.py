"""``rename``: another name for the same container."""

from __future__ import annotations

from corral.engine import journal, ledger, names
from corral.engine.failpoints import failpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["rename"]


def rename(places: Places, reference: str, name: str) -> dict[str, Any]:
    """Give a container another name. Raises: NotFound, AlreadyExists, InvalidArgument."""
    container_id = names.find_id(places, reference)
    # All of it under the lock: who tidies up finds one name, or two of which nobody is at work on the other.
    with ledger.Update(places, container_id):
        definition = ledger.read_definition(places, container_id)
        before = definition["name"]
        names.reserve(places, name, container_id)
        failpoint("rename.reserved")
        try:
            ledger.write_definition(places, container_id, {**definition, "name": name})
        except BaseException:
            if before != name:
                names.release(places, name, container_id)
            raise
        failpoint("rename.written")
        if before != name:
            names.release(places, before, container_id)
    if before != name:
        journal.emit(places, "container", "rename", container_id, name=name, attributes={"old_name": before})
    return {"id": container_id, "name": name}
