"""``ps``: which lines of ps(1) are the container's, and the table without it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from corral.errors import FailedPrecondition, InvalidArgument
from corral.runtime.commands import ps
from corral.runtime.commands.ps import own_table, select_lines
from unit.runtime.commands.command_lines import GROUP, Run, make_container
from unit.runtime.test_record import live_as

EF = """UID        PID  PPID  C STIME TTY          TIME CMD
root         1     0  0 10:00 ?        00:00:00 init
root        17     1  0 10:00 ?        00:00:00 sleep 17

user        18     1  0 10:00 ?        00:00:00 sh -c 17 1
"""


def test_lines_are_selected_by_the_pid_column() -> None:
    """Numbers elsewhere do not count; the header stays."""
    assert [0, 2] == [EF.splitlines().index(line) for line in select_lines(EF, [17]).splitlines()]
    assert EF.splitlines()[:1] == select_lines(EF, []).splitlines()


def test_pid_column_may_stand_anywhere() -> None:
    """``ps -o comm,pid``."""
    assert "CMD PID\nb 2\n" == select_lines("CMD PID\na 1\nb 2\n", [2])


def test_output_without_pids_is_refused_in_runcs_words() -> None:
    """Nothing could be selected."""
    with pytest.raises(InvalidArgument, match="couldn't find PID field"):
        select_lines("CMD\nx\n", [1])


@pytest.mark.parametrize("text", ["PID CMD\nx y\n", "CMD PID\nx\n"])
def test_line_without_a_pid_is_refused(text: str) -> None:
    """It is not dropped in silence."""
    with pytest.raises(FailedPrecondition, match="no pid in column"):
        select_lines(text, [1])


def test_own_table_agrees_with_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, pid, parent, terminal and command of a real process."""
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # An answer means that its exec is over, and its command line is there.
        child.stdin.write(b"x")
        child.stdin.flush()
        child.stdout.read(1)
        header, row = own_table([child.pid, 4_000_000]).splitlines()
    cells = row.split()

    assert ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"] == header.split()
    assert [str(child.pid), str(os.getpid()), "0"] == cells[1:4]
    assert ["00:00:00", "cat", "-"] == cells[-3:]


def fake_proc(folder: Path, *, tty: int = 0, cmdline: bytes = b"", uid: int = 4_000_000_000) -> str:
    """A /proc with the process 5, started ten seconds ago, that has used 3725 s."""
    (folder / "5").mkdir()
    (folder / "uptime").write_text("100.00 0.00\n")
    ticks = os.sysconf("SC_CLK_TCK")
    fields = ["S", "1", "5", "5", str(tty), "-1", *["0"] * 5, str(3725 * ticks), "0", *["0"] * 6, str(90 * ticks)]
    (folder / "5" / "stat").write_text(f"5 (a (b) c) {' '.join(fields)} {' '.join(['0'] * 30)}\n")
    (folder / "5" / "status").write_text(f"Name:\ta\nUid:\t{uid}\t0\t0\t0\n")
    (folder / "5" / "cmdline").write_bytes(cmdline)
    return str(folder)


@pytest.mark.parametrize(
    ("tty", "name"), [(0, "?"), (136 << 8 | 3, "pts/3"), (4 << 8 | 1, "tty1"), (4 << 8 | 65, "ttyS1"), (9 << 8, "?")]
)
def test_own_table_names_terminals(tmp_path: Path, tty: int, name: str) -> None:
    """As ps does."""
    assert name == own_table([5], proc=fake_proc(tmp_path, tty=tty)).splitlines()[1].split()[5]


def test_own_table_shows_what_there_is(tmp_path: Path) -> None:
    """A uid without a name, hours of CPU time, a process without arguments, and no control characters."""
    row = own_table([5], proc=fake_proc(tmp_path)).splitlines()[1].split()
    assert ("4000000000", "99", "01:02:05", "[a (b) c]") == (row[0], row[3], row[6], " ".join(row[7:]))
    (tmp_path / "5" / "cmdline").write_bytes(b"evil\x1b[31m\0arg\0")
    assert own_table([5], proc=str(tmp_path)).endswith("evil?[31m arg\n")


def test_stopped_container_has_no_processes(run: Run, root: Path) -> None:
    """Its group may be gone already; that is no error, as with runc."""
    make_container(root, cgroups=[GROUP])

    assert (0, "null\n", "") == run("ps", "--format", "json", "c1")
    assert 1 == len(run("ps", "c1")[1].splitlines())


def test_container_without_a_group_is_told_with_its_own_exit_code(run: Run, root: Path) -> None:
    """S2.11: no cgroup, the reason, and 3."""
    make_container(root, cgroups=[{**GROUP, "fate": "absent", "reason": "read-only file system"}])
    code, out, err = run("ps", "c1")

    assert (3, "") == (code, out)
    assert err.startswith("container 'c1' has no cgroup (cgroup2: read-only file system)\n")


def test_living_container_whose_group_was_removed_is_told(run: Run, root: Path) -> None:
    """No list is better than a wrong one."""
    live_as(make_container(root, cgroups=[GROUP]), os.getpid())
    code, _, err = run("ps", "c1")

    assert (3, True) == (code, "has no cgroup (it was removed)" in err)


def test_disabled_manager_is_named_as_the_reason(run: Run, root: Path) -> None:
    """The absence was recorded at create."""
    make_container(root, cgroupAbsences=["the cgroup manager is disabled"])
    for command in (["ps"], ["events", "--stats"]):
        code, _, err = run(*command, "c1")
        assert "has no cgroup (the cgroup manager is disabled)" in err or "not running" in err
        assert code in (1, 3)


def test_missing_ps_is_replaced_or_told(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default table needs no ps; its options do."""

    def no_ps(words: object) -> str:
        raise FileNotFoundError(2, "No such file or directory", "ps")

    monkeypatch.setattr(ps, "_run_ps", no_ps)
    make_container(root, cgroups=[GROUP])

    assert (0, "UID          PID    PPID  C STIME TTY          TIME CMD\n", "") == run("ps", "c1")
    code, _, err = run("ps", "c1", "-o", "pid")
    assert (1, "run ps -o pid: ps is not installed\nhint: leave the options out, or install procps\n") == (code, err)


def test_options_that_ps_refuses_are_told(run: Run, root: Path) -> None:
    """With ps's own words."""
    make_container(root, cgroups=[GROUP])
    code, _, err = run("ps", "c1", "--no-such-option")

    assert (1, True) == (code, err.startswith("run ps --no-such-option: "))


def test_odd_format_is_refused(run: Run, root: Path) -> None:
    """In runc's words."""
    make_container(root)
    assert "ps: invalid format option 'xml'" in run("ps", "-f", "xml", "c1")[2]
    assert "container 'c2': container does not exist" in run("ps", "c2")[2]
