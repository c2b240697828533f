"""The test aids themselves: a leak check that finds nothing, or a probe that never fails, proves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

import probes
from callers.children import Children
from leaks import MARK_VARIABLE, find_leaks, new_mark, take_snapshot


def test_leak_check_is_silent_when_all_was_put_back() -> None:
    """What was opened and closed again is no leak."""
    before = take_snapshot(new_mark())
    os.close(os.open("/", os.O_PATH))
    subprocess.run(["true"], check=True)
    assert find_leaks(before) == []


def test_leak_check_finds_a_descriptor() -> None:
    """A descriptor that stays open is named with what it leads to."""
    before = take_snapshot(new_mark())
    fd = os.open("/usr", os.O_PATH)
    found = find_leaks(before)
    os.close(fd)
    assert found == [f"descriptor {fd} -> /usr"]


def test_leak_check_finds_a_child_that_nobody_waited_for() -> None:
    """A zombie is a leak too."""
    before = take_snapshot(new_mark())
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = find_leaks(before)
    os.waitpid(pid, 0)
    assert found == [f"child process {pid} true"]


def test_leak_check_finds_processes_by_their_mark() -> None:
    """A process that inherited the mark counts, wherever it hangs in the tree."""
    mark = new_mark()
    before = take_snapshot(mark)
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK_VARIABLE: mark})
    found = find_leaks(before)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert f"process {process.pid} sleep" in found


def test_leak_check_finds_state_by_its_name() -> None:
    """A file in /tmp, /run or /dev/shm whose name begins with the mark counts."""
    mark = new_mark()
    before = take_snapshot(mark)
    path = Path(tempfile.mkdtemp(prefix=mark, dir="/tmp"))
    found = find_leaks(before)
    path.rmdir()
    assert found == [f"state {path}"]


def test_missing_names_only_what_a_probe_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    """`missing` keeps the order and gives the probe's reason."""
    monkeypatch.setitem(probes.PROBES, "there", lambda: "")
    monkeypatch.setitem(probes.PROBES, "absent", lambda: "it is not there")
    assert probes.missing(["there", "absent"]) == [("absent", "it is not there")]


def test_a_name_outside_the_table_is_a_mistake_in_the_test() -> None:
    """A misspelt requirement never skips a test."""
    with pytest.raises(KeyError):
        probes.missing(["cgruop-v1"])


def test_reaper_leaves_what_another_started() -> None:
    """Two folders have a reaper each; the exit code of what one starts is not lost to the other's."""
    starter, other = Children(), Children()
    try:
        process = starter.start(["sh", "-c", "exit 7"], os.environ)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        other.reap_orphans()
        assert process.wait() == 7
    finally:
        starter.close()
        other.close()
