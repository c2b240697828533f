"""One test, or more, for each of the statements S0.1 to S2.13, named after it: `test_s0_1_...`.

The fixtures are those of the conformance suite; the runtime is corral's. Containers are made with the driver, and with
or without the user namespace, that the environment asks for (a cell of the VM bench sets it).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import facts, places
from conformance import cgroups, conftest, harness, options, rootfs
from conformance.conftest import _leak_check as _leak_check
from conformance.conftest import directory as directory
from conformance.conftest import identity as identity
from conformance.conftest import runtime_path as runtime_path
from conformance.conftest import shared_planner as shared_planner
from conformance.conftest import template as template
from conformance.conftest import workspace as workspace

HERE = Path(__file__).parent
any_runtime = conftest.runtime


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--runtime` and `--resident`."""
    options.add_runtime(parser)
    options.add_resident(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    options.mark_cold(config)
    config.addinivalue_line("markers", "applies(*facts): leave the test out where not all of these facts hold")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this host's facts rule out: deselected, not skipped."""
    left_out = [item for item in items if HERE in item.path.parents and not _applies(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _applies(item: pytest.Item) -> bool:
    return all(facts.holds(name) for mark in item.iter_markers("applies") for name in mark.args)


@pytest.fixture
def _demands() -> None:
    """The conformance fixtures' hook for skips: nothing is skipped here."""


@pytest.fixture(scope="session")
def cgroup_parent() -> Iterator[str]:
    """The group below which every container of this session lives, as the hierarchies' root sees it.

    A user's lies in the user's delegated group, out of which this process moves first: a group with processes gives no
    controllers to its children.
    """
    above = "" if facts.is_root() or facts.driver() == "systemd" else places.vacate_own_group()
    parent = f"{above}/corral-test-{os.getpid()}"
    yield parent
    cgroups.remove(parent)


@pytest.fixture
def runtime(any_runtime: harness.Runtime) -> harness.Runtime:
    """The runtime of the conformance suite, whose driver a case may replace; a user's finds that user's session."""
    any_runtime.global_args, any_runtime.driver_args = any_runtime.driver_args, ()
    if not facts.is_root():
        names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME", "USER")
        any_runtime.env = {name: os.environ[name] for name in names if name in os.environ}
    return any_runtime


@pytest.fixture
def bundle(directory: Path, template: rootfs.Template, cgroup_parent: str) -> harness.Bundle:
    """A bundle whose container gets a group of its own, by the driver of this run."""
    made = harness.make_bundle(directory / "bundle", template, cgroup_parent)
    places.give_place(made, cgroup_parent)
    places.give_user(made, with_userns=facts.wants_userns())
    return made
