"""Networks and volumes for a user without privileges: pasta and slirp4netns with real traffic, mapped ids."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.driver import make_rootfs
from root.engine.conftest import eventually
from root.network.conftest import ADDRESS, CLIENT, PYTHON, SERVE, USER, Host, make_host

pytestmark = [pytest.mark.requires("root", "cni", "cc", "busybox", "newuidmap"), pytest.mark.timeout(300)]


@pytest.fixture
def user(mark: str, no_leaks: None) -> Iterator[Host]:
    """A host on which an unprivileged user runs the engine."""
    yield from make_host(mark, is_rootless=True)


@pytest.mark.parametrize(
    "mode", [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("pasta", "slirp4netns")]
)
def test_user_publishes_ports_without_root(user: Host, mode: str) -> None:
    """By the host's own addresses; the helper ends with the container, and resolvers are its own."""
    words = ["--cgroups=disabled", "--network", mode, "-p", "8097:80", "-p", "8097:80/udp"]
    user("run", "-d", "--name", "web", *words, "host", "--", PYTHON, "-c", SERVE, "web")
    eventually(lambda: "listening" in user("logs", "web").stdout)
    assert user.ask("127.0.0.1", 8097) == "web"
    assert user.ask(ADDRESS, 8097) == "web"
    # From another address: a container of pasta's has the host's own, where the answer would stay.
    assert user.ask(ADDRESS, 8097, "udp", source=CLIENT) == "web"
    helper = user.network_of("web")["helper"]["pid"]
    assert Path(f"/proc/{helper}").exists()
    resolver = {"pasta": "169.254.1.1", "slirp4netns": "10.0.2.3"}[mode]
    assert user("exec", "web", "cat", "/etc/resolv.conf").stdout.splitlines()[0] == f"nameserver {resolver}"
    user("stop", "-t", "0", "web")
    eventually(lambda: not Path(f"/proc/{helper}/maps").exists() or not Path(f"/proc/{helper}/maps").read_bytes())
    user("rm", "web")


def test_bridge_is_refused_with_what_works(user: Host) -> None:
    """Only root can make one."""
    done = user("run", "--cgroups=disabled", "--network", "bridge", "host", "true", code=125)
    assert "only root can make one" in done.stderr
    assert "--network pasta" in done.stderr


def test_port_below_1024_is_refused_with_the_remedy(user: Host) -> None:
    """As the kernel would, but in words."""
    done = user("run", "--cgroups=disabled", "--network", "slirp4netns", "-p", "81:80", "host", "true", code=125)
    assert "publish port 81/tcp: permission denied" in done.stderr
    assert "ip_unprivileged_port_start" in done.stderr


def test_volume_of_a_user_has_the_images_owners(user: Host) -> None:
    """As they are seen inside; on disk they are the user's and those of its ranges."""
    base = Path(tempfile.mkdtemp(dir=user.path))
    root = make_rootfs(base / "base")
    folder = root / "srv" / "data"
    folder.mkdir(parents=True)
    (folder / "seed").write_text("seed\n")
    shutil.chown(folder / "seed", 7, 8)
    shutil.chown(folder, 9, 10)
    archive = user.path / "base.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    user("import", str(archive), "base")
    look = ("busybox", "stat", "-c", "%n %u:%g", "/srv/data", "/srv/data/seed")
    words = ("run", "--rm", "--cgroups=disabled", "--network", "none", "-v", "v:/srv/data", "base")
    assert user(*words, *look).stdout == "/srv/data 9:10\n/srv/data/seed 7:8\n"
    path = Path(json.loads(user("volume", "inspect", "v").stdout)[0]["path"])
    assert path.stat().st_uid not in (0, 9, USER)
    user("volume", "rm", "v")
    assert not path.exists()
