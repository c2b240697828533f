"""Rules of corral.cgroup.ancestry: what the groups above must be given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corral.cgroup.ancestry import AncestorWrite, cpuset_writes, directories_to, subtree_writes, type_write
from corral.cgroup.layout import Hierarchy
from corral.errors import FailedPrecondition, Unsupported

CPUSET = Hierarchy(0, 1, ("cpuset",), mount_point="/cg/cpuset")
UNIFIED = Hierarchy(0, 2, ("cpu", "memory", "pids"), mount_point="/cg")


def reader(files: dict[str, str]) -> Callable[[str], str | None]:
    """Files that exist."""
    return files.get


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", ["/cg"]), ("/a", ["/cg", "/cg/a"]), ("/a/b", ["/cg", "/cg/a", "/cg/a/b"])],
)
def test_directories_to_path(path: str, expected: list[str]) -> None:
    """From the mount point down, both ends included."""
    assert directories_to(UNIFIED, path) == expected


def test_cpuset_is_copied_down_to_new_groups() -> None:
    """Groups that do not exist yet, or are empty, get the nearest set above; a level's files go together."""
    files = {
        "/cg/cpuset/cpuset.cpus": "0-3\n",
        "/cg/cpuset/cpuset.mems": "0\n",
        "/cg/cpuset/a/cpuset.cpus": "1-2\n",
        "/cg/cpuset/a/cpuset.mems": "\n",
    }
    assert [(w.directory, w.file, w.value) for w in cpuset_writes(CPUSET, "/a/b", reader(files))] == [
        ("/cg/cpuset/a", "cpuset.mems", "0"),
        ("/cg/cpuset/a/b", "cpuset.cpus", "1-2"),
        ("/cg/cpuset/a/b", "cpuset.mems", "0"),
    ]


def test_cpuset_of_others_is_left_alone() -> None:
    """A group that has a set keeps it."""
    files = {f"/cg/cpuset{d}/{f}": "0" for d in ("", "/a") for f in ("cpuset.cpus", "cpuset.mems")}
    assert cpuset_writes(CPUSET, "/a", reader(files)) == []


def test_controllers_are_enabled_from_the_top_down() -> None:
    """Needed ones first, one per write, in every group above the container's."""
    read = reader({"/cg/cgroup.subtree_control": "memory cpu\n"})
    assert subtree_writes(UNIFIED, "/a/b", ["memory"], read, for_statistics=True) == [
        AncestorWrite("/cg", "cgroup.subtree_control", "+pids", controller="pids", is_needed=False),
        AncestorWrite("/cg/a", "cgroup.subtree_control", "+memory", controller="memory", is_needed=True),
        AncestorWrite("/cg/a", "cgroup.subtree_control", "+cpu", controller="cpu", is_needed=False),
        AncestorWrite("/cg/a", "cgroup.subtree_control", "+pids", controller="pids", is_needed=False),
    ]


def test_only_needed_controllers_are_enabled_on_hybrid_hosts() -> None:
    """v1 has the statistics there, and the groups above belong to the host."""
    read = reader({"/cg/cgroup.subtree_control": ""})
    assert [w.value for w in subtree_writes(UNIFIED, "/a", ["memory"], read)] == ["+memory"]
    assert subtree_writes(UNIFIED, "/a/b", [], read) == []


def test_group_with_processes_gives_nothing_for_statistics() -> None:
    """It would become a threaded domain, whose children take no process; the real root has no type, and may."""
    files = {f"/cg{d}/cgroup.procs": "12\n" for d in ("", "/a")} | {"/cg/a/cgroup.type": "domain\n"}
    found = subtree_writes(UNIFIED, "/a/b/c", [], reader(files), for_statistics=True)
    assert sorted({write.directory for write in found}) == ["/cg", "/cg/a/b"]


def test_needed_controller_is_refused_below_a_group_with_processes() -> None:
    """Named with the group, whether the kernel would refuse it or make the group threaded."""
    files = {"/cg/a/cgroup.procs": "12\n", "/cg/a/cgroup.type": "domain\n"}
    with pytest.raises(FailedPrecondition, match="enable controller 'pids' below '/cg/a': the group has processes"):
        subtree_writes(UNIFIED, "/a/b", ["pids"], reader(files))
    assert subtree_writes(UNIFIED, "/a", ["pids"], reader(files)) != []


def test_nothing_is_enabled_in_the_containers_own_group() -> None:
    """A group with controllers for its children could not hold the container's process."""
    assert subtree_writes(UNIFIED, "/a", [], reader({"/cg/cgroup.subtree_control": "cpu memory pids"})) == []


@pytest.mark.parametrize(
    ("text", "needed", "value"),
    [
        ("domain\n", ["memory"], None),
        ("", ["memory"], None),
        ("domain invalid\n", ["pids", "cpu"], "threaded"),
        ("domain invalid\n", [], "threaded"),
        ("threaded\n", ["pids"], None),
        ("domain threaded\n", ["cpuset"], None),
    ],
)
def test_type_write_makes_invalid_groups_threaded(text: str, needed: list[str], value: str | None) -> None:
    """Below a threaded group only a threaded one can be used, and only if the controllers allow it."""
    write = type_write("/cg/a", text, needed)
    assert (None if write is None else write.value) == value


@pytest.mark.parametrize("text", ["domain invalid", "threaded", "domain threaded"])
def test_type_write_refuses_domain_controllers(text: str) -> None:
    """memory and io count whole processes, so a threaded group cannot have them."""
    with pytest.raises(Unsupported) as caught:
        type_write("/cg/a", text, ["pids", "memory"], pointer="linux.cgroupsPath")
    assert caught.value.message == (
        f"use controller 'memory' in '/cg/a': the group is of type {text!r}, where it does not work"
    )


def test_ancestor_writes_are_values() -> None:
    """Equal by content."""
    one, two = (AncestorWrite("/a", "f", "v", controller="c", is_needed=True) for _ in range(2))
    assert len({one, two}) == 1
    assert one != "other"
