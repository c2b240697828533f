"""What `doctor` says of the engine's needs, on hosts made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine import doctor
from corral.engine.doctor import CHECKS
from corral.runtime.commands.doctor import Sight, examine
from corral.runtime.host import read_host

PLUGINS = ("bridge", "host-local", "portmap", "firewall", "tuning")


def statuses(root: Path, *, is_rootless: bool) -> dict[str, str]:
    """Check -> status, on the host below ``root``."""
    answers = examine(Sight(read_host(), {}, uid=1000 if is_rootless else 0, root=str(root)), CHECKS)
    return {check.name: answer.status for check, answer in answers}


def make(root: Path, *paths: str) -> None:
    """Programs, which may be executed, and devices, which may be opened."""
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.chmod(0o777)


def test_empty_host_lacks_what_its_user_needs(tmp_path: Path) -> None:
    """Root's networks are CNI's, a user's are pasta's: each is told of its own."""
    found = statuses(tmp_path, is_rootless=False)
    assert [name for name, status in found.items() if status == "missing"] == ["CNI plugins", "iptables, nft"]
    found = statuses(tmp_path, is_rootless=True)
    assert [name for name, status in found.items() if status == "missing"] == ["/dev/net/tun", "pasta, slirp4netns"]


@pytest.mark.parametrize("is_rootless", [False, True])
def test_host_with_everything_is_fine(tmp_path: Path, *, is_rootless: bool) -> None:
    """Nothing limited, nothing missing."""
    make(tmp_path, "/usr/sbin/iptables", "/dev/net/tun", "/usr/bin/pasta", "/usr/bin/fuse-overlayfs")
    make(tmp_path, *(f"/usr/lib/cni/{name}" for name in PLUGINS))
    assert set(statuses(tmp_path, is_rootless=is_rootless).values()) == {"ok"}


def test_remedies_name_packages(tmp_path: Path) -> None:
    """What is missing comes with what it is for, and what to install."""
    sight = Sight(read_host(), {}, uid=0, root=str(tmp_path))
    answer = doctor._plugins(sight)
    assert answer.text.startswith("bridge, host-local, portmap, firewall, tuning not in ")
    assert ("published ports" in answer.why, "containernetworking-plugins" in answer.mend) == (True, True)
