"""Rules of corral.cgroup.delegate, on directories that stand for groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cgroup.delegate import (
    check_delegation,
    enable_delegation,
    has_nsdelegate,
    parse_delegate_files,
    plan_delegation,
    prepare_delegation,
    read_delegate_files,
)
from corral.cgroup.layout import Hierarchy, Layout
from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unsupported
from unit.cgroup.cgroup_hosts import HYBRID, V1, V2

MOUNT = "30 23 0:26 / /cg rw,nosuid - cgroup2 cgroup2 rw,{options}\n"
AVAILABLE = ("cpuset", "cpu", "memory", "pids")


def layout_at(root: Path) -> Layout:
    """Pure v2 at ``root``."""
    return Layout((Hierarchy(0, 2, V2.hierarchies[0].controllers, mount_point=str(root)),))


@pytest.mark.parametrize(("options", "there"), [("nsdelegate", True), ("memory_recursiveprot", False)])
def test_nsdelegate_is_an_option_of_the_hierarchy(options: str, there: bool) -> None:
    """Of other file systems it says nothing."""
    other = "31 23 0:27 / /x rw - tmpfs nsdelegate rw,nsdelegate\n"
    assert has_nsdelegate(other + MOUNT.format(options=options)) == there


@pytest.mark.parametrize("layout", [V1, HYBRID, Layout(())], ids=["v1", "hybrid", "none"])
def test_s1_5_hosts_with_v1_are_refused_when_the_config_is_loaded(layout: Layout) -> None:
    """Only pure v2 can delegate safely, and the message says what the host has."""
    with pytest.raises(Unsupported, match=f"layout is {layout.mode}") as caught:
        check_delegation(layout, MOUNT.format(options="nsdelegate"), allow_without_nsdelegate=True)
    assert "unified_cgroup_hierarchy=1" in caught.value.hint


def test_s1_4_mount_without_nsdelegate_is_refused_unless_allowed() -> None:
    """Without it, root in a container could change the container's own limits; an admin may trust it."""
    check_delegation(V2, MOUNT.format(options="nsdelegate"))
    check_delegation(V2, MOUNT.format(options="x"), allow_without_nsdelegate=True)
    with pytest.raises(FailedPrecondition, match="without 'nsdelegate', so that root") as caught:
        check_delegation(V2, MOUNT.format(options="x"))
    assert "allow_without_nsdelegate" in caught.value.hint


def test_files_to_hand_over_are_the_kernels_list() -> None:
    """The three that have always been are in it; a path is no file's name."""
    text = "cgroup.procs\ncgroup.freeze\n../x\n.hidden\n\nmemory.oom.group\n"
    assert parse_delegate_files(text) == (
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
        "cgroup.freeze",
        "memory.oom.group",
    )


def test_files_to_hand_over_without_the_kernels_list(tmp_path: Path) -> None:
    """Kernels before 4.15."""
    assert read_delegate_files(str(tmp_path / "absent")) == ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
    (tmp_path / "delegate").write_text("cgroup.pressure\n")
    assert read_delegate_files(str(tmp_path / "delegate"))[-1] == "cgroup.pressure"


def test_s1_2_plan_has_a_leaf_and_the_usual_controllers_that_are_available() -> None:
    """One controller a write, after the processes are in the leaf."""
    plan = plan_delegation(V2, "/a/b", available=AVAILABLE)
    assert (plan.directory, plan.leaf) == ("/cg/a/b", "/cg/a/b/init")
    assert plan.after_attach == tuple(
        ("cgroup.subtree_control", f"+{name}") for name in ("cpu", "cpuset", "memory", "pids")
    )
    assert (plan.owner, plan.chown_files) == (None, ())


def test_s1_8_plan_bounds_descendants_and_depth_by_default() -> None:
    """Before anything runs in the group."""
    assert plan_delegation(V2, "/a", available=AVAILABLE).before_attach == (
        ("cgroup.max.descendants", "1000"),
        ("cgroup.max.depth", "32"),
    )
    with pytest.raises(InvalidArgument, match="leave no room"):
        plan_delegation(V2, "/a", available=AVAILABLE, max_depth=0)


