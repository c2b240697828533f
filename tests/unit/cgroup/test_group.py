"""Rules of corral.cgroup.group, handles and member, on plain directories that stand for v2 groups."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup.group import Group, inspect_existing, open_group
from corral.cgroup.handles import from_os_error, open_beneath
from corral.cgroup.layout import Hierarchy, Layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.cgroup.member import Member, members_below, members_of
from corral.cgroup.writes import LimitWrite
from corral.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Timeout,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A group with the core files."""
    path = tmp_path / "cg/a"
    path.mkdir(parents=True)
    for name, text in {
        "cgroup.procs": "12\n0\n5\n",
        "cgroup.freeze": "0\n",
        "cgroup.events": "populated 1\nfrozen 0\n",
        "pids.max": "max\n",
    }.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def member(directory: Path) -> Member:
    """Its record."""
    return Member(2, ("pids",), str(directory.parent), "/a")


@pytest.fixture
def group(member: Member) -> Iterator[Group]:
    """The group, open."""
    with open_group([member]) as opened:
        yield opened


def test_members_follow_the_placement() -> None:
    """One per hierarchy in use."""
    layout = Layout(
        (
            Hierarchy(0, 1, ("name=other",), mount_point="/o"),
            Hierarchy(1, 2, ("pids",), mount_point="/u"),
        )
    )
    (only,) = members_of(layout, place(CgroupfsLocation("/x/y"), layout))
    assert (only.version, only.controllers, only.directory) == (2, ("pids",), "/u/x/y")


def test_member_record_round_trips() -> None:
    """What is written to the state file is what comes back."""
    record = Member(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu", "/a", inode=77).to_record()
    assert Member.from_record(record).to_record() == record


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": "1"},
        {"controllers": None},
        {"inode": "7"},
        {"mount_point": "relative"},
        {"path": "/"},
        {"path": "/a/../b"},
        {"path": "a"},
        {"path": None},
    ],
)
def test_bad_record_is_refused(change: dict[str, object]) -> None:
    """A state file that was tampered with, or is of some other program, names no directory."""
    record = Member(2, (), "/m", "/a").to_record() | change
    with pytest.raises(InvalidArgument, match="read record of group"):
        Member.from_record(record)


def test_pids_are_sorted_and_visible_ones(group: Group, directory: Path) -> None:
    """0 is a process of another pid namespace; groups below count."""
    (directory / "b").mkdir()
    (directory / "b/cgroup.procs").write_text("9\n")
    (directory / "b/c").mkdir()
    (directory / "b/c/cgroup.procs").write_text("10\n")
    assert group.list_pids() == [5, 9, 10, 12]
    assert group.list_pids(recursive=False) == [5, 12]


def test_many_groups_need_few_descriptors(group: Group, directory: Path) -> None:
    """A workload that makes groups by the hundred cannot exhaust ours."""
    for number in range(300):
        (directory / f"w{number}").mkdir()
        (directory / f"w{number}/cgroup.procs").write_text(f"{number + 100}\n")
    soft = len(os.listdir("/proc/self/fd"))
    assert len(group.list_pids()) == 302
    assert len(os.listdir("/proc/self/fd")) == soft


def test_read_and_write_go_to_the_controllers_directory(group: Group, directory: Path) -> None:
    """Values are written whole and read whole."""
    group.write("pids", "pids.max", "5")
    assert (directory / "pids.max").read_text()[:1] == "5"
    assert group.read("pids", "pids.max").startswith("5")
    assert group.directory_for("pids") == str(directory)


@pytest.mark.parametrize(("controller", "file"), [("memory", "memory.max"), ("pids", "pids.none")])
def test_missing_file_is_named(group: Group, controller: str, file: str) -> None:
    """A controller or file that is not there: NotFound, with the path where there is one."""
    assert group.read_or_none(controller, file) is None
    with pytest.raises(NotFound, match=rf"read '.*{file}': no such file or directory"):
        group.read(controller, file)
    with pytest.raises(NotFound, match=rf"write '1' to '.*{file}': no such file or directory"):
        group.write(controller, file, "1")


def test_symlinked_control_file_is_not_followed(group: Group, directory: Path, tmp_path: Path) -> None:
    """Nothing outside the group is written."""
    (tmp_path / "secret").write_text("old")
    (directory / "pids.link").symlink_to(tmp_path / "secret")
    with pytest.raises(FailedPrecondition, match="too many levels of symbolic links"):
        group.write("pids", "pids.link", "new")
    assert (tmp_path / "secret").read_text() == "old"


