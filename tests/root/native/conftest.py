"""A bench for single steps: a private mount namespace, a rootfs, nothing of the host touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.driver import Bench, make_rootfs
from root.native.groups import FREEZER, PIDS, GroupBench, mount_of
from root.native.records import Records


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


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    """A state root with a front, and no planner."""
    made = Records(tmp_path)
    yield made
    made.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """What stands for a container's first process."""
    started = subprocess.Popen(["sleep", "1000"])
    yield started
    started.kill()
    started.wait()


@pytest.fixture
def group(tmp_path: Path, mark: str) -> Iterator[GroupBench]:
    """A group that can freeze, of whichever version this host has, for the container of ``records``."""
    mount, version = mount_of("cgroup", "freezer"), 1
    if not mount:
        mount, version = mount_of("cgroup2"), 2
    made = GroupBench(tmp_path / "group", mount, version, f"/{mark}", FREEZER | PIDS)
    yield made
    made.clean()
