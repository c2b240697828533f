"""The fleet without machines: what is followed, what a loss does, and that leaving it ends what runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vm import fleet as subject
from vm.bench import Outcome
from vm.cells import Cell, Selection
from vm.fleet import Fleet
from vm.machine import MachineLost

FIRST, SECOND, THIRD = (Selection(Cell("v2", "6.1", driver), ()) for driver in ("a", "systemd", "c"))


class Stand:
    """A machine's stand-in: ``end`` lets whoever works on it go."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def end(self) -> None:
        """As ``Machine.end``."""
        self.ended.set()


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> list[Stand]:
    """The machines that were booted; a selection of the driver ``c`` runs until its machine is ended."""
    found: list[Stand] = []

    @contextlib.contextmanager
    def boot(cell: Cell) -> Iterator[Stand]:
        found.append(Stand())
        yield found[-1]

    def run_selection(
        machine: Stand, selection: Selection, on_message: Callable[[dict[str, Any]], None], folder: Path
    ) -> Outcome:
        on_message({"event": "report", "of": selection.name})
        if selection is THIRD:
            machine.ended.wait()
        if selection is not SECOND:
            raise MachineLost("gone")
        return Outcome(selection.cell, code=0)

    monkeypatch.setattr(subject, "boot", boot)
    monkeypatch.setattr(subject, "run_selection", run_selection)
    return found


def test_rest_of_a_batch_runs_on_a_new_machine_after_a_loss(booted: list[Stand]) -> None:
    """The lost one's reports are not lost, its follower hears of the loss, and the next is none the worse."""
    with Fleet([(FIRST, SECOND)]) as fleet:
        following = fleet.follow(FIRST)
        assert next(following) == {"event": "report", "of": "v2-6.1"}
        with pytest.raises(MachineLost, match="gone"):
            next(following)
        *reports, outcome = fleet.follow(SECOND)
        assert reports == [{"event": "report", "of": "v2-6.1-systemd"}]
        assert isinstance(outcome, Outcome)
    assert len(booted) == 2


def test_leaving_ends_the_machines_that_run(booted: list[Stand]) -> None:
    """An interrupted run leaves no machine behind."""
    before = threading.enumerate()
    with Fleet([(THIRD,)]) as fleet:
        next(fleet.follow(THIRD))
    assert [machine.ended.is_set() for machine in booted] == [True]
    assert threading.enumerate() == before
