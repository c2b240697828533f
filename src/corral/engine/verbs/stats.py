"""``stats``: what containers use now."""

from __future__ import annotations

from corral.engine import names, status
from corral.engine.stats import sample
from corral.errors import CorralError, FailedPrecondition, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["stats"]


def stats(places: Places, references: list[str] | None = None) -> list[dict[str, Any]]:
    """One sample per container that lives (or per one named), by name; see ``engine.stats.add_rates`` for rates.

    Raises: NotFound for a name that there is not, FailedPrecondition for a named one that does not run.
    """
    rows = []
    named = references or []
    for container_id in [names.find_id(places, item) for item in named] or names.list_ids(places):
        try:
            facts = status.look(places, container_id)
            if not facts.is_live:
                if named:
                    raise FailedPrecondition(
                        f"measure container {facts.definition.get('name')!r}: it is {facts.status}"
                    )
                continue
            row = sample(facts)
        except NotFound:
            if named:
                raise
            continue
        except FailedPrecondition:
            raise
        except CorralError:
            continue  # it ended while we looked
        if row is not None:
            rows.append(row)
    rows.sort(key=lambda row: str(row["name"]))
    return rows
