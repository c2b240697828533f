"""CG_DEFINE, CG_MAKE, CG_WRITE, CG_READ, CG_ATTACH, CG_DEVICES, CG_THAW, CG_KILL and CG_REMOVE on real hierarchies."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.linux.bpf_devices import ANY, assemble_device_program
from native.driver import OPTIONAL
from root.native.groups import (
    ABSENT,
    ABSENT_IS_FINE,
    BUDGET_MS,
    CPUSET,
    CREATED,
    FREEZER,
    INTEND,
    JOIN_ONLY,
    JOINED,
    MAKE,
    PIDS,
    REMOVE,
    REMOVED,
    GroupBench,
    mount_of,
)

pytestmark = pytest.mark.requires("root", "cc")


@pytest.fixture
def unified(tmp_path: Path, mark: str) -> Iterator[GroupBench]:
    """A group two levels deep in the v2 hierarchy."""
    mount = mount_of("cgroup2")
    if not mount:
        pytest.skip("no cgroup2 is mounted")
    groups = GroupBench(tmp_path, mount, 2, f"/{mark}/leaf", FREEZER | PIDS)
    yield groups
    groups.clean()


@pytest.fixture
def freezer(tmp_path: Path, mark: str) -> Iterator[GroupBench]:
    """The same in the v1 freezer hierarchy, which also counts the processes."""
    mount = mount_of("cgroup", "freezer")
    if not mount:
        pytest.skip("no v1 freezer is mounted")
    groups = GroupBench(tmp_path, mount, 1, f"/{mark}/leaf", FREEZER | PIDS)
    yield groups
    groups.clean()


@pytest.fixture(params=["unified", "freezer"])
def groups(request: pytest.FixtureRequest) -> GroupBench:
    """A group of either version."""
    found: GroupBench = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be moved about."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


# ---- making ----------------------------------------------------------------------------------------------------------


def test_make_creates_every_component_and_journals_each_when_absent(groups: GroupBench) -> None:
    """Intent first, then the deed, for parent and leaf; the parent is registered in the state root."""
    groups.ok(MAKE)
    assert groups.directory.is_dir()
    assert groups.journal() == [(INTEND, 0), (CREATED, 0), (INTEND, 1), (CREATED, 1)]
    (entry,) = (groups.root / ".parents").iterdir()
    assert entry.read_text() == str(groups.directory.parent)


def test_remove_takes_leaf_and_parents_away_when_they_are_ours(groups: GroupBench) -> None:
    """What was created is removed, parents too, and forgotten in the registry."""
    groups.ok(MAKE)
    groups.ok(REMOVE)
    assert not groups.directory.parent.exists()
    assert groups.journal()[-2:] == [(REMOVED, 1), (REMOVED, 0)]
    assert list((groups.root / ".parents").iterdir()) == []


def test_last_container_removes_the_parent_when_another_made_it(groups: GroupBench) -> None:
    """S2.3: a parent stays while someone is below it; whoever leaves last removes it."""
    groups.ok(MAKE)
    other = GroupBench(groups.root.parent / "other", groups.mount, groups.version, groups.path + "2", groups.flags)
    other.record = groups.root / "other"
    other.record.mkdir()
    (other.record / "journal").touch()
    other.ok(MAKE)
    groups.ok(REMOVE)
    assert not groups.directory.exists()
    assert other.directory.exists()
    other.ok(REMOVE)
    assert not groups.directory.parent.exists()


def test_make_joins_and_remove_leaves_an_empty_group_when_it_was_there(groups: GroupBench) -> None:
    """S2.3: a pre-existing empty group is used, recorded as joined, and never removed."""
    groups.directory.mkdir(parents=True)
    groups.ok(MAKE)
    assert groups.journal() == [(JOINED, 1)]
    groups.ok(REMOVE)
    assert groups.directory.is_dir()


def test_make_refuses_and_kill_spares_a_group_when_it_holds_a_process(
    groups: GroupBench, sleeper: subprocess.Popen[bytes]
) -> None:
    """S2.3: `container's cgroup is not empty`; and what follows, an undo, harms nobody in it."""
    groups.directory.mkdir(parents=True)
    (groups.directory / "cgroup.procs").write_text(str(sleeper.pid))
    result = groups.run(MAKE)
    assert (result.status, "container's cgroup is not empty: 1 process in '" in result.err) == (1, True)
    groups.ok(("CG_THAW", 0), ("CG_KILL", 0, 9), REMOVE)
    assert (sleeper.poll(), groups.processes()) == (None, {sleeper.pid})


def test_make_refuses_a_group_when_a_child_of_it_holds_a_process(
    groups: GroupBench, sleeper: subprocess.Popen[bytes]
) -> None:
    """A populated child counts: whoever is in there would be killed with the container."""
    (groups.directory / "child").mkdir(parents=True)
    (groups.directory / "child" / "cgroup.procs").write_text(str(sleeper.pid))
    assert "container's cgroup is not empty" in groups.run(MAKE).err


def test_make_refuses_a_group_when_it_is_frozen(unified: GroupBench) -> None:
    """The blocked stub would never be heard of again."""
    unified.directory.mkdir(parents=True)
    (unified.directory / "cgroup.freeze").write_text("1")
    assert "container's cgroup unexpectedly frozen" in unified.run(MAKE).err


def test_make_does_not_create_when_told_to_join_only(groups: GroupBench) -> None:
    """Flag 4: an absent group is an error, or absent if that is fine too."""
    assert "no such file or directory" in groups.run(("CG_MAKE", 0, JOIN_ONLY, "")).err
    groups.ok(("CG_MAKE", 0, JOIN_ONLY | ABSENT_IS_FINE, ""), ("CG_WRITE", 0, "x", "1", 0), ("CG_ATTACH", 0, 0))
    assert not groups.directory.parent.exists()
    assert groups.journal() == [(ABSENT, 2)]


def test_make_follows_no_link_when_a_component_is_one(tmp_path: Path, groups: GroupBench) -> None:
    """No hierarchy holds links, so a path through one is no hierarchy's."""
    fake = GroupBench(tmp_path / "fake", str(tmp_path / "mount"), groups.version, "/a")
    (tmp_path / "mount").symlink_to(groups.mount)
    assert fake.run(MAKE).status == 1
    assert not Path(groups.mount, "a").exists()


