"""Fixtures of the sweep, and the number of points at the end of the session."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import rootfs
from sweep import tally
from sweep.world import World, descendants

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session")
def template() -> Iterator[rootfs.Template]:
    """Busybox and the probe, built once."""
    path = Path(tempfile.mkdtemp(prefix="corral-sweep-template-", dir="/tmp"))
    path.chmod(0o755)
    yield rootfs.build_template(path)
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def orphans_go_to_init() -> None:
    """Another suite may have made this process a subreaper; a keeper that ends would stay as its zombie."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans of killed fronts become children of this process: it can see and reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


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
