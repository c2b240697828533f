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
    names.reserve(places, name, container_id)
    failpoint("rename.reserved")
    try:
        with ledger.Update(places, container_id):
            definition = ledger.read_definition(places, container_id)
            before = definition["name"]
            definition["name"] = name
            ledger.write_definition(places, container_id, definition)
    except BaseException:
        if ledger.read_definition(places, container_id)["name"] != name:
            names.release(places, name, container_id)
        raise
    failpoint("rename.written")
    if before != name:
        names.release(places, before, container_id)
        journal.emit(places, "container", "rename", container_id, name=name, attributes={"old_name": before})
    return {"id": container_id, "name": name}
