"""GET: what there is, by path, and what flows: events, logs, stats."""

from __future__ import annotations

import asyncio

from corral.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from corral.engine.library import Engine
    from corral.serve.connection import Connection, Request

__all__ = ["read"]


async def read(engine: Engine, request: Request, connection: Connection) -> None:
    """Answer a GET below /v1. Raises: NotFound, InvalidArgument and what the verbs raise."""
    words = request.path.strip("/").split("/")
    if words == ["v1", "containers"]:
        filters = [request.query["filter"]] if request.query.get("filter") else []
        await connection.send_json(await engine.verb("ps", is_all=request.flag("all"), filters=filters))
    elif words == ["v1", "info"]:
        await connection.send_json(await engine.info())
    elif words == ["v1", "events"]:
        await _events(engine, request, connection)
    elif words == ["v1", "stats"]:
        await _stats(engine, request, connection)
    elif len(words) >= 3 and words[:2] == ["v1", "containers"]:
        await _container(engine, words[2], words[3:], request, connection)
    else:
        raise NotFound(f"GET {request.path}: there is nothing", hint="/openapi.json lists what there is")


async def _container(engine: Engine, reference: str, rest: list[str], request: Request, connection: Connection) -> None:
    if not rest:
        options = {"effective": request.flag("effective"), "size": request.flag("size")}
        await connection.send_json(await engine.verb("inspect", reference, **options))
        return
    container = await engine.get(reference)
    if rest == ["logs"]:
        tail, since = request.number("tail"), request.number("since_ns", 0)
        entries = container.logs(
            follow=request.flag("follow"), since_ns=int(since or 0), tail=None if tail is None else int(tail)
        )
        await connection.send_lines(_as_json(entries))
    elif rest == ["wait"]:
        end = await connection.while_there(container.wait(request.number("timeout_s")))
        await connection.send_json({"id": container.id, "exit": end.raw})
    else:
        raise NotFound(f"GET {request.path}: there is nothing", hint="/openapi.json lists what there is")


async def _as_json(entries: AsyncIterator[Any]) -> AsyncIterator[dict[str, Any]]:
    async for entry in entries:
        yield {
            "time_ns": entry.time_ns,
            "stream": entry.stream,
            # What is no UTF-8 arrives as replacement characters: JSON has no bytes.
            "text": entry.data.decode("utf-8", "replace"),
            "partial": entry.is_partial,
        }


async def _events(engine: Engine, request: Request, connection: Connection) -> None:
    filters = [request.query["filter"]] if request.query.get("filter") else []
    after = request.number("after")
    if request.flag("follow"):
        await connection.send_lines(engine.events(after=None if after is None else int(after), filters=filters))
    else:
        await connection.send_json(await engine.verb("events", after=int(after or 0), filters=filters))


async def _stats(engine: Engine, request: Request, connection: Connection) -> None:
    if not request.flag("follow"):
        await connection.send_json(await engine.stats())
        return
    interval = max(0.1, request.number("interval_s", 1.0) or 1.0)
    await connection.send_lines(_samples(engine, interval))


async def _samples(engine: Engine, interval_s: float) -> AsyncIterator[list[dict[str, Any]]]:
    from corral.engine.stats import add_rates

    before: dict[str, dict[str, Any]] = {}
    while True:
        now = {sample["id"]: sample for sample in await engine.stats()}
        yield [add_rates(sample, before.get(key)) for key, sample in now.items()]
        before = now
        await asyncio.sleep(interval_s)