def test_make_refuses_a_plain_directory_when_no_hierarchy_is_mounted_there(tmp_path: Path) -> None:
    """mkdir on the disk would look like a cgroup to nobody but us."""
    (tmp_path / "mount").mkdir()
    fake = GroupBench(tmp_path / "fake", str(tmp_path / "mount"), 2, "/a")
    assert "no such file or directory" in fake.run(MAKE).err
    assert list((tmp_path / "mount").iterdir()) == []


def test_cpuset_gets_cpus_and_nodes_of_its_parent_when_fresh(tmp_path: Path, mark: str) -> None:
    """A v1 cpuset is born empty and would refuse every process."""
    mount = mount_of("cgroup", "cpuset")
    if not mount:
        pytest.skip("no v1 cpuset is mounted")
    groups = GroupBench(tmp_path, mount, 1, f"/{mark}/leaf", CPUSET)
    groups.ok(MAKE)
    for name in ("cpuset.cpus", "cpuset.mems"):
        assert (groups.directory / name).read_text() == Path(mount, name).read_text()
    groups.ok(REMOVE)
    assert not groups.directory.parent.exists()


def test_controllers_are_enabled_in_every_ancestor_when_asked_for(unified: GroupBench) -> None:
    """+name in each group above the leaf; an unknown one is an error, unless it is only wished for."""
    available = Path(unified.mount, "cgroup.controllers").read_text().split()
    before = Path(unified.mount, "cgroup.subtree_control").read_text().split()
    if not available:
        pytest.skip("the v2 hierarchy has no controller here")
    name = available[0]
    unified.ok(("CG_MAKE", 0, 1, f"{name} ?nonsense"))
    assert name in (unified.directory / "cgroup.controllers").read_text().split()
    result = unified.run(("CG_MAKE", 0, 0, "nonsense"))
    assert "write '+nonsense' to '" in result.err
    assert result.err.endswith("cgroup.subtree_control': invalid argument")
    unified.ok(REMOVE)
    if name not in before:
        Path(unified.mount, "cgroup.subtree_control").write_text(f"-{name}")


