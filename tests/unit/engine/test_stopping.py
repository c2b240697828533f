"""corral.engine.stopping: who does what follows from an end."""

from __future__ import annotations

from typing import Any

import pytest

from corral.engine import leases, ledger
from corral.engine.places import Places
from corral.engine.stopping import intend_stop, is_being_stopped
from unit.engine.containers import ID, make

DEAD = {"pid": 1, "boot": "another", "start": 0, "pidns": 0}


def test_end_is_left_to_who_stops_it(places: Places) -> None:
    """A stop of this run, whose owner lives and has not given up."""
    make(places, state={"runs": 2})
    assert not is_being_stopped(places, ID)
    intend_stop(places, ID, 5.0)
    assert is_being_stopped(places, ID)


@pytest.mark.parametrize(
    "change",
    [{"owner": DEAD}, {"run": 1}, {"is_given_up": True}, {"owner": {"deadline_ns": 0}}, {"owner": None}],
    ids=["dead", "earlier-run", "given-up", "late", "kill"],
)
def test_end_is_nobodys_when_the_stop_is_over(places: Places, change: dict[str, Any]) -> None:
    """Its owner died, it was of an earlier run, or it was given up: who attends the end follows it up."""
    make(places, state={"runs": 2})
    intend_stop(places, ID, 5.0)
    with ledger.Update(places, ID) as state:
        if change.get("owner"):
            change = {"owner": {**leases.me(), **state["stop"]["owner"], **change["owner"]}}
        state["stop"].update(change)
    assert not is_being_stopped(places, ID)
