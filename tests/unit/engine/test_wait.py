"""The verb wait, between two runs of a container."""

from __future__ import annotations

import time
from typing import Any

import pytest

from corral.engine import files
from corral.engine.places import Places
from corral.engine.verbs.wait import wait
from corral.errors import Timeout
from corral.linux.procfs import read_boot_id
from unit.engine.containers import ID, make


def state(number: int, phase: str) -> dict[str, Any]:
    """The first run has ended with 5; a second one, if any, is intended and has no process yet."""
    run = {"number": number, "phase": phase, "boot": read_boot_id(), "started_ns": 1}
    ended = {"run": 1, "code": 5, "source": "observed", "finished_ns": 7}
    return {"schema": 1, "runs": number, "run": run, "exit": ended, "settled": 1}


def test_a_start_under_way_is_no_end_when_the_next_one_is_waited_for(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is still to come: the code of a run that has not begun is not unknown."""
    make(places, state=state(1, "started"))
    pause = time.sleep

    def sleep(seconds: float) -> None:
        files.write_object(f"{places.container(ID)}/state.json", state(2, "intended"))
        pause(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(Timeout):
        wait(places, ID, condition="next-exit", timeout_s=0.2)
