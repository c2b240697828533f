"""Rules of corral.cgroup.events that need no kernel; the notifications themselves are tested on real groups."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup import events
from corral.cgroup.events import GONE, EventWatch, GroupEvent, PressureTrigger, iterate_events
from corral.cgroup.group import Group, open_group
from corral.cgroup.member import Member
from corral.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unsupported


class FakeEpoll:
    """epoll takes no regular files; this one takes all, and says what the test wants."""

    def __init__(self, flags: int = 0) -> None:
        self.ready: list[tuple[int, int]] = []
        self.fd = os.eventfd(0)

    def register(self, fd: int, mask: int) -> None:
        self.mask = mask

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return self.ready

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A v2 group."""
    path = tmp_path / "a"
    path.mkdir()
    (path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\n")
    pressure = "some avg10=1.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
    (path / "io.pressure").write_text(pressure)
    return path


@pytest.fixture
def group(directory: Path) -> Iterator[Group]:
    """The group, open."""
    with open_group([Member(2, ("memory", "pids"), str(directory.parent), "/a")]) as opened:
        yield opened


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain files may be watched."""
    monkeypatch.setattr(select, "epoll", FakeEpoll)


@pytest.mark.usefixtures("fake")
def test_events_are_the_differences_since_the_last_read(group: Group, directory: Path) -> None:
    """Several changes that fall together are all told, each once."""
    with EventWatch(group) as watch:
        assert watch.read_events() == []
        (directory / "cgroup.events").write_text("populated 0\nfrozen 0\n")
        (directory / "memory.events").write_text("low 0\nhigh 2\nmax 3\noom 1\noom_kill 1\n")
        found = watch.read_events()
        assert watch.read_events() == []
        assert watch.fileno() >= 0
    assert found == [
        GroupEvent("cgroup.events", "populated", 1, 0),
        GroupEvent("memory.events", "high", 0, 2),
        GroupEvent("memory.events", "oom", 0, 1),
        GroupEvent("memory.events", "oom_kill", 0, 1),
    ]
    assert repr(found[1]) == "GroupEvent(memory.events high: 0 -> 2)"


@pytest.mark.usefixtures("fake")
def test_removed_group_is_told_once(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENODEV is how the kernel says it."""
    with EventWatch(group) as watch:

        def gone(fd: int) -> dict[str, int]:
            raise OSError(19, "No such device")

        monkeypatch.setattr(events, "_pairs", gone)
        assert watch.read_events() == [GroupEvent("", GONE, 0, 1)]
        assert (watch.is_gone, watch.read_events()) == (True, [])


@pytest.mark.usefixtures("fake")
def test_other_errors_of_a_read_are_told(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken for an end that is none."""
    with EventWatch(group) as watch:

        def refused(fd: int) -> dict[str, int]:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(events, "_pairs", refused)
        with pytest.raises(PermissionDenied, match="read"):
            watch.read_events()


@pytest.mark.usefixtures("fake")
def test_v1_memory_is_watched_through_an_eventfd(tmp_path: Path) -> None:
    """The pair (eventfd, file) is registered with the group."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    (tmp_path / "m/cgroup.event_control").write_text("")
    with open_group([Member(1, ("memory",), str(tmp_path), "/m")]) as group, EventWatch(group) as watch:
        numbers = (tmp_path / "m/cgroup.event_control").read_text().split()
        os.eventfd_write(int(numbers[0]), 1)
        (tmp_path / "m/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        assert watch.read_events() == [GroupEvent("memory.oom_control", "oom_kill", 0, 1)]


@pytest.mark.usefixtures("fake")
def test_v1_without_event_control_still_tells_differences(tmp_path: Path) -> None:
    """Kernels may be built without it: then a caller has to look now and then."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m/memory.oom_control").write_text("oom_kill 0\n")
    with open_group([Member(1, ("memory",), str(tmp_path), "/m")]) as group, EventWatch(group) as watch:
        assert watch.read_events() == []


def test_group_without_event_files_is_an_error(tmp_path: Path) -> None:
    """A v1 group without the memory controller has nothing to tell."""
    (tmp_path / "m").mkdir()
    with (
        open_group([Member(1, ("cpu",), str(tmp_path), "/m")]) as group,
        pytest.raises(Unsupported, match="no file that notifies"),
    ):
        EventWatch(group)


def test_files_that_cannot_notify_are_an_error(group: Group) -> None:
    """Plain files: the watch says so at once, and leaves nothing open."""
    with pytest.raises(PermissionDenied, match="watch group"):
        EventWatch(group)


@pytest.mark.parametrize(
    ("stall_us", "window_us"), [(1, 499_999), (1, 10_000_001), (0, 1_000_000), (1_000_001, 1_000_000)]
)
def test_threshold_out_of_the_kernels_range_is_refused(group: Group, stall_us: int, window_us: int) -> None:
    """psi.rst: windows of 0.5 to 10 s."""
    with pytest.raises(InvalidArgument, match="watch io pressure"):
        PressureTrigger(group, "io", stall_us=stall_us, window_us=window_us)


def test_kind_of_pressure_is_some_or_full(group: Group) -> None:
    """There is nothing between."""
    with pytest.raises(InvalidArgument, match="'much'"):
        PressureTrigger(group, "io", kind="much", stall_us=1, window_us=1_000_000)


def test_group_without_pressure_files_is_an_error(group: Group) -> None:
    """PSI may be off, or the group v1's."""
    with pytest.raises(NotFound, match=r"no cpu\.pressure"):
        PressureTrigger(group, "cpu", stall_us=1, window_us=1_000_000)


def test_trigger_that_the_kernel_refuses_tells_of_the_privilege(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_RESOURCE windows come in steps of two seconds."""

    def refused(fd: int, data: bytes) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "write", refused)
    with pytest.raises(FailedPrecondition, match=r"io\.pressure") as caught:
        PressureTrigger(group, "io", stall_us=1, window_us=1_000_000)
    assert "CAP_SYS_RESOURCE" in caught.value.hint


@pytest.mark.usefixtures("fake")
def test_trigger_tells_the_pressure_of_now(group: Group, directory: Path) -> None:
    """The trigger is written to the file; an event has the line of its kind, and what it was before."""
    text = (directory / "io.pressure").read_text()
    with PressureTrigger(group, "io", kind="full", stall_us=150_000, window_us=2_000_000) as trigger:
        assert (directory / "io.pressure").read_text().startswith("full 150000 2000000\0")
        (directory / "io.pressure").write_text(text)
        trigger.read_events()
        (directory / "io.pressure").write_text(text.replace("total=5", "total=9"))
        (event,) = trigger.read_events()
        assert (event, trigger.read_events()) == (GroupEvent("io.pressure", "full", 5, 9), [])
        assert event.pressure is not None
        assert trigger.fileno() >= 0


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(("number", "is_end"), [(19, True), (95, True), (1, False)])
def test_trigger_of_a_removed_group_ends(
    group: Group, monkeypatch: pytest.MonkeyPatch, number: int, is_end: bool
) -> None:
    """ENODEV, or EOPNOTSUPP where PSI was switched off; anything else is an error."""
    with PressureTrigger(group, "io", stall_us=150_000, window_us=2_000_000) as trigger:

        def refuse(fd: int, size: int, offset: int) -> bytes:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pread", refuse)
        if is_end:
            assert trigger.read_events() == [GroupEvent("", GONE, 0, 1)]
            assert (trigger.read_events(), trigger.is_gone) == ([], True)
        else:
            with pytest.raises(PermissionDenied, match=r"io\.pressure"):
                trigger.read_events()


class Script:
    """A watch that plays a script."""

    def __init__(self, *turns: list[GroupEvent]) -> None:
        self.turns = list(turns)
        self.is_gone = False

    def fileno(self) -> int:
        return 7

    def read_events(self) -> list[GroupEvent]:
        found = self.turns.pop(0)
        self.is_gone = any(event.name == GONE for event in found)
        return found


def test_iterate_tells_events_until_the_group_is_gone() -> None:
    """A turn without events is no end; the caller's loop does the waiting."""
    first, last = GroupEvent("memory.events", "high", 0, 1), GroupEvent("", GONE, 0, 1)
    waited: list[int] = []

    async def wait_readable(fd: int) -> None:
        waited.append(fd)

    async def collect() -> list[GroupEvent]:
        return [event async for event in iterate_events(Script([first], [], [last]), wait_readable)]

    assert asyncio.run(collect()) == [first, last]
    assert waited == [7, 7, 7]