def test_controllers_asked_for_by_name_must_be_available() -> None:
    """The usual ones may be missing, named ones not."""
    plan = plan_delegation(V2, "/a", available=AVAILABLE, controllers=["pids", "memory", "pids"])
    assert plan.controllers == ("pids", "memory")
    with pytest.raises(Unsupported, match="controller 'io' is not available") as caught:
        plan_delegation(V2, "/a", available=AVAILABLE, controllers=["pids", "io"])
    assert caught.value.hint == "it has: cpuset cpu memory pids"


def test_host_without_v2_has_no_plan() -> None:
    """For callers that did not check."""
    with pytest.raises(Unsupported, match="no cgroup v2"):
        plan_delegation(V1, "/a", available=AVAILABLE)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A v2 group /a with files that can be written."""
    path = tmp_path / "a"
    path.mkdir()
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.max.descendants", "cgroup.max.depth", "memory.max"):
        (path / name).write_text("")
    return path


def test_preparing_makes_the_leaf_and_the_bounds(group: Path) -> None:
    """Idempotent: a second time changes nothing."""
    plan = plan_delegation(layout_at(group.parent), "/a", available=("pids",), max_descendants=7)
    prepare_delegation(plan)
    prepare_delegation(plan)
    assert (group / "init").is_dir()
    assert ((group / "cgroup.max.descendants").read_text(), (group / "cgroup.max.depth").read_text()) == ("7", "32")
    assert (group / "cgroup.subtree_control").read_text() == ""


def test_enabling_writes_the_controllers(group: Path) -> None:
    """To the top group, when the processes are out of it."""
    plan = plan_delegation(layout_at(group.parent), "/a", available=("pids",))
    enable_delegation(plan)
    assert (group / "cgroup.subtree_control").read_text() == "+pids"


def test_s1_7_only_the_listed_files_are_handed_over(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directory and listed files of both groups; one that is missing is passed over, others stay the host's."""
    given: list[tuple[str, int, int]] = []

    def chown(name: str, uid: int, gid: int, *, dir_fd: int, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        where = os.readlink(f"/proc/self/fd/{dir_fd}").removeprefix(str(group.parent))
        given.append((f"{where}/{name}", uid, gid))

    monkeypatch.setattr(os, "chown", chown)
    plan = plan_delegation(
        layout_at(group.parent),
        "/a",
        available=(),
        owner=(100000, 100001),
        files=parse_delegate_files("memory.reclaim"),
    )
    prepare_delegation(plan)
    assert given == [
        ("/a/.", 100000, 100001),
        ("/a/cgroup.procs", 100000, 100001),
        ("/a/cgroup.subtree_control", 100000, 100001),
        ("/a/init/.", 100000, 100001),
    ]


@pytest.mark.parametrize(
    ("call", "number", "kind", "text"),
    [
        ("chown", 1, PermissionDenied, "give away '{}/a': operation not permitted"),
        ("mkdir", 30, PermissionDenied, "make group '{}/a/init': read-only file system"),
    ],
)
def test_refusals_name_the_path(
    group: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[CorralError], text: str
) -> None:
    """Whatever the kernel refuses, the error says where."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    plan = plan_delegation(layout_at(group.parent), "/a", available=(), owner=(1, 1))
    with pytest.raises(kind) as caught:
        prepare_delegation(plan)
    assert caught.value.message == text.format(group.parent)


def test_absent_group_and_absent_file_are_told(group: Path) -> None:
    """The group is the caller's to make."""
    with pytest.raises(NotFound, match="open group"):
        prepare_delegation(plan_delegation(layout_at(group.parent), "/b", available=()))
    (group / "cgroup.max.depth").unlink()
    with pytest.raises(NotFound, match=r"write '32' to '.*/a/cgroup\.max\.depth'"):
        prepare_delegation(plan_delegation(layout_at(group.parent), "/a", available=()))
