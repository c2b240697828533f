"""``import corral``: the verbs as an asyncio program uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import corral
from corral.errors import FailedPrecondition, NotFound, Timeout
from root.engine.conftest import Engine

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def program(engine: Engine) -> Callable[[Callable[[corral.Engine], Coroutine[Any, Any, Any]]], Any]:
    """Run a coroutine that gets an engine."""

    def run(main: Callable[[corral.Engine], Coroutine[Any, Any, Any]]) -> Any:
        async def go() -> Any:
            async with corral.Engine(engine.places.store) as made, asyncio.timeout(100):
                return await main(made)

        return asyncio.run(go())

    return run


async def first(items: AsyncIterator[Any]) -> Any:
    async for item in items:
        return item
    return None


def test_run_and_wait_give_the_code(program: Any) -> None:
    """The example of the README."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["sh", "-c", "exit 7"])
        return (await container.wait()).code

    assert program(main) == 7


def test_streams_are_the_programs(program: Any) -> None:
    """What is sent is read, what it writes comes back, stream by stream."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.create("host", ["sh", "-c", "cat; echo err >&2"], interactive=True)
        streams = await container.start(stdin=True, stdout=True, stderr=True)
        found = await streams.communicate(b"hello\n" * 20000)
        return found, (await container.wait()).code

    (out, err), code = program(main)
    assert (out, err, code) == (b"hello\n" * 20000, b"err\n", 0)


def test_exec_returns_output_and_code(program: Any) -> None:
    """One more process, with streams of its own."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["sleep", "1000"])
        begun = await container.exec(["sh", "-c", "cat; exit 5"], stdin=True)
        out, err, end = await begun.communicate(b"in")
        return out, err, end.code

    assert program(main) == (b"in", b"", 5)


def test_exec_is_ended_when_its_time_is_over(program: Any) -> None:
    """It, and what it left."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["sleep", "1000"])
        begun = await container.exec(["sh", "-c", "sleep 4444 & sleep 4444"], stdout=False, stderr=False)
        with pytest.raises(Timeout):
            await begun.wait(0.5)
        return [row["command"] for row in await container.top()]

    assert program(main) == ["sleep 1000"]


def test_events_are_heard_by_who_listens(program: Any) -> None:
    """From the number that was seen last, each once."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["true"])
        await container.wait()
        found = []
        async for event in container.events(after=0):
            found.append(event["action"])
            if event["action"] == "died":
                return found
        return []

    assert program(main) == ["create", "start", "died"]


def test_an_oom_kill_is_an_event(program: Any) -> None:
    """And the end says it."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["python3", "-c", "bytearray(200 << 20)"], memory="32m", memory_swap="32m")
        event = await first(container.events(after=0, actions=["oom"]))
        end = await container.wait()
        return event["attributes"]["kills"], end.is_oom_killed

    assert program(main) == (1, True)


def test_logs_and_stats_are_iterated(program: Any) -> None:
    """As they come."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["sh", "-c", "echo a; echo b; sleep 1000"])
        found = []
        async for entry in container.logs(follow=True):
            found.append(entry.data)
            if len(found) == 2:
                break
        sample = await first(container.stats())
        end = await container.stop(0)
        return found, sample["pids"] >= 1, end.signal

    assert program(main) == ([b"a", b"b"], True, "SIGKILL")


def test_many_at_once_do_not_disturb_each_other(program: Any) -> None:
    """Ten containers, each with its own code."""

    async def main(engine: corral.Engine) -> Any:
        async def one(code: int) -> int | None:
            container = await engine.run("host", ["sh", "-c", f"exit {code}"])
            return (await container.wait()).code

        codes = await asyncio.gather(*(one(code) for code in range(10)))
        for container in await engine.containers(is_all=True):
            await container.remove()
        return codes, await engine.containers(is_all=True)

    assert program(main) == (list(range(10)), [])


def test_a_life_from_a_program(program: Any) -> None:
    """pause, unpause, rename, update, restart, inspect, remove."""

    async def main(engine: corral.Engine) -> Any:
        container = await engine.run("host", ["sleep", "1000"], name="one")
        await container.pause()
        seen = [await container.status()]
        await container.unpause()
        await container.rename("two")
        await container.update(resources={"pids": 33})
        await container.restart(0)
        seen.append(await (await engine.get("two")).status())
        seen.append(str((await container.inspect())["state"]["run"]))
        await container.remove(force=True)
        with pytest.raises(NotFound):
            await engine.get("two")
        return seen

    assert program(main) == ["paused", "running", "2"]


def test_a_start_that_is_refused_raises(program: Any) -> None:
    """With the runtime's words; nothing stays connected."""

    async def main(engine: corral.Engine) -> None:
        container = await engine.create("host", ["/no/such/program"])
        with pytest.raises(FailedPrecondition, match="/no/such/program"):
            await container.start(stdout=True)
        await container.remove()

    program(main)
