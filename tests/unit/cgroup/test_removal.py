"""Rules of corral.cgroup.removal: the outcomes of rmdir, in bounded time, never beyond the recorded directory."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cgroup.member import Member
from corral.cgroup.removal import Survivor, remove_group, remove_parents

Rmdir = Callable[[str, int], None]


def member(root: Path, path: str = "/a", *, inode: int = 0) -> Member:
    """A v2 group in a plain directory that stands for a hierarchy."""
    return Member(2, (), str(root), path, inode=inode)


def make(root: Path, path: str = "a") -> Path:
    """A directory without control files, so that a real rmdir removes it."""
    directory = root / path
    directory.mkdir(parents=True)
    return directory


def failing(number: int, *, times: int = 1 << 30, then_remove: bool = False) -> Rmdir:
    """An rmdir that answers ``number`` for some calls, and may remove the directory all the same."""
    calls = 0

    def rmdir(name: str, parent_fd: int) -> None:
        nonlocal calls
        calls += 1
        if then_remove:
            os.rmdir(name, dir_fd=parent_fd)
        if calls <= times:
            raise OSError(number, os.strerror(number), name)
        os.rmdir(name, dir_fd=parent_fd)

    return rmdir


S2_5 = {
    "ok": (failing(0, times=0), "removed"),
    "enoent-and-missing": (failing(errno.ENOENT, then_remove=True), "missing"),
    "erofs-and-missing": (failing(errno.EROFS, then_remove=True), "missing"),
    "erofs-and-present": (failing(errno.EROFS), errno.EROFS),
    "ebusy-for-a-while": (failing(errno.EBUSY, times=3), "removed"),
    "ebusy-for-ever": (failing(errno.EBUSY), errno.EBUSY),
    "eacces": (failing(errno.EACCES), errno.EACCES),
    "eperm": (failing(errno.EPERM), errno.EPERM),
    "enodev-race-lost": (failing(errno.ENODEV, then_remove=True), "missing"),
    "enodev-for-a-while": (failing(errno.ENODEV, times=2), "removed"),
    "enoent-but-present": (failing(errno.ENOENT), errno.ENOENT),
}


@pytest.mark.parametrize(("rmdir", "outcome"), S2_5.values(), ids=S2_5.keys())
def test_s2_5_only_missing_counts_as_gone(tmp_path: Path, rmdir: Rmdir, outcome: str | int) -> None:
    """Whatever rmdir answers: removed, missing, or pending with the errno; never longer than the deadline."""
    directory = make(tmp_path)
    begun = time.monotonic()
    result = remove_group([member(tmp_path)], deadline_s=0.05, rmdir=rmdir)
    assert time.monotonic() - begun < 2
    assert directory.exists() == isinstance(outcome, int)
    if isinstance(outcome, int):
        assert [p.errno for p in result.pending] == [outcome]
        assert result.pending[0].directory == str(directory)
        assert not result.is_done
    else:
        assert getattr(result, outcome) == [str(directory)]
        assert result.is_done


@pytest.mark.parametrize("path", ["/a", "/no/such/parent"], ids=["leaf", "parent"])
def test_missing_group_is_no_error(tmp_path: Path, path: str) -> None:
    """A group that was never made, or went with its parent, is gone."""
    result = remove_group([member(tmp_path, path)], deadline_s=0)
    assert (result.missing, result.pending) == ([str(tmp_path) + path], [])


def test_missing_mount_is_no_error(tmp_path: Path) -> None:
    """A hierarchy that is no longer mounted has no group of ours."""
    assert remove_group([member(tmp_path / "gone")], deadline_s=0).is_done


def test_one_failure_does_not_stop_the_rest(tmp_path: Path) -> None:
    """Other hierarchies are removed although the first stays."""
    make(tmp_path)
    make(tmp_path, "b")

    def rmdir(name: str, parent_fd: int) -> None:
        if name == "a":
            raise PermissionError(errno.EACCES, "denied")
        os.rmdir(name, dir_fd=parent_fd)

    result = remove_group([member(tmp_path), member(tmp_path, "/b")], deadline_s=0, rmdir=rmdir)
    assert (result.removed, [str(p) for p in result.pending]) == (
        [f"{tmp_path}/b"],
        [f"remove group '{tmp_path}/a': permission denied"],
    )


def test_nested_groups_go_first(tmp_path: Path) -> None:
    """Bottom-up, however wide or deep, with few descriptors."""
    deep = "/".join(["d"] * 300)
    make(tmp_path, f"a/{deep}")
    for number in range(50):
        make(tmp_path, f"a/w{number}/x")
    before = len(os.listdir("/proc/self/fd"))
    assert remove_group([member(tmp_path)], deadline_s=5).removed == [f"{tmp_path}/a"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_kept_child_does_not_stop_its_siblings(tmp_path: Path) -> None:
    """What can go below a group that stays, goes."""
    for name in ("a/x/1", "a/y/2", "a/z/3"):
        make(tmp_path, name)

    def rmdir(name: str, parent_fd: int) -> None:
        if name == "2":
            raise OSError(errno.EBUSY, "busy")
        os.rmdir(name, dir_fd=parent_fd)

    result = remove_group([member(tmp_path)], deadline_s=0, rmdir=rmdir)
    assert [p.errno for p in result.pending] in ([errno.EBUSY], [errno.ENOTEMPTY])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["a", "a/y", "a/y/2"]


@pytest.mark.parametrize("path", ["/link", "/link/inner"], ids=["leaf", "component"])
def test_s2_9_symlinks_are_not_followed(tmp_path: Path, path: str) -> None:
    """A symlink planted at the place, or on the way to it, leads nowhere."""
    outside = make(tmp_path, "outside/inner")
    root = make(tmp_path, "root")
    (root / "link").symlink_to(tmp_path / "outside")
    result = remove_group([member(root, path)], deadline_s=0)
    assert not result.is_done
    assert outside.is_dir()


def test_s2_9_prefix_is_not_confused(tmp_path: Path) -> None:
    """/a is not /ab."""
    make(tmp_path, "a")
    make(tmp_path, "ab/c")
    assert remove_group([member(tmp_path)], deadline_s=0).is_done
    assert (tmp_path / "ab/c").is_dir()


def test_another_inode_is_not_removed(tmp_path: Path) -> None:
    """The name was given to another group since: ours is gone, theirs stays."""
    directory = make(tmp_path)
    result = remove_group([member(tmp_path, inode=directory.stat().st_ino + 1)], deadline_s=0)
    assert (result.missing, directory.is_dir()) == ([str(directory)], True)
    result = remove_group([member(tmp_path, inode=directory.stat().st_ino)], deadline_s=0)
    assert result.removed == [str(directory)]


def test_survivors_are_reported_from_proc(tmp_path: Path) -> None:
    """pid, command, state and where it waits; a process that is gone meanwhile is left out."""
    directory = make(tmp_path, "cg/a")
    (directory / "cgroup.procs").write_text("7\n8\n0\n")
    proc = make(tmp_path, "proc/7")
    (proc / "stat").write_text("7 (a b) D " + " ".join(["0"] * 49) + "\n")
    (proc / "wchan").write_text("nfs_wait")
    result = remove_group(
        [member(tmp_path / "cg")], deadline_s=0, proc=str(tmp_path / "proc"), rmdir=failing(errno.EBUSY)
    )
    assert [str(p) for p in result.pending] == [
        f"remove group '{directory}': device or resource busy; pid 7 (a b) state D in nfs_wait"
    ]


def test_survivor_without_wchan_is_short() -> None:
    """Where wchan cannot be read, nothing is made up."""
    assert str(Survivor(5, "x", "R", "")) == "pid 5 (x) state R"


def test_parents_stay_when_in_use(tmp_path: Path) -> None:
    """Only empty ones go, deepest first, one try each; those in use are not pending."""
    make(tmp_path, "p/q/r")
    make(tmp_path, "p/other")
    result = remove_parents([member(tmp_path, p) for p in ("/p", "/p/q", "/p/q/r", "/none")])
    assert result.removed == [f"{tmp_path}/p/q/r", f"{tmp_path}/p/q"]
    assert result.missing == [f"{tmp_path}/none"]
    assert result.is_done
    assert (tmp_path / "p/other").is_dir()
