"""Shows the results from inside the machines as results of this run, one by one, the moment they arrive."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vm.cells import Cell, all_batches, default_batches
from vm.fleet import Fleet
from vm.store import RESULTS, BenchError, lacking

# Those run inside, where the variable is set.
collect_ignore = [] if "CORRAL_VM_CELL" in os.environ else ["guest"]

BATCHES = all_batches() if os.environ.get("ALL") == "1" else default_batches()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """The machines, at work from now on; none is left when other folders' tests go on."""
    why_not = lacking()
    if why_not and "vm" in os.environ.get("CORRAL_MUST", "").split(","):
        pytest.fail(f"CORRAL_MUST names vm, but {why_not}", pytrace=False)
    if why_not:
        pytest.skip(f"requires vm: {why_not}")
    # What an earlier run left is no result of this one.
    shutil.rmtree(RESULTS / "cells", ignore_errors=True)
    with Fleet(BATCHES) as machines:
        yield machines


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Cell, dict[str, Any]], None]:
    """A function that makes a report from inside a report of this run, under the cell's name."""
    config = request.config
    capture = config.pluginmanager.getplugin("capturemanager")

    def pass_on(cell: Cell, message: dict[str, Any]) -> None:
        if message["event"] == "selected":
            # The progress in percent is counted against it.
            request.session.testscollected += message["count"]
        if message["event"] not in ("report", "collect"):
            return
        data = dict(message["data"])
        if isinstance(data["longrepr"], list):
            # A skip's place and reason: pytest wants the tuple that JSON made a list of.
            data["longrepr"] = tuple(data["longrepr"])
        if "location" in data:
            file, line, name = data["location"]
            data["location"] = (file, line, f"{name} in {cell.name}")
        data["nodeid"] = f"{cell.name}::{data['nodeid']}"
        found = config.hook.pytest_report_from_serializable(config=config, data=data)
        if found is None:
            raise BenchError(f"read a report from the guest: {data['nodeid']} is of no known kind")
        is_impossible = found.skipped and re.search(cell.impossible, text_of(found))
        if found.skipped and not is_impossible and not hasattr(found, "wasxfail"):
            # There is a machine made for each thing that a test may need: nothing is left to skip for.
            found.outcome, found.longrepr = (
                "failed",
                f"skipped inside {cell.name}, where everything must run:\n{text_of(found)}",
            )
        with capture.global_and_fixture_disabled():
            if message["event"] == "report":
                config.hook.pytest_runtest_logreport(report=found)
            else:
                config.hook.pytest_collectreport(report=found)

    return pass_on


def text_of(report: pytest.TestReport) -> str:
    """Why a report says that a test was skipped."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longreprtext)
