"""Shows the results from inside the machines as results of this run, one by one, the moment they arrive."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vm.bench import boot
from vm.cells import Cell
from vm.machine import Machine
from vm.store import BenchError, lock, missing_tools

# Those run inside, where the variable is set.
collect_ignore = [] if "CORRAL_VM_CELL" in os.environ else ["guest"]


class Machines:
    """The machine that runs at the moment: cells with the same one share a boot, another cell ends it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._current: Machine | None = None
        self._key: tuple[str, str] | None = None

    def enter(self, cell: Cell) -> Machine:
        """Return a machine for this cell, up and idle."""
        if self._current is None or self._key != cell.machine or not self._current.is_alive:
            self.close()
            self._stack.enter_context(lock())
            self._current, self._key = self._stack.enter_context(boot(cell)), cell.machine
        return self._current

    def close(self) -> None:
        """End the machine, if there is one."""
        self._current = None
        self._stack.close()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """The machines of the cells; none is left when other folders' tests go on."""
    absent = missing_tools()
    if absent:
        text = f"these Debian packages are not installed: {' '.join(absent)}"
        if "vm" in os.environ.get("CORRAL_MUST", "").split(","):
            pytest.fail(f"CORRAL_MUST names vm, but {text}", pytrace=False)
        pytest.skip(f"requires vm: {text}")
    found = Machines()
    yield found
    found.close()


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
