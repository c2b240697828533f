"""A private copy of the runtime for the tests that run it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import rootfs
from sweep.world import World, descendants


@pytest.fixture(scope="session")
def template() -> Iterator[rootfs.Template]:
    """Busybox and the probe, built once."""
    path = Path(tempfile.mkdtemp(prefix="corral-fuzz-template-", dir="/tmp"))
    path.chmod(0o755)
    yield rootfs.build_template(path)
    shutil.rmtree(path)


@pytest.fixture
def world(mark: str, no_leaks: None, template: rootfs.Template) -> Iterator[World]:
    """A world of the test's own."""
    path = Path(tempfile.mkdtemp(prefix=f"{mark}-", dir="/tmp"))
    path.chmod(0o755)
    world = World(path, mark, template, allowed=frozenset(descendants()))
    world.set_up()
    yield world
    world.clean()
    shutil.rmtree(path)
