"""``stats``: what containers use now."""

from __future__ import annotations

import time

from corral.engine import names, status
from corral.engine.stats import Counters, add_rates, sample
from corral.errors import CorralError, FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["stats"]

WINDOW_MAX_S = 60.0
NO_GROUP_HINT = "`corral doctor` says what keeps this user from having some"


def stats(places: Places, references: list[str] | None = None, *, window_s: float = 0.0) -> list[dict[str, Any]]:
    """One sample per container that lives (or per one named), by name.

    ``window_s``: look at the CPU time that long before, once for all, so that the samples have rates; without it,
    ``engine.stats.add_rates`` makes them of two samples.
    Raises: NotFound for a name that there is not, FailedPrecondition for a named one that does not run or has no group.
    """
    if not 0.0 <= window_s <= WINDOW_MAX_S:
        raise InvalidArgument(f"measure containers over {window_s:g} s: it is not between 0 and {WINDOW_MAX_S:g} s")
    missing: set[str] = set()
    chosen = [(facts, Counters(facts, missing)) for facts in _live(places, references or [])]
    for facts, counters in chosen if references else ():
        if not counters.has_group():
            raise FailedPrecondition(
                f"measure container {facts.definition.get('name')!r}: it has no control group", hint=NO_GROUP_HINT
            )
    before: dict[str, dict[str, int]] = {}
    if window_s:
        for facts, counters in chosen:
            try:
                before[facts.container_id] = {"cpu_ns": counters.cpu_ns(), "time_ns": time.monotonic_ns()}
            except CorralError:
                continue  # it ended while we looked
        time.sleep(window_s)
    rows = []
    for facts, counters in chosen:
        try:
            row = sample(facts, counters)
        except CorralError:
            continue
        if row is not None:
            rows.append(add_rates(row, before.get(facts.container_id)) if window_s else row)
    rows.sort(key=lambda row: str(row["name"]))
    return rows


def _live(places: Places, named: list[str]) -> list[Facts]:
    """Looks at the containers of the store that live, or at the named ones."""
    found = []
    for container_id in [names.find_id(places, item) for item in named] or names.list_ids(places):
        try:
            facts = status.look(places, container_id)
        except CorralError:
            if named:
                raise
            continue  # removed while we looked, or unreadable, which `ps` tells
        if facts.is_live:
            found.append(facts)
        elif named:
            raise FailedPrecondition(f"measure container {facts.definition.get('name')!r}: it is {facts.status}")
    return found
