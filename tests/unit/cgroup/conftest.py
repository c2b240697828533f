"""A stand-in systemd for the tests of the bus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup.systemd_bus import Manager
from unit.cgroup.fake_bus import FakeSystemd


@pytest.fixture(params=["systemd/private", "bus"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The socket's place: systemd's own socket, or a bus in between."""
    place = tmp_path / str(request.param)
    place.parent.mkdir(exist_ok=True)
    return place


@pytest.fixture
def systemd(path: Path) -> Iterator[FakeSystemd]:
    """The stand-in."""
    fake = FakeSystemd(path)
    yield fake
    fake.close()


@pytest.fixture
def manager(systemd: FakeSystemd) -> Iterator[Manager]:
    """What is tested."""
    with Manager([str(systemd.path)]) as opened:
        yield opened
