"""``events``: durations, samples, and OOM kills counted by the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corral.cgroup.group import Group
from corral.cgroup.member import Member
from corral.errors import FailedPrecondition, InvalidArgument
from corral.runtime.commands.events import Stream, parse_duration, read_oom_kills
from unit.runtime.commands.command_lines import GROUP, Run, make_container
from unit.runtime.test_record import live_as


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("0", 0), ("-1s", -1), ("10us", 1e-5), ("7ns", 7e-9)],
)
def test_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    """Numbers with units, in a row."""
    assert seconds == pytest.approx(parse_duration(text))


@pytest.mark.parametrize("text", ["5", "s", "", "5x", "1s2", "1..5s", "1m s"])
def test_odd_duration_is_refused(text: str) -> None:
    """With the flag and the text."""
    with pytest.raises(InvalidArgument) as caught:
        parse_duration(text)

    assert f"events: flag --interval: {text!r} is not a duration" == caught.value.message


@contextmanager
def group_of(folder: Path, version: int, **files: str) -> Iterator[Group]:
    """A group of plain files."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    member = Member(version, ("memory", "pids"), "/cg", "/c1")
    with Group([(member, os.open(folder, os.O_RDONLY))]) as group:
        yield group


@pytest.mark.parametrize(
    ("version", "files", "kills"),
    [
        (2, {"memory__events": "low 0\noom 3\noom_kill 2\n"}, 2),
        (1, {"memory__oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}, 4),
        (1, {"memory__oom_control": "oom_kill_disable 0\n"}, 0),
        (2, {}, 0),
    ],
)
def test_kills_are_counted_by_the_kernel(tmp_path: Path, version: int, files: dict[str, str], kills: int) -> None:
    """v1 and v2 name the counter alike; where there is none, none is invented."""
    with group_of(tmp_path, version, **files) as group:
        assert kills == read_oom_kills(group)


def record_of(pid: int) -> Any:
    """What a stream needs of a record."""
    return SimpleNamespace(container_id="c1", pid=pid)


def test_kill_shows_once_and_the_end_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two kills between two looks are one event; the container's end is the stream's."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with group_of(tmp_path, 2, memory__events="oom_kill 1\n") as group:
        stream = Stream(record_of(child.pid), group)
        (tmp_path / "memory.events").write_text("oom_kill 3\n")
        child.communicate()
        stream.follow(3600.0)
        stream.close()

    assert [{"type": "oom", "id": "c1"}] == [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_samples_come_at_the_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until the end, one JSON document a line."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    lines: list[str] = []
    with group_of(tmp_path, 2, memory__events="oom_kill 0\n", pids__current="3\n") as group:
        stream = Stream(record_of(child.pid), group)
        thread = threading.Thread(target=stream.follow, args=(0.001,))
        thread.start()
        while len(lines) < 2:
            thread.join(0.005)
            assert thread.is_alive()
            lines += capsys.readouterr().out.splitlines()
        child.communicate()
        thread.join()
        stream.close()

    assert ("stats", "c1", 3) == (
        json.loads(lines[0])["type"],
        json.loads(lines[0])["id"],
        json.loads(lines[0])["data"]["pids"]["current"],
    )


def test_process_that_is_gone_has_no_events(tmp_path: Path) -> None:
    """Between the look at the record and the pidfd."""
    with group_of(tmp_path, 2) as group, pytest.raises(FailedPrecondition, match="container not running"):
        Stream(record_of(4_000_000), group)


@pytest.mark.parametrize("interval", ["0s", "-5s"])
def test_interval_must_be_positive(run: Run, root: Path, interval: str) -> None:
    """runc's words."""
    make_container(root)
    code, _, err = run("events", f"--interval={interval}", "c1")

    assert (1, True) == (code, "duration interval must be greater than 0" in err)


def test_stopped_container_is_refused_in_runcs_words(run: Run, root: Path) -> None:
    """Callers match on them."""
    make_container(root)
    code, _, err = run("events", "--stats", "c1")

    assert (1, True) == (code, "container with id c1 is not running" in err)


def test_container_without_a_group_is_told_with_its_own_exit_code(run: Run, root: Path) -> None:
    """S2.11."""
    live_as(make_container(root, cgroups=[{**GROUP, "fate": "absent", "reason": "read-only file system"}]), os.getpid())

    assert 3 == run("events", "--stats", "c1")[0]
