"""What the tests of images share: a store, a registry, and nothing of this machine's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.image.http import Patience
from corral.image.pull import Access
from corral.image.store import ImageStore
from unit.image.fake_registry import FakeRegistry

PATIENCE = Patience(tries=3, first_wait_s=0.001)


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and an empty registries.conf: what is configured on this machine does not count."""
    home = tmp_path / "home"
    home.mkdir()
    conf = home / "registries.conf"
    conf.write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "http_proxy", "https_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return conf


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """An empty registry, plain http."""
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def access() -> Access:
    """Access to a registry without TLS, with little patience."""
    return Access(is_verified=False, patience=PATIENCE)
