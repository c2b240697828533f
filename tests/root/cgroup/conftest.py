"""Groups of the test's own in every hierarchy of this host, and processes to put into them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.cgroup.ancestry import cpuset_writes, subtree_writes
from corral.cgroup.layout import Layout, read_layout
from corral.cgroup.location import CgroupfsLocation, Placement, place
from corral.cgroup.member import Member, members_of
from corral.cgroup.removal import remove_group

Spawn = Callable[..., "subprocess.Popen[bytes]"]


def read_or_none(path: str) -> str | None:
    """The text of a file that may not be there."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


@pytest.fixture
def layout() -> Layout:
    """This host's layout."""
    return read_layout()


@pytest.fixture
def placement(layout: Layout, mark: str) -> Placement:
    """A place of the test's own."""
    return place(CgroupfsLocation(f"/{mark}"), layout)


@pytest.fixture
def members(layout: Layout, placement: Placement) -> Iterator[list[Member]]:
    """The test's group, made in every hierarchy, usable on v1 cpuset, removed afterwards with all below it."""
    places = members_of(layout, placement)
    for member in places:
        Path(member.directory).mkdir()
    cpuset = layout.hierarchy_for("cpuset")
    if cpuset is not None and cpuset.version == 1:
        for write in cpuset_writes(cpuset, str(placement.paths[cpuset.index]), read_or_none):
            Path(write.directory, write.file).write_text(write.value)
    yield places
    for name in ("freezer.state", "cgroup.freeze"):
        for member in places:
            control = Path(member.directory, name)
            if control.exists():
                control.write_text("THAWED" if name == "freezer.state" else "0")
    result = remove_group(places, deadline_s=5)
    assert list(map(str, result.pending)) == []


@pytest.fixture
def enable(layout: Layout, placement: Placement) -> Iterator[Callable[[dict[int, list[str]]], None]]:
    """Enable v2 controllers for the test's group; what that changed in the groups above is undone."""
    changed: list[tuple[Path, str]] = []

    def enable_all(controllers: dict[int, list[str]]) -> None:
        for index, names in controllers.items():
            hierarchy = layout.hierarchies[index]
            if hierarchy.version == 2:
                for write in subtree_writes(hierarchy, str(placement.paths[index]), names, read_or_none):
                    Path(write.directory, write.file).write_text(write.value)
                    changed.append((Path(write.directory, write.file), write.controller))

    yield enable_all
    for path, name in changed:
        # Another container may have come to need it since.
        with contextlib.suppress(OSError):
            path.write_text(f"-{name}")


@pytest.fixture
def spawn(members: list[Member]) -> Iterator[Spawn]:
    """Start a process inside the test's group, or inside one below it."""
    started: list[subprocess.Popen[bytes]] = []

    def enter(below: str) -> None:
        for member in members:
            directory = Path(member.directory + below)
            if directory.is_dir():
                (directory / "cgroup.procs").write_text(str(os.getpid()))

    def start(*command: str, below: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, preexec_fn=lambda: enter(below), stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
