"""The fixtures of the conformance suite, for attacks on corral itself: each is followed by its leak check."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conformance import options
from conformance.conftest import _demands as _demands
from conformance.conftest import _leak_check as _leak_check
from conformance.conftest import bundle as bundle
from conformance.conftest import cgroup_parent as cgroup_parent
from conformance.conftest import directory as directory
from conformance.conftest import identity as identity
from conformance.conftest import runtime as runtime
from conformance.conftest import runtime_path as runtime_path
from conformance.conftest import shared_planner as shared_planner
from conformance.conftest import template as template
from conformance.conftest import workspace as workspace

if TYPE_CHECKING:
    from conformance.harness import Runtime


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--runtime` and `--resident`."""
    options.add_runtime(parser)
    options.add_resident(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    options.mark_cold(config)
    options.mark_demands(config)


@pytest.fixture(autouse=True)
def _ours(runtime: Runtime) -> None:
    """These are about corral's own protocol, record and files."""
    if os.geteuid() != 0:
        pytest.skip("root is needed: the attacks are on a privileged runtime")
    if runtime.name != "corral":
        pytest.skip("the attacks are on corral's own parts")
