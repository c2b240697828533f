"""``port``: which ports of the host lead into a container."""

from __future__ import annotations

from corral.engine import ledger, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["port"]


def port(places: Places, reference: str) -> list[dict[str, Any]]:
    """The published ports as they are now (``host_port`` chosen where 0 was asked for). Raises: NotFound."""
    container_id = names.find_id(places, reference)
    definition = ledger.read_definition(places, container_id)
    made = ledger.read(places, container_id).get("network", {})
    ports: list[dict[str, Any]] = made.get("ports") or definition.get("network", {}).get("ports", [])
    return ports
