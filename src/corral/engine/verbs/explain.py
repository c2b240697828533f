"""``explain``: what starting a container would do, step by step, without doing it."""

from __future__ import annotations

from corral.engine import names, status
from corral.engine.arrange import arrange
from corral.engine.spec import compile_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["explain"]


def explain(places: Places, reference: str) -> dict[str, Any]:
    """``config``, the configuration that would be compiled, and ``where``, the places it was made from.

    Raises: NotFound and whatever would forbid the start.
    """
    container_id = names.find_id(places, reference)
    facts = status.look(places, container_id)
    arrangement = arrange(places, facts.definition)
    config = compile_spec(facts.definition, arrangement.image, arrangement.place)  # type: ignore[arg-type]
    return {"id": container_id, "config": config, "layers": arrangement.layers, "where": dict(arrangement.place)}
