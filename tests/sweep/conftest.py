"""Fixtures of the sweep, and the number of points at the end of the session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import rootfs
from conformance.orphans import adopting_orphans
from sweep import tally
from sweep.world import World, descendants


@pytest.fixture(scope="session")
def template() -> Iterator[rootfs.Template]:
    """Busybox and the probe, built once."""
    path = Path(tempfile.mkdtemp(prefix="corral-sweep-template-", dir="/tmp"))
    path.chmod(0o755)
    yield rootfs.build_template(path)
    shutil.rmtree(path)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans of killed fronts become children of this process: it can see and reap them."""
    with adopting_orphans():
        yield


@pytest.fixture
def world(subreaper: None, mark: str, template: rootfs.Template) -> Iterator[World]:
    """A world of the test's own."""
    path = Path(tempfile.mkdtemp(prefix=f"{mark}-", dir="/tmp"))
    path.chmod(0o755)
    world = World(path, mark, template, allowed=frozenset(descendants()))
    world.set_up()
    yield world
    world.clean()
    shutil.rmtree(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many points were swept."""
    if tally.COUNTS:
        terminalreporter.write_line(tally.summary())
    if tally.ENGINE:
        terminalreporter.write_line(tally.engine_summary())
    if tally.OOM:
        terminalreporter.write_line(tally.oom_summary())