def test_group_is_found_and_removed_when_the_maker_dies_between_mkdir_and_journal(groups: GroupBench) -> None:
    """S2.12: intent is logged first, so the undo of a half-made group finds it."""
    groups.ok(MAKE)
    raw = (groups.record / "journal").read_bytes()
    (groups.record / "journal").write_bytes(raw[:-16])
    groups.ok(("CG_KILL", 0, 9), REMOVE)
    assert not groups.directory.parent.exists()


@pytest.mark.parametrize(("error", "word"), [(30, "read-only file system"), (13, "permission denied")])
def test_step_is_refused_in_words_when_a_fault_is_injected(groups: GroupBench, error: int, word: str) -> None:
    """The failpoint of a step ends the run with its errno, before anything is done."""
    result = groups.run(MAKE, CORRAL_FAILPOINT=f"front:CG_MAKE:errno={error}")
    assert (result.status, result.err) == (1, f"create cgroup 0: {word}")
    assert not groups.directory.parent.exists()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_write_sets_a_limit(tmp_path: Path, mark: str) -> None:
    """One write(2) of the value to the file."""
    mount = mount_of("cgroup", "pids") or mount_of("cgroup2")
    version = 1 if mount_of("cgroup", "pids") else 2
    groups = GroupBench(tmp_path, mount, version, f"/{mark}/leaf")
    groups.ok(("CG_MAKE", 0, 1, "pids" if version == 2 else ""), ("CG_WRITE", 0, "pids.max", "77", 0))
    assert (groups.directory / "pids.max").read_text() == "77\n"
    groups.ok(REMOVE)


def test_write_names_value_and_path_when_refused(groups: GroupBench) -> None:
    """The error says what was written where; the flags make it nothing, or a warning."""
    groups.ok(MAKE)
    file = groups.directory / "cgroup.nothing"
    result = groups.run(("CG_WRITE", 0, "cgroup.nothing", "1", 0))
    assert result.err == f"write '1' to cgroup.nothing of cgroup 0: '{file}': no such file or directory"
    groups.ok(("CG_WRITE", 0, "cgroup.nothing", "1", 1))
    result = groups.run(("CG_WRITE", 0, "cgroup.nothing", "1", 2))
    assert (result.status, result.err) == (0, f"warning: write '1' to '{file}': no such file or directory")
    groups.ok(REMOVE)


@pytest.mark.parametrize("name", ["../cgroup.procs", "..", ".", "", "a/b"])
def test_write_and_read_refuse_a_name_that_is_no_file_of_the_group(groups: GroupBench, name: str) -> None:
    """Names come from the config too (linux.resources.unified): none leaves the group."""
    groups.ok(MAKE)
    assert groups.run(("CG_WRITE", 0, name, "0", 1)).err.endswith("invalid argument")
    assert groups.run(("CG_READ", 0, name, 1)).err.endswith("invalid argument")
    groups.ok(REMOVE)


def test_read_is_refused_when_the_file_is_missing_unless_that_is_fine(groups: GroupBench) -> None:
    """Flag 1 turns ENOENT into empty bytes."""
    groups.ok(MAKE, ("CG_READ", 0, "cgroup.procs", 0), ("CG_READ", 0, "cgroup.nothing", 1))
    assert groups.run(("CG_READ", 0, "cgroup.nothing", 0)).err.endswith("no such file or directory")
    groups.ok(REMOVE)


# ---- membership ------------------------------------------------------------------------------------------------------


