"""The command line of all folders that test a runtime: each declares what it takes, and may be run with the others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def add_runtime(parser: pytest.Parser) -> None:
    """Take `--runtime`."""
    with contextlib.suppress(ValueError):  # another folder of the same run has declared it
        parser.addoption("--runtime", default=None, help="path of the OCI runtime to test")


def add_resident(parser: pytest.Parser) -> None:
    """Take `--resident`."""
    with contextlib.suppress(ValueError):
        parser.addoption("--resident", action="store_true", help="let a resident planner serve the tests of corral")


def mark_cold(config: pytest.Config) -> None:
    """Register the marker that goes with `--resident`."""
    config.addinivalue_line("markers", "cold: not with `--resident`: the case starts its own planner, or wants none")


def mark_demands(config: pytest.Config) -> None:
    """Register the markers of what a case needs."""
    config.addinivalue_line("markers", "needs(*features): features of the runtime")
    config.addinivalue_line("markers", "host(*probes): facilities of this host")
