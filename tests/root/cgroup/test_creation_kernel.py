"""Rules of corral.cgroup.creation, and of what comes after it, on this host's real hierarchies."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup.creation import create_group
from corral.cgroup.group import open_group
from corral.cgroup.layout import Layout
from corral.cgroup.limits import compile_limits
from corral.cgroup.location import CgroupfsLocation, Placement, place
from corral.cgroup.member import members_below, members_of
from corral.cgroup.removal import remove_group, remove_parents
from corral.errors import FailedPrecondition, NotFound

pytestmark = pytest.mark.requires("root")
LIMITS = {"memory": {"limit": 32 << 20}, "cpu": {"quota": 20_000, "period": 100_000, "cpus": "0"}, "pids": {"limit": 9}}


@pytest.fixture
def inner(layout: Layout, mark: str) -> Iterator[Placement]:
    """A place two groups below the top; what is left there is removed."""
    yield place(CgroupfsLocation(f"/{mark}/a/b"), layout)
    assert remove_group(members_of(layout, place(CgroupfsLocation(f"/{mark}"), layout)), deadline_s=5).is_done


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be moved."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process
        process.kill()


def test_group_is_made_limited_and_entered(layout: Layout, inner: Placement, sleeper: subprocess.Popen[bytes]) -> None:
    """In every hierarchy, with what the groups above need; the limits read back, and the process is there."""
    compiled = compile_limits(LIMITS, layout)
    compiled.raise_problems()
    created = create_group(layout, inner, controllers=compiled.controllers)
    assert [member.directory for member in created.made] == [path for path in inner.directories if path is not None]
    assert len(created.parents) == 2 * len(created.made)
    with open_group(created.members) as group:
        assert group.apply(compiled.writes) == []
        group.attach(sleeper.pid)
        assert (group.list_pids(), group.list_all_pids()) == ([sleeper.pid], [sleeper.pid])
        assert group.list_threads() == group.list_threads(recursive=False) == [sleeper.pid]
        assert group.inodes() == [member.inode for member in created.members]
    mine = {line.split(":", 2)[2] for line in Path(f"/proc/{sleeper.pid}/cgroup").read_text().splitlines()}
    assert str(inner.paths[0]) in mine
    sleeper.kill()
    sleeper.wait()
    assert remove_group(created.members, deadline_s=5).is_done
    assert len(remove_parents(created.parents).removed) == len(created.parents)


def test_populated_group_is_refused_and_an_empty_one_joined(
    layout: Layout, inner: Placement, sleeper: subprocess.Popen[bytes]
) -> None:
    """Joining makes nothing, so nothing of it is ours to remove."""
    first = create_group(layout, inner)
    second = create_group(layout, inner)
    assert (second.made, second.parents) == ([], [])
    with open_group(first.members) as group:
        group.attach(sleeper.pid)
    with pytest.raises(FailedPrecondition, match="is not empty: 1 process"):
        create_group(layout, inner)


def test_nothing_is_left_of_a_group_that_cannot_be_made(layout: Layout, inner: Placement) -> None:
    """The last hierarchy has a file of that name: what was made in it, and in those before it, is taken back."""
    paths = list(inner.paths)
    last = max(number for number, path in enumerate(paths) if path is not None)
    paths[last] = f"{str(paths[last]).rpartition('/')[0]}/cgroup.procs"
    twisted = Placement(inner.location, tuple(paths), inner.directories, inner.absences)
    with pytest.raises(FailedPrecondition, match=r"make group .*/cgroup\.procs'?: not a directory"):
        create_group(layout, twisted)
    assert [path for path in inner.directories if path is not None and Path(path).parents[1].exists()] == []


def test_process_that_is_gone_cannot_be_attached(layout: Layout, inner: Placement) -> None:
    """By its number, which nobody can have."""
    with (
        open_group(create_group(layout, inner).members) as group,
        pytest.raises(NotFound, match=r"attach process 4194305 to .*: no such process"),
    ):
        group.attach(4194305)


def test_groups_below_are_listed_with_their_paths(layout: Layout, inner: Placement) -> None:
    """Parents first, from whichever hierarchy has them; each can be opened."""
    created = create_group(layout, inner)
    for name in ("x", "x/y", "w"):
        Path(created.members[-1].directory, name).mkdir()
    with open_group(created.members) as group:
        assert group.list_groups() == ["w", "x", "x/y"]
        with open_group(members_below(group.members, "x/y")) as below:
            assert below.members[0].path == f"{created.members[-1].path}/x/y"
            assert below.list_groups() == []