def test_attach_moves_the_process(groups: GroupBench, sleeper: subprocess.Popen[bytes]) -> None:
    """The pid of the container's first process, and no other."""
    groups.ok(MAKE, ("CG_ATTACH", 0, 0), pid=sleeper.pid)
    assert groups.processes() == {sleeper.pid}
    sleeper.kill()
    sleeper.wait()
    groups.ok(REMOVE)


def test_attach_is_refused_when_no_process_was_born(groups: GroupBench) -> None:
    """A written 0 would move the front itself."""
    result = groups.run(MAKE, ("CG_ATTACH", 0, 0))
    assert result.err == "move the process into cgroup 0: no process was born: no such process"
    groups.ok(REMOVE)


def test_attach_follows_the_container_when_its_group_has_controllers_enabled(
    unified: GroupBench, sleeper: subprocess.Popen[bytes]
) -> None:
    """S1.13: the workload moved itself to a child; an exec'd process goes where it is (runc#5089, #2356)."""
    available = Path(unified.mount, "cgroup.controllers").read_text().split()
    if not available:
        pytest.skip("the v2 hierarchy has no controller here")
    before = Path(unified.mount, "cgroup.subtree_control").read_text().split()
    unified.ok(("CG_MAKE", 0, 1, available[0]), ("CG_ATTACH", 0, 0), pid=sleeper.pid)
    child = unified.directory / "init"
    child.mkdir()
    (child / "cgroup.procs").write_text(str(sleeper.pid))
    (unified.directory / "cgroup.subtree_control").write_text(f"+{available[0]}")
    second = subprocess.Popen(["sleep", "1000"])
    try:
        (unified.record / "journal").rename(unified.record / "kept")
        refused = unified.run(("CG_ATTACH", 0, 0), pid=second.pid)
        # The join itself, with a start time of nobody, is refused; it is there to name the container's process.
        join = (("JOIN_CONTAINER", OPTIONAL), sleeper.pid, 0, 0)
        followed = unified.run(("CG_ATTACH", 0, 1), join, pid=second.pid)
        (unified.record / "kept").rename(unified.record / "journal")
        inside = (child / "cgroup.procs").read_text().split()
    finally:
        second.kill()
        second.wait()
        sleeper.kill()
        sleeper.wait()
    assert refused.err.endswith("device or resource busy")
    assert (followed.status, sorted(map(int, inside))) == (0, sorted([sleeper.pid, second.pid]))
    unified.ok(REMOVE)
    if available[0] not in before:
        Path(unified.mount, "cgroup.subtree_control").write_text(f"-{available[0]}")


# ---- devices ---------------------------------------------------------------------------------------------------------


def try_open(groups: GroupBench, device: str) -> int:
    """Exit status of opening a device from inside the group."""
    script = f"echo $$ > {groups.directory}/cgroup.procs; exec 3<{device}"
    return subprocess.run(["sh", "-c", script], check=False, capture_output=True, timeout=20).returncode


def test_device_program_decides_and_is_replaced_by_the_next(unified: GroupBench) -> None:
    """Denying all, then allowing all: the second replaces the first, though both could be attached."""
    deny, allow = assemble_device_program([]), assemble_device_program([(True, "a", ANY, ANY, "rwm")])
    unified.ok(MAKE, ("CG_DEVICES", 0, deny))
    assert try_open(unified, "/dev/null") != 0
    unified.ok(("CG_MAKE", 0, 0, ""), ("CG_DEVICES", 0, allow))
    assert try_open(unified, "/dev/null") == 0
    unified.ok(REMOVE)


def test_device_program_is_refused_when_it_is_none(unified: GroupBench) -> None:
    """What is no program is refused here or by the kernel's verifier, in words."""
    assert unified.run(MAKE, ("CG_DEVICES", 0, b"1234567")).err.endswith("the program has 7 bytes: invalid argument")
    assert "load the program of 1 instructions: " in unified.run(("CG_DEVICES", 0, b"\0" * 8)).err
    unified.ok(REMOVE)


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_kill_ends_every_process_when_some_are_in_children(groups: GroupBench) -> None:
    """SIGKILL to all of the tree; then the group can be removed with its children."""
    groups.ok(MAKE)
    (groups.directory / "x" / "y").mkdir(parents=True)
    started = []
    for below in ("", "x", "x/y"):
        process = subprocess.Popen(["sleep", "1000"])
        (groups.directory / below / "cgroup.procs").write_text(str(process.pid))
        started.append(process)
    groups.ok(("CG_KILL", 0, 9))
    assert [process.wait(timeout=20) for process in started] == [-9, -9, -9]
    groups.ok(REMOVE)
    assert not groups.directory.parent.exists()


