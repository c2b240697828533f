"""Other people's tools beside ours: registries, skopeo, umoci, podman; each test with a store of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.image.pull import Access
from corral.image.store import ImageStore
from peers.registry import PeerRegistry, running_registry
from unit.image.fake_registry import MadeImage, layer_tar, make_image

Run = Callable[..., str]
TIMEOUT_S = 120
PLAIN = Access(is_verified=False)


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerRegistry]:
    """A registry without TLS that anybody may write to."""
    with running_registry(tmp_path_factory.mktemp("plain") / "registry", is_secure=False) as registry:
        yield registry


@pytest.fixture(scope="session")
def secure_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerRegistry]:
    """A registry with TLS and a password."""
    with running_registry(tmp_path_factory.mktemp("secure") / "registry", is_secure=True) as registry:
        yield registry


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without configuration."""
    home = tmp_path / "home"
    (home / ".config/containers").mkdir(parents=True)
    (home / "registries.conf").write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "registries.conf"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return home


@pytest.fixture
def trusted(secure_registry: PeerRegistry, own_home: Path) -> PeerRegistry:
    """The secure registry, whose authority stands in this home's certs.d."""
    assert secure_registry.certificates is not None
    folder = own_home / ".config/containers/certs.d" / secure_registry.host
    folder.parent.mkdir()
    folder.symlink_to(secure_registry.certificates)
    return secure_registry


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture
def made() -> MadeImage:
    """An image of two layers, of which one comes from chance, so that no registry has it yet."""
    return make_image(layer_tar({"hello": b"world\n"}), layer_tar({"etc/chance": os.urandom(400_000)}), Env=["A=b"])


@pytest.fixture
def run() -> Run:
    """Run a peer's command and return its output; its words are in the failure if it has one."""

    def command(*arguments: str | Path, data: bytes | None = None) -> str:
        text = [str(item) for item in arguments]
        result = subprocess.run(text, capture_output=True, timeout=TIMEOUT_S, input=data)
        assert result.returncode == 0, f"{' '.join(text)}: {result.stderr.decode()}"
        return result.stdout.decode()

    return command


@pytest.fixture
def podman(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """podman with a storage of its own."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # podman refuses paths of more than 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="corral-p-", dir="/tmp"))
    roots = ("--root", folder / "root", "--runroot", folder / "run", "--tmpdir", folder / "tmp")
    options = ("--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager", "cgroupfs")

    def command(*arguments: str | Path, data: bytes | None = None) -> str:
        return run("podman", *roots, *options, *arguments, data=data)

    yield command
    shutil.rmtree(folder)