def test_open_beneath_refuses_to_leave(tmp_path: Path) -> None:
    """Neither ".." nor a symlink leads out."""
    (tmp_path / "m/in").mkdir(parents=True)
    (tmp_path / "m/link").symlink_to(tmp_path)
    for path, number in (("/../x", errno.EXDEV), ("/link", errno.ENOTDIR), ("/none", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            open_beneath(str(tmp_path / "m"), path)
        assert caught.value.errno in (number, errno.ELOOP)
    os.close(open_beneath(str(tmp_path / "m"), "/in"))


def test_open_group_needs_one_member(tmp_path: Path) -> None:
    """None exists: NotFound names the first place looked at."""
    with pytest.raises(NotFound, match=r"open group '.*/x': no hierarchy has it"):
        open_group([Member(2, (), str(tmp_path), "/x")])
    with pytest.raises(NotFound, match="the container has none"):
        open_group([])


def test_open_group_checks_the_inode(directory: Path) -> None:
    """Another directory of the same name is not the recorded one."""
    inode = directory.stat().st_ino
    right = Member(2, (), str(directory.parent), "/a", inode=inode)
    with open_group([right]) as group:
        assert group.inodes() == [inode]
    wrong = Member(2, (), str(directory.parent), "/a", inode=inode + 1)
    with pytest.raises(NotFound):
        open_group([wrong])


@pytest.mark.parametrize(
    ("freeze", "events", "state"),
    [("0", "frozen 0\n", "running"), ("1", "frozen 0\n", "freezing"), ("1", "populated 1\nfrozen 1\n", "frozen")],
)
def test_v2_state_is_told_by_events(group: Group, directory: Path, freeze: str, events: str, state: str) -> None:
    """cgroup.freeze is the wish, cgroup.events the fact."""
    (directory / "cgroup.freeze").write_text(freeze + "\n")
    (directory / "cgroup.events").write_text(events)
    assert group.state() == state


@pytest.mark.parametrize(("text", "state"), [("THAWED", "running"), ("FREEZING", "freezing"), ("FROZEN", "frozen")])
def test_v1_state_is_told_by_the_freezer(tmp_path: Path, text: str, state: str) -> None:
    """The three words of freezer.state."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/freezer.state").write_text(text + "\n")
    with open_group([Member(1, ("freezer",), str(tmp_path), "/a")]) as group:
        assert group.state() == state


def test_freeze_that_never_ends_is_a_timeout_and_thawed(group: Group, directory: Path) -> None:
    """S2.8: the error path leaves the group thawed."""
    with pytest.raises(Timeout, match="freeze group '/a': still freezing"):
        group.freeze(deadline_s=0.01)
    assert (directory / "cgroup.freeze").read_text().strip() == "0"


def test_freeze_without_any_freezer_is_refused(tmp_path: Path) -> None:
    """A host that can freeze nothing says so."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/cgroup.procs").write_text("")
    with (
        open_group([Member(1, ("pids",), str(tmp_path), "/a")]) as group,
        pytest.raises(FailedPrecondition, match=r"neither a freezer controller nor cgroup\.freeze"),
    ):
        group.freeze(deadline_s=0.01)


def test_wait_empty_returns_those_left(group: Group, directory: Path) -> None:
    """After the deadline, the pids that are still there."""
    assert group.wait_empty(deadline_s=0) == [5, 12]
    (directory / "cgroup.procs").write_text("")
    assert group.wait_empty(deadline_s=0) == []


def limit(file: str, value: str, *, optional: bool = False, one_of: str = "") -> LimitWrite:
    """A write to the pids controller, read back as it is."""
    return LimitWrite(0, "pids", file, value, pointer="p", expect=("exact", value), is_optional=optional, one_of=one_of)


def test_apply_judges_what_stands(group: Group, directory: Path) -> None:
    """All written, then judged: a later write that changes an earlier value is seen."""
    (directory / "pids.max").write_text("")
    assert group.apply([limit("pids.max", "5")]) == []
    first, second = limit("pids.max", "6"), limit("pids.max", "7")
    assert group.apply([first, second]) == [(first, "asked for '6', the kernel has '7'")]


def test_apply_passes_over_optional_files(group: Group) -> None:
    """A missing optional file is fine, a missing needed one ends it; of alternatives one must be there."""
    assert group.apply([limit("pids.new", "1", optional=True)]) == []
    needed = limit("pids.new", "1")
    ((write, reason),) = group.apply([needed])
    assert (write, reason.endswith("pids.new': no such file or directory")) == (needed, True)
    pair = [limit("pids.x", "1", one_of="w"), limit("pids.y", "1", one_of="w")]
    assert [reason for _, reason in group.apply(pair)] == [
        "this kernel has no file 'pids.x'",
        "this kernel has no file 'pids.y'",
    ]


def test_existing_group_is_inspected(member: Member, directory: Path) -> None:
    """Nothing there, populated, empty: only a populated one is refused."""
    assert inspect_existing([Member(2, (), member.mount_point, "/none")]).members == []
    with pytest.raises(FailedPrecondition) as caught:
        inspect_existing([member]).raise_unless_free()
    assert caught.value.message == f"use group '{directory}': container's cgroup is not empty: 2 process(es) found"
    (directory / "cgroup.procs").write_text("")
    inspect_existing([member]).raise_unless_free()
    (directory / "cgroup.freeze").write_text("1\n")
    with pytest.raises(FailedPrecondition, match="container's cgroup unexpectedly frozen"):
        inspect_existing([member]).raise_unless_free()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, PermissionDenied),
        (errno.EROFS, PermissionDenied),
        (errno.ENOENT, NotFound),
        (errno.ENOSPC, ResourceExhausted),
        (errno.EAGAIN, ResourceExhausted),
        (errno.EINVAL, FailedPrecondition),
    ],
)
def test_os_errors_become_kinds(number: int, kind: type[Exception]) -> None:
    """The errno decides the kind; message, path and errno are kept."""
    error = from_os_error("write '5' to", "/cg/a/pids.max", OSError(number, "x"))
    assert type(error) is kind
    assert error.message == f"write '5' to '/cg/a/pids.max': {os.strerror(number).lower()}"
    assert (error.errno, error.path) == (number, "/cg/a/pids.max")