def test_kill_sends_other_signals_to_all_and_thaws_when_done(groups: GroupBench) -> None:
    """SIGTERM arrives at each process, and the group is not frozen afterwards."""
    groups.ok(MAKE)
    started = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    for process in started:
        (groups.directory / "cgroup.procs").write_text(str(process.pid))
    groups.ok(("CG_KILL", 0, 15))
    assert [process.wait(timeout=20) for process in started] == [-15, -15, -15]
    state = groups.directory / ("cgroup.freeze" if groups.version == 2 else "freezer.state")
    assert state.read_text().strip() in ("0", "THAWED")
    groups.ok(REMOVE)


def test_thaw_frees_a_frozen_group(groups: GroupBench, sleeper: subprocess.Popen[bytes]) -> None:
    """S2.8: what a pause left frozen is thawed, and a killed process can end."""
    groups.ok(MAKE, ("CG_ATTACH", 0, 0), pid=sleeper.pid)
    state = groups.directory / ("cgroup.freeze" if groups.version == 2 else "freezer.state")
    state.write_text("1" if groups.version == 2 else "FROZEN")
    groups.ok(("CG_THAW", 0), ("CG_KILL", 0, 9))
    assert sleeper.wait(timeout=20) == -9
    groups.ok(REMOVE)


def test_remove_names_the_survivors_when_the_group_stays_busy(
    groups: GroupBench, sleeper: subprocess.Popen[bytes]
) -> None:
    """S2.5: bounded, with pid, name, state and where it waits; a second try finishes."""
    groups.ok(MAKE, ("CG_ATTACH", 0, 0), pid=sleeper.pid)
    result = groups.run(REMOVE)
    assert result.status == 1
    assert f"still in it (pid name state wait): {sleeper.pid} sleep S " in result.err
    sleeper.kill()
    sleeper.wait()
    groups.ok(REMOVE)
    assert not groups.directory.parent.exists()


def test_remove_waits_for_a_process_when_it_ends_within_the_budget(groups: GroupBench) -> None:
    """EBUSY for a moment is waited for."""
    process = subprocess.Popen(["sleep", str(BUDGET_MS / 3000)])
    groups.ok(MAKE, ("CG_ATTACH", 0, 0), pid=process.pid)
    waiter = threading.Thread(target=process.wait)
    waiter.start()
    groups.ok(("CG_REMOVE", 0, 10_000))
    waiter.join()
    assert not groups.directory.exists()


def test_remove_succeeds_when_the_group_is_gone_already(groups: GroupBench) -> None:
    """Deleting twice is deleting."""
    groups.ok(MAKE)
    os.rmdir(groups.directory)
    groups.ok(REMOVE, REMOVE)
    assert not groups.directory.parent.exists()


def test_remove_spares_another_group_when_it_has_the_name(groups: GroupBench) -> None:
    """Ours went away, and somebody made one of the same name: the inode tells."""
    groups.ok(MAKE)
    os.rmdir(groups.directory)
    groups.directory.mkdir()
    groups.ok(("CG_KILL", 0, 9), REMOVE)
    assert groups.directory.is_dir()


def test_undefined_group_is_refused(groups: GroupBench) -> None:
    """A step on a number that no CG_DEFINE named, or a number that is named twice."""
    assert groups.run(("CG_THAW", 5)).err == "thaw cgroup 5: no cgroup 5 was defined: protocol error"
    assert "cgroup 0 cannot be defined" in groups.run(groups.define()).err
