"""A bench for single steps: a private mount namespace, a rootfs, nothing of the host touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from native.driver import Bench, make_rootfs


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Steps run as root in a mount namespace of their own."""
    make_rootfs(tmp_path / "rootfs")
    return Bench(tmp_path, namespaces=("--mount", "--propagation", "private"))


@pytest.fixture
def userns_bench(tmp_path: Path) -> Bench:
    """Steps run as root of a fresh user namespace (and mount and pid namespace)."""
    make_rootfs(tmp_path / "rootfs")
    return Bench(tmp_path, namespaces=("--user", "--map-root-user", "--mount", "--pid", "--fork"))