def test_memory_below_use_has_a_hint() -> None:
    """The kernel says only "busy"."""
    error = from_os_error("write '1' to", "/cg/a/memory.limit_in_bytes", OSError(errno.EBUSY, "x"))
    assert error.hint == "the group uses more than the new limit and cannot give it back"


@pytest.mark.parametrize("path", ["", "/x", "x/", "a//b", "..", "a/../b", ".", "a\0b"])
def test_group_below_is_refused_when_its_path_leads_elsewhere(member: Member, path: str) -> None:
    """Only plain relative paths."""
    with pytest.raises(InvalidArgument, match="not a plain relative path"):
        members_below([member], path)


def test_group_below_has_the_same_hierarchies(member: Member) -> None:
    """Path appended, inode not known."""
    (below,) = members_below([member], "x/y")
    assert (below.directory, below.controllers, below.inode) == (f"{member.directory}/x/y", member.controllers, 0)


def test_groups_below_are_listed_parents_first(group: Group, directory: Path) -> None:
    """By path from the group, in the order of a walk, files left out."""
    for name in ("b", "a/c", "a-b"):
        (directory / name).mkdir(parents=True)
    assert group.list_groups() == ["a", "a/c", "a-b", "b"]


def test_threads_are_listed_by_the_hierarchys_own_file(directory: Path) -> None:
    """cgroup.threads on v2; tasks where that is missing, and on v1."""
    (directory / "cgroup.threads").write_text("7\n0\n5\n")
    (directory / "tasks").write_text("9\n")
    for version, expected in ((2, [5, 7]), (1, [9])):
        with open_group([Member(version, ("pids",), str(directory.parent), "/a")]) as group:
            assert group.list_threads(recursive=False) == expected


def test_process_is_attached_by_its_number(group: Group, directory: Path) -> None:
    """One write to cgroup.procs in each hierarchy."""
    group.attach(4711)
    assert (directory / "cgroup.procs").read_text().startswith("4711")


def test_refused_attach_names_process_and_group(group: Group, directory: Path) -> None:
    """With the kernel's cause."""
    (directory / "cgroup.procs").unlink()
    with pytest.raises(NotFound, match=r"attach process 4711 to .*/a'?: no such file"):
        group.attach(4711)
