"""Clients of the service, and of the library, that wait: none of them takes anything away from the others."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

import corral
from root.engine.conftest import DEADLINE_S, Engine, eventually
from root.serve.conftest import Client, Service

pytestmark = pytest.mark.requires("root")

# More than the service, and the library, have threads for what is quickly done.
MANY = 40
_CONNECTED = "03"
WAITS = "until [ -p /tmp/go ]; do sleep 0.05; done; read x < /tmp/go; echo gone"


def _sleeper(engine: Engine) -> str:
    return engine.run("sleep", "1000")


def _ask(service: Service, method: str, path: str, body: dict[str, Any] | None = None) -> Client:
    """A request whose answer is not read."""
    client = service.client()
    client.request(method, path, json.dumps(body) if body is not None else None)
    return client


def _connections(service: Service) -> int:
    """How many clients are connected: an accepted socket bears the name that the listener was bound by."""
    bound = f"/serve.sock.{service.process.pid}"
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(1 for row in rows if row[-1].endswith(bound) and row[5] == _CONNECTED)


def test_clients_that_wait_keep_nobody_else_from_an_answer(service: Service) -> None:
    """Waits, stops with a long grace and followed logs of silent containers, many more than threads, and a `ps`."""
    container = _sleeper(service.engine)
    deaf = service.engine.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    for _ in range(MANY):
        _ask(service, "POST", "/v1/wait", {"reference": container})
        _ask(service, "POST", "/v1/stop", {"reference": deaf, "timeout_s": DEADLINE_S * 2})
        _ask(service, "GET", f"/v1/containers/{container}/logs?follow=1")
    eventually(lambda: service.engine.look(deaf).status == "stopping")
    status, rows = service.client().get("/v1/containers")
    assert (200, {container, deaf}) == (status, {row["id"] for row in rows})
    for each in (container, deaf):
        service.engine.call("kill", each)


def test_a_client_that_waited_and_went_holds_no_thread_and_no_connection(service: Service) -> None:
    """However it waited: with POST, with GET, for output that never comes."""
    container = _sleeper(service.engine)
    clients = [_ask(service, "POST", "/v1/wait", {"reference": container, "condition": "removed"}) for _ in range(4)]
    clients += [_ask(service, "GET", f"/v1/containers/{container}/wait") for _ in range(4)]
    clients += [_ask(service, "GET", f"/v1/containers/{container}/logs?follow=1") for _ in range(4)]
    eventually(lambda: _connections(service) == len(clients))
    for client in clients:
        client.close()
    eventually(lambda: _connections(service) == 0)
    began = time.monotonic()
    assert 0 == service.end()
    # Its threads are waited for at its end: one that still waits for the container would be seen here.
    assert time.monotonic() - began < DEADLINE_S
    service.engine.call("kill", container)


def test_a_wait_ends_when_the_service_ends(service: Service) -> None:
    """And says so, long before the container ends."""
    container = _sleeper(service.engine)
    client = _ask(service, "POST", "/v1/wait", {"reference": container})
    # A request that came later is answered: the first one is at work.
    assert 200 == service.client().get("/v1/containers")[0]
    assert 0 == service.end()
    answer = client.getresponse()
    assert (504, "timeout") == (answer.status, json.loads(answer.read())["error"]["kind"])


def test_many_who_follow_and_wait_in_the_library_leave_threads_for_others(engine: Engine) -> None:
    """More followed logs of silent containers, and execs waited for, than the library has threads."""

    async def main() -> tuple[str, list[bytes]]:
        async with corral.Engine(engine.places.store, engine.places.run) as library:
            container = await library.run("host", ["sh", "-c", WAITS], network="none")
            await (await container.exec(["mkfifo", "/tmp/go"])).communicate()
            followers = [asyncio.ensure_future(_first(container)) for _ in range(MANY)]
            execs = [await container.exec(["sleep", "1000"], stdout=False, stderr=False) for _ in range(MANY)]
            waits = [asyncio.ensure_future(one.wait()) for one in execs]
            await asyncio.sleep(0)
            async with asyncio.timeout(DEADLINE_S):
                status = await container.status()
                await (await container.exec(["sh", "-c", "echo > /tmp/go"])).communicate()
                lines = await asyncio.gather(*followers)
            for wait in waits:
                wait.cancel()
            return status, lines

    status, lines = asyncio.run(main())
    assert ("running", [b"gone"] * MANY) == (status, lines)


async def _first(container: corral.Container) -> bytes:
    async for entry in container.logs(follow=True):
        data: bytes = entry.data
        return data
    return b""
