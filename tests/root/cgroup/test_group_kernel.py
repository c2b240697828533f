"""Rules of corral.cgroup.group and removal, on this host's real hierarchies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cgroup.group import inspect_existing, open_group
from corral.cgroup.layout import Layout
from corral.cgroup.member import Member
from corral.cgroup.removal import remove_group, remove_parents
from corral.errors import FailedPrecondition, NotFound

Spawn = Callable[..., "subprocess.Popen[bytes]"]
pytestmark = pytest.mark.requires("root")


def test_layout_shows_own_group(layout: Layout) -> None:
    """On the host, every mount shows the group of this process."""
    assert layout.mode in ("v1", "hybrid", "v2")
    assert [h for h in layout.hierarchies if h.visible_own_path is None] == []


def test_pids_are_listed_recursively(members: list[Member], spawn: Spawn) -> None:
    """Processes in groups below count, unless asked not to."""
    for member in members:
        inner_group = Path(member.directory, "inner")
        inner_group.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if "cpuset" in member.controllers and member.version == 1:
                (inner_group / name).write_text(Path(member.directory, name).read_text())
    outer, inner = spawn("sleep", "60"), spawn("sleep", "60", below="/inner")
    with open_group(members) as group:
        assert group.list_pids() == sorted([outer.pid, inner.pid])
        assert group.list_pids(recursive=False) == [outer.pid]
        assert group.list_all_pids() == sorted([outer.pid, inner.pid])


def test_frozen_group_stands_still_until_thawed(members: list[Member], spawn: Spawn) -> None:
    """freeze returns when all are stopped; both directions are idempotent."""
    spawn("sleep", "60")
    with open_group(members) as group:
        assert group.state() == "running"
        group.freeze(deadline_s=5)
        group.freeze(deadline_s=5)
        assert group.state() == "frozen"
        group.thaw(deadline_s=5)
        group.thaw(deadline_s=5)
        assert group.state() == "running"


def test_freeze_is_refused_from_inside(members: list[Member], spawn: Spawn) -> None:
    """A process that froze itself could never thaw."""
    code = (
        "import sys; from corral.cgroup.group import open_group; from corral.cgroup.member import Member\n"
        "from corral.errors import FailedPrecondition\n"
        "members = [Member(int(v), tuple(c.split(',')), m, p) for v, c, m, p in (a.split('|') for a in sys.argv[1:])]\n"
        "try: open_group(members).freeze(deadline_s=1)\n"
        "except FailedPrecondition as exc: print(exc.message)\n"
    )
    arguments = [f"{m.version}|{','.join(m.controllers)}|{m.mount_point}|{m.path}" for m in members]
    process = spawn("env", f"PYTHONPATH={Path(__file__).parents[3] / 'src'}", "python3", "-c", code, *arguments)
    assert process.communicate(timeout=30)[0] == b"freeze group: this process is in it\n"
    with open_group(members) as group:
        assert group.state() == "running"


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_kill_all_reaches_everything(members: list[Member], spawn: Spawn, frozen: bool) -> None:
    """Also a group that is frozen, and processes that fork while being killed."""
    loop = spawn("sh", "-c", "while :; do sleep 0.01 & done")
    with open_group(members) as group:
        if frozen:
            group.freeze(deadline_s=5)
        group.kill_all(signal.SIGKILL, deadline_s=5)
        assert loop.wait(timeout=10) == -signal.SIGKILL
        assert group.wait_empty(deadline_s=10) == []
        assert group.state() == "running"


def test_kill_all_without_cgroup_kill(members: list[Member], spawn: Spawn) -> None:
    """The fallback, freeze and signal and thaw, for hosts before 5.14 and for v1."""
    v1 = [member for member in members if member.version == 1]
    if not v1:
        pytest.skip("this host has no v1 hierarchy")
    loop = spawn("sh", "-c", "while :; do sleep 0.01 & done")
    with open_group(v1) as group:
        group.kill_all(signal.SIGKILL, deadline_s=5)
        assert loop.wait(timeout=10) == -signal.SIGKILL
        assert group.wait_empty(deadline_s=10) == []


def test_other_signals_are_delivered_and_frozen_stays_frozen(members: list[Member], spawn: Spawn) -> None:
    """kill --all TERM reaches all processes; a paused container stays paused."""
    first, second = spawn("sleep", "60"), spawn("sleep", "60")
    with open_group(members) as group:
        group.kill_all(signal.SIGTERM, deadline_s=5)
        assert {first.wait(timeout=10), second.wait(timeout=10)} == {-signal.SIGTERM}
        third = spawn("sleep", "60")
        group.freeze(deadline_s=5)
        group.kill_all(signal.SIGTERM, deadline_s=5)
        assert group.state() == "frozen"
        group.thaw(deadline_s=5)
        assert third.wait(timeout=10) == -signal.SIGTERM


def test_s2_3_populated_group_is_refused(members: list[Member], spawn: Spawn) -> None:
    """One process in any hierarchy is enough; an empty one is free."""
    existing = inspect_existing(members)
    assert [m.directory for m in existing.members] == [m.directory for m in members]
    existing.raise_unless_free()
    spawn("sleep", "60")
    with pytest.raises(FailedPrecondition, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        inspect_existing(members).raise_unless_free()


def test_frozen_group_is_refused(members: list[Member]) -> None:
    """A process that entered it would stop before it runs a line."""
    name = next((m for m in members if "freezer" in m.controllers), None)
    if name is None:
        pytest.skip("this host has no v1 freezer")
    Path(name.directory, "freezer.state").write_text("FROZEN")
    with pytest.raises(FailedPrecondition, match="container's cgroup unexpectedly frozen"):
        inspect_existing(members).raise_unless_free()


def test_removal_takes_nested_groups(members: list[Member]) -> None:
    """Bottom-up, and a second time is no error."""
    for member in members:
        Path(member.directory, "a/b/c").mkdir(parents=True)
        Path(member.directory, "a/d").mkdir(parents=True)
    result = remove_group(members, deadline_s=5)
    assert (result.removed, result.pending) == ([m.directory for m in members], [])
    again = remove_group(members, deadline_s=5)
    assert (again.missing, again.is_done) == ([m.directory for m in members], True)


def test_s2_5_busy_group_is_reported_with_its_processes(members: list[Member], spawn: Spawn) -> None:
    """Within the deadline, with pid, command and state; the other hierarchies are removed all the same."""
    process = spawn("sleep", "60")
    kept = members[0]
    for member in members[1:]:
        Path(member.mount_point, "cgroup.procs").write_text(str(process.pid))
    result = remove_group(members, deadline_s=0.2)
    assert result.removed == [m.directory for m in members[1:]]
    (pending,) = result.pending
    (survivor,) = pending.survivors
    assert (pending.directory, pending.cause) == (kept.directory, "device or resource busy")
    assert (survivor.pid, survivor.comm, survivor.state) == (process.pid, "sleep", "S")
    assert str(pending).startswith(
        f"remove group '{kept.directory}': device or resource busy; pid {process.pid} (sleep)"
    )


def test_s2_9_another_groups_inode_is_left_alone(members: list[Member]) -> None:
    """A directory that took the recorded one's name is neither opened nor removed."""
    with open_group(members) as group:
        inodes = group.inodes()
    recorded = [
        Member(m.version, m.controllers, m.mount_point, m.path, inode=inode + 1)
        for m, inode in zip(members, inodes, strict=True)
    ]
    with pytest.raises(NotFound):
        open_group(recorded)
    result = remove_group(recorded, deadline_s=1)
    assert result.missing == [m.directory for m in members]
    assert all(Path(m.directory).is_dir() for m in members)


def test_parents_are_removed_only_when_empty(members: list[Member]) -> None:
    """Intermediate groups that we made go when nobody else uses them, deepest first."""
    member = members[-1]
    Path(member.directory, "p/q").mkdir(parents=True)
    Path(member.directory, "r/s").mkdir(parents=True)
    made = [
        Member(member.version, member.controllers, member.mount_point, member.path + below)
        for below in ("/p", "/p/q", "/r")
    ]
    assert remove_parents(made).removed == [member.directory + "/p/q", member.directory + "/p"]
    assert Path(member.directory, "r/s").is_dir()


def test_close_leaves_no_descriptor(members: list[Member]) -> None:
    """Directory fds are the group's own and go with it, also on the way to an error."""
    before = set(os.listdir("/proc/self/fd"))
    with open_group(members) as group:
        group.list_all_pids()
    assert set(os.listdir("/proc/self/fd")) == before
