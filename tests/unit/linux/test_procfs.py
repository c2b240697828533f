"""Processes are described as /proc has them, even when they choose their names to confuse."""

from __future__ import annotations

import os
import select
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux import procfs

if TYPE_CHECKING:
    from pathlib import Path

TAIL = "S 10 20 30 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 11 12"
LONG_TAIL = TAIL + " 0" * 27 + " 2304"


def test_fields_are_read_when_name_is_plain() -> None:
    """State, parent, group, session, start time and exit code come from their fields."""
    stat = procfs.parse_stat(f"42 (cat) {LONG_TAIL}\n")
    assert (42, "cat", "S", 10, 20, 30, 987654, 2304) == (
        stat.pid,
        stat.comm,
        stat.state,
        stat.ppid,
        stat.pgrp,
        stat.session,
        stat.start_time_ticks,
        stat.exit_code,
    )


def test_exit_code_is_zero_when_kernel_has_no_such_field() -> None:
    """A short line (before v3.5) is read without an exit code."""
    assert 0 == procfs.parse_stat(f"42 (cat) {TAIL}").exit_code


@pytest.mark.parametrize("comm", ["a b", "a) S 1 (b", ") R 1 1 1 (", "\n", "()", "", ") "])
def test_name_ends_at_last_parenthesis_when_it_holds_some(comm: str) -> None:
    """A process cannot forge fields through its name."""
    stat = procfs.parse_stat(f"42 ({comm}) {TAIL}")
    assert (comm, "S", 987654) == (stat.comm, stat.state, stat.start_time_ticks)


@given(st.text())
def test_any_name_is_kept_when_parsed(comm: str) -> None:
    """For every name the fields after it are found."""
    assert (comm, 10) == (lambda s: (s.comm, s.ppid))(procfs.parse_stat(f"42 ({comm}) {TAIL}"))


@pytest.mark.parametrize("text", ["", "42", "42 (x", "(x) S 1", "42 (x) S 1 2 3", "x (y) " + TAIL])
def test_value_error_is_raised_when_text_is_no_stat_line(text: str) -> None:
    """Garbage is refused, not guessed at."""
    with pytest.raises(ValueError):
        procfs.parse_stat(text)


@pytest.mark.parametrize(
    ("state", "expected"), [("R", False), ("D", False), ("T", False), ("Z", True), ("X", True), ("x", True)]
)
def test_dead_is_said_when_state_says_so(state: str, expected: bool) -> None:
    """Zombies and processes being removed are over; all others live."""
    assert expected is procfs.parse_stat(f"42 (c) {state}{TAIL[1:]}").is_dead


def test_own_process_is_described_when_read() -> None:
    """The real file names the reader's own parent."""
    stat = procfs.read_stat("self")
    assert (os.getpid(), os.getppid(), False) == (stat.pid, stat.ppid, stat.is_dead)


def test_lookup_error_is_raised_when_process_is_gone(tmp_path: Path) -> None:
    """A missing process has one kind of error, and its path is named."""
    with pytest.raises(ProcessLookupError) as caught:
        procfs.read_stat(7, proc=str(tmp_path))
    assert f"{tmp_path}/7/stat" == caught.value.filename
    assert procfs.read_stat_or_none(7, proc=str(tmp_path)) is None


def test_exit_code_is_told_when_child_is_a_zombie() -> None:
    """The wait status of a zombie child is in its stat line, before anybody reaps it."""
    child = subprocess.Popen(["sh", "-c", "exit 9"])
    pidfd = os.pidfd_open(child.pid)
    try:
        select.select([pidfd], [], [])
        stat = procfs.read_stat(child.pid)
        assert ("Z", 9, True) == (stat.state, os.waitstatus_to_exitcode(stat.exit_code), stat.is_dead)
        assert procfs.is_same_process(child.pid, stat.start_time_ticks)
    finally:
        child.wait()
        os.close(pidfd)
    assert not procfs.is_same_process(child.pid, stat.start_time_ticks)


def test_other_start_time_is_another_process_when_pid_is_reused() -> None:
    """The pid alone does not identify."""
    start = procfs.read_stat("self").start_time_ticks
    assert procfs.is_same_process(os.getpid(), start)
    assert not procfs.is_same_process(os.getpid(), start + 1)


def test_status_is_a_mapping_when_parsed() -> None:
    """Keys map to stripped values; lines without a colon are not fields."""
    assert {"Name": "a\\nCapEff: 1", "Uid": "0\t1"} == procfs.parse_status("Name:\ta\\nCapEff: 1\nUid:\t0\t1\njunk\n")


def test_capabilities_are_masks_when_read(tmp_path: Path) -> None:
    """The five sets are numbers; what the kernel does not print is empty."""
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "status").write_text("CapInh:\t01\nCapPrm:\tff\nCapEff:\t0f\nCapBnd:\t000001ffffffffff\n")
    caps = procfs.read_capabilities(9, proc=str(tmp_path))
    assert (1, 0xFF, 0xF, 0x1FFFFFFFFFF, 0) == (
        caps.inheritable,
        caps.permitted,
        caps.effective,
        caps.bounding,
        caps.ambient,
    )


def test_wchan_is_empty_when_process_runs(tmp_path: Path) -> None:
    """The kernel prints 0 for "nowhere" and for "not for you"."""
    (tmp_path / "9").mkdir()
    wchan = tmp_path / "9" / "wchan"
    wchan.write_text("0")
    assert "" == procfs.read_wchan(9, proc=str(tmp_path))
    wchan.write_text("do_wait")
    assert "do_wait" == procfs.read_wchan(9, proc=str(tmp_path))


def test_boot_id_is_a_uuid_when_read() -> None:
    """It is the same at every reading, and has a UUID's length."""
    assert procfs.read_boot_id() == procfs.read_boot_id()
    assert 36 == len(procfs.read_boot_id())


def test_pidfd_inode_is_unique_when_kernel_has_pidfs() -> None:
    """Two pidfds of one process agree; those of two differ, unless the kernel has no such inodes (then 0)."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        ours, again, other = (procfs.pid_inode(pid) for pid in (os.getpid(), os.getpid(), child.pid))
    assert ours == again
    assert (ours == 0) == (other == 0)
    assert ours == 0 or ours != other


def test_pidfd_inode_is_zero_when_fd_is_an_anonymous_file() -> None:
    """An fd on the shared anonymous inode identifies nothing."""
    fd = os.eventfd(0)
    try:
        assert 0 == procfs.pidfd_inode(fd)
    finally:
        os.close(fd)


def test_namespaces_are_device_and_inode_when_read() -> None:
    """The ids are those that stat(2) gives."""
    info = os.stat("/proc/self/ns/mnt")
    assert (info.st_dev, info.st_ino) == procfs.read_namespace_ids()["mnt"]


def test_absent_kinds_are_left_out_when_kernel_lacks_them(tmp_path: Path) -> None:
    """A kernel without time namespaces is no error; a process without any is gone."""
    (tmp_path / "9" / "ns").mkdir(parents=True)
    (tmp_path / "9" / "ns" / "uts").touch()
    assert ["uts"] == list(procfs.read_namespace_ids(9, proc=str(tmp_path)))
    with pytest.raises(ProcessLookupError):
        procfs.read_namespace_ids(8, proc=str(tmp_path))
