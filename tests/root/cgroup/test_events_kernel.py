"""corral.cgroup.events and oom against the kernel of this host."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cgroup.binding import effective
from corral.cgroup.events import EventWatch, PressureTrigger, iterate_events
from corral.cgroup.group import open_group
from corral.cgroup.layout import Layout
from corral.cgroup.member import Member
from corral.cgroup.oom import OomCounters, attribute_oom
from root.cgroup.conftest import Spawn

pytestmark = pytest.mark.requires("root")

# Touches more memory than the limit allows, byte by byte of each page.
HOG = ("python3", "-c", "b = bytearray(64 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1")
LIMIT = 16 << 20


def is_ready(fd: int, timeout_s: float) -> bool:
    """Whether ``fd`` becomes readable within ``timeout_s``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def limit_memory(layout: Layout, member: Member, below: str = "") -> None:
    """16 MiB, and on v2 no swap, for the test's group or one below it."""
    directory = Path(member.directory + below)
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (directory / name).exists():
            (directory / name).write_text(str(LIMIT))
    if (directory / "memory.swap.max").exists():
        (directory / "memory.swap.max").write_text("0")


@pytest.fixture
def memory(layout: Layout, members: list[Member], enable: Callable[[dict[int, list[str]]], None]) -> Member:
    """The test's group in the hierarchy of the memory controller."""
    hierarchy = layout.hierarchy_for("memory")
    if hierarchy is None:
        pytest.skip("this host has no memory controller")
    if hierarchy.version == 1 and len(Path("/proc/swaps").read_text().splitlines()) > 1:
        pytest.skip("on v1 a host with swap lets the test's process live")
    enable({hierarchy.index: ["memory"]})
    return next(member for member in members if "memory" in member.controllers)


@pytest.mark.requires("cgroup-v2")
def test_processes_that_come_and_go_are_notified(members: list[Member], spawn: Spawn) -> None:
    """cgroup.events: populated rises with the first process and falls with the last."""
    with open_group(members) as group, EventWatch(group, [("", "cgroup.events")]) as watch:
        process = spawn("sleep", "60")
        assert is_ready(watch.fileno(), 30)
        seen = [(event.name, event.now) for event in watch.read_events()]
        process.kill()
        process.wait()
        assert is_ready(watch.fileno(), 30)
        seen += [(event.name, event.now) for event in watch.read_events()]
    assert seen == [("populated", 1), ("populated", 0)]


@pytest.mark.requires("cgroup-v2")
def test_async_iterator_tells_of_the_last_process(members: list[Member], spawn: Spawn) -> None:
    """The example of the module's docstring, with asyncio."""
    with open_group(members) as group, EventWatch(group, [("", "cgroup.events")]) as watch:
        process = spawn("sleep", "60")
        watch.read_events()

        async def wait_readable(fd: int) -> None:
            loop, ready = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)

        async def first_event() -> tuple[str, int]:
            process.kill()
            async for event in iterate_events(watch, wait_readable):
                return (event.name, event.now)
            raise AssertionError("the iterator ended")

        assert asyncio.run(asyncio.wait_for(first_event(), 30)) == ("populated", 0)


@pytest.mark.requires("cgroup-v2")
def test_pressure_above_the_threshold_is_notified(members: list[Member], spawn: Spawn) -> None:
    """Two processes on one CPU stall each other; the window is one that needs no privilege."""
    with open_group(members) as group:
        if group.read_or_none("", "cpu.pressure") is None:
            pytest.skip("this kernel has no PSI")
        with PressureTrigger(group, "cpu", stall_us=1000, window_us=2_000_000) as trigger:
            for _ in range(2):
                spawn("taskset", "-c", "0", "sh", "-c", "while :; do :; done")
            assert is_ready(trigger.fileno(), 60)
            (event,) = trigger.read_events()
    assert event.name == "some"
    assert event.pressure is not None
    assert event.pressure.total_us >= 1000


def test_s4_9_oom_kill_is_notified_and_attributed_to_the_own_limit(
    layout: Layout, memory: Member, members: list[Member], spawn: Spawn
) -> None:
    """The process dies, the counters say by whose limit."""
    limit_memory(layout, memory)
    with open_group(members) as group, EventWatch(group) as watch, OomCounters(memory) as counters:
        before = counters.sample()
        process = spawn(*HOG)
        assert process.wait(60) == -9
        assert is_ready(watch.fileno(), 30)
        assert "oom_kill" in [event.name for event in watch.read_events()]
        verdict = attribute_oom(before, counters.sample())
    assert (verdict.kills, verdict.whose, verdict.limit_of) == (1, "own", memory.directory)


def test_s4_9_oom_kill_by_the_limit_of_a_group_above_names_it(layout: Layout, memory: Member, spawn: Spawn) -> None:
    """The child has no limit; its parent's is told."""
    limit_memory(layout, memory)
    if memory.version == 2:
        Path(memory.directory, "cgroup.subtree_control").write_text("+memory")
    Path(memory.directory, "child").mkdir()
    child = Member(memory.version, memory.controllers, memory.mount_point, f"{memory.path}/child")
    with OomCounters(child) as counters:
        before = counters.sample()
        process = spawn(*HOG, below="/child")
        assert process.wait(60) == -9
        verdict = attribute_oom(before, counters.sample())
    assert (verdict.kills, verdict.whose, verdict.limit_of) == (1, "ancestor", memory.directory)


def test_effective_limit_of_a_child_is_the_parents(layout: Layout, memory: Member) -> None:
    """What the kernel will enforce, and whose it is."""
    limit_memory(layout, memory)
    Path(memory.directory, "child").mkdir()
    child = Member(memory.version, memory.controllers, memory.mount_point, f"{memory.path}/child")
    with open_group([child]) as group:
        found = {limit.name: limit for limit in effective(group)}["memory.max"]
    assert (found.effective, found.bound_by, found.is_own) == (str(LIMIT), memory.directory, False)
