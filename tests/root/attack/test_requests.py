"""Requests that no client of ours makes: refused in words, without touching what is outside, and without an end."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from root.engine.conftest import DEADLINE_S
from root.serve.conftest import Service

pytestmark = pytest.mark.requires("root")

UP = "../../../escaped"
HALF = "\ud800"

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("exited", {"container_id": UP}),
    ("exited", {"container_id": "a" * 64, "exec_id": UP}),
    ("exited", {"container_id": ""}),
    ("inspect", {"reference": UP}),
    ("inspect", {"reference": HALF}),
    ("cp_stat", {"reference": "made", "path": HALF}),
    ("rename", {"reference": "made", "name": UP}),
    ("volume_rm", {"name": UP}),
    ("volume_create", {"name": UP}),
    ("network_rm", {"name": UP}),
    ("pod_create", {"request": {"name": UP}}),
    ("pod_rm", {"reference": UP}),
    ("kill", {"reference": "made", "signal": UP}),
    ("wait", {"reference": "made", "timeout_s": float("nan")}),
    ("update", {"reference": "made", "changes": {"id": UP}}),
]
DEFINITIONS: list[dict[str, Any]] = [
    {"id": UP},
    {"name": UP},
    {"name": HALF},
    {"pod": UP},
    {"mounts": [{"type": "volume", "source": UP, "target": "/x"}]},
    {"network": {"mode": "container", "container": UP}},
    {"process": {"command": ["a\0b"]}},
    {"labels": {"a": 5}},
]
CALLS += [("create", {"request": {"root": {"kind": "host"}, **members}}) for members in DEFINITIONS]


@pytest.fixture
def made(service: Service) -> str:
    """A container for the calls that need one."""
    return service.engine.create("true", name="made")


def _tree(top: Path) -> set[str]:
    """What is there, without locks, and without the sockets that a service which has just begun still makes."""
    return {str(path) for path in top.rglob("*") if path.name not in ("lock", ".lock") and not path.is_socket()}


def test_arguments_that_lead_elsewhere_are_refused(service: Service, made: str) -> None:
    """Paths where a name or an id belongs, halves of letters, numbers that are none."""
    before = _tree(Path(service.engine.places.store).parent)
    for verb, body in CALLS:
        status, answer = service.client().post(verb, **body)
        assert 400 <= status < 500, (verb, body, status, answer)
        assert answer["error"]["kind"] in ("invalid-argument", "not-found"), (verb, body, answer)
    assert before == _tree(Path(service.engine.places.store).parent)


RAW = [
    b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
    b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/ps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("data", RAW, ids=range(len(RAW)))
def test_what_is_no_request_ends_its_own_connection_alone(service: Service, data: bytes) -> None:
    """Lengths that contradict each other, endless heads, other protocols: an answer in words or none, then the end."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(service.path)
        client.sendall(data + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: _receive(client), b""))
    # One answer at most: what came behind the broken one was not taken for a request.
    assert answer.count(b"HTTP/1.1 ") <= 1
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert 400 <= int(head.split()[1]) <= 501
        assert json.loads(body)["error"]["kind"] in ("invalid-argument", "not-found", "resource-exhausted")
    assert (200, []) == service.client().get("/v1/containers")


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""
