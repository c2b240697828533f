"""The pytest plugin inside the guest: every report goes out the moment it exists.

It writes one JSON object a line into the FIFO that CORRAL_VM_FIFO names, and takes out of the selection what the cell
lacks by what it is (CORRAL_VM_ABSENT: names used with the markers ``requires`` and ``host``), and what is another
process's part (CORRAL_VM_SHARD).
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

MARKERS = ("requires", "host")


class Reporter:
    """Holds the FIFO open from start to end; without a reader every write would end the process."""

    def __init__(self, config: pytest.Config, fifo: str) -> None:
        self.config = config
        self.fd = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)

    def send(self, **message: Any) -> None:
        """Write one line."""
        view = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while view:
            view = view[os.write(self.fd, view) :]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect what this kind of machine cannot have."""
        absent = set(os.environ.get("CORRAL_VM_ABSENT", "").split(","))
        left_out = [item for item in items if absent.intersection(_demands(item))]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
        number, _, count = os.environ.get("CORRAL_VM_SHARD", "0/1").partition("/")
        others = [item for index, item in enumerate(items) if index % int(count) != int(number)]
        if others:
            config.hook.pytest_deselected(items=others)
            items[:] = items[int(number) :: int(count)]
        self.send(event="selected", count=len(items), left_out=[item.nodeid for item in left_out])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what begins: the last line of a guest that hangs."""
        self.send(event="begin", nodeid=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send set-up, call and teardown of each test."""
        self._send_report("report", report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Send what went wrong while collecting; a skip there leaves out a whole module, so it counts as well."""
        if not report.passed:
            self._send_report("collect", report)

    def _send_report(self, event: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        data.pop("result", None)
        self.send(event=event, data=data, text=report.longreprtext)


def _demands(item: pytest.Item) -> set[str]:
    return {name for marker in MARKERS for mark in item.iter_markers(marker) for name in mark.args}


def pytest_configure(config: pytest.Config) -> None:
    """Start reporting, if a bench listens."""
    fifo = os.environ.get("CORRAL_VM_FIFO")
    if fifo:
        config.pluginmanager.register(Reporter(config, fifo), "corral-vm-reporter")
