"""`make test-vm`: the default selections, or with ALL=1 every cell with everything.

Each test inside a machine is a result of its own here (``v2-6.1::tests/...``); the tests below fail only if a machine
did not do what it was asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from vm.bench import run_selection
from vm.cells import Cell, Selection, all_selections, default_selections
from vm.conftest import Machines
from vm.machine import BOOT_LIMIT_S

SELECTIONS = all_selections() if os.environ.get("ALL") == "1" else default_selections()
# Building an image, on a host that has none yet.
BUILD_LIMIT_S = 900


@pytest.mark.parametrize(
    "selection",
    [
        pytest.param(item, id=item.cell.name, marks=pytest.mark.timeout(item.limit_s + BOOT_LIMIT_S + BUILD_LIMIT_S))
        for item in SELECTIONS
    ],
)
def test_cell_runs_its_selection(
    selection: Selection, machines: Machines, report: Callable[[Cell, dict[str, Any]], None]
) -> None:
    """The machine comes up, runs what was selected, and ends with pytest's own verdict, not before."""
    outcome = run_selection(machines.enter(selection.cell), selection, lambda item: report(selection.cell, item))
    # 1: some tests inside did not pass. They have been reported one by one.
    assert outcome.code in (0, 1), outcome.output
    assert outcome.selected > 0
