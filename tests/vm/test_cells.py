"""`make test-vm`: the default cells, or with ALL=1 every cell with everything.

Each test inside a machine is a result of its own here (``v2-6.1::tests/...``); the tests below fail only if a machine
did not do what it was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vm.bench import Outcome
from vm.cells import Cell, Selection
from vm.conftest import BATCHES
from vm.fleet import Fleet
from vm.machine import BOOT_LIMIT_S

SELECTIONS = [item for batch in BATCHES for item in batch]
# Building an image, on a host that has none yet.
BUILD_LIMIT_S = 900
# Each machine has limits of its own; this one counts all that a cell may have to wait for.
LIMIT_S = BUILD_LIMIT_S + sum(item.limit_s + BOOT_LIMIT_S for item in SELECTIONS)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("selection", [pytest.param(item, id=item.name) for item in SELECTIONS])
def test_cell_runs_its_selection(
    selection: Selection, fleet: Fleet, report: Callable[[Cell, dict[str, Any]], None]
) -> None:
    """The machine comes up, runs what was selected, and ends with pytest's own verdict, not before."""
    for item in fleet.follow(selection):
        if isinstance(item, Outcome):
            # 1: some tests inside did not pass. They have been reported one by one.
            assert item.code in (0, 1), item.output
            assert item.selected > 0
        else:
            report(selection.cell, item)
