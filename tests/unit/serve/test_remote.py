"""The command line's client of the service: its part of HTTP, against answers of all kinds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import __version__
from corral.engine.places import Places
from corral.engine.remote import Remote
from corral.errors import AlreadyExists, Internal, Unavailable


def _answering(directory: Path, answer: bytes, piece: int = 1 << 20) -> tuple[Remote, Callable[[], bytes]]:
    """A client, connected to a server that answers the first request with ``answer``; and what that request was."""
    places = Places(str(directory / "s"), str(directory / "r"))
    Path(places.run).mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{places.run}/serve.sock")
    listener.listen(1)
    asked: list[bytes] = []

    def serve() -> None:
        with listener, listener.accept()[0] as peer:
            asked.append(peer.recv(1 << 16))
            for at in range(0, len(answer), piece):
                peer.sendall(answer[at : at + piece])

    thread = threading.Thread(target=serve)
    thread.start()
    remote = Remote.connect_or_none(places, os.geteuid())
    assert remote is not None

    def end() -> bytes:
        remote.close()
        thread.join()
        return asked[0]

    return remote, end


def _http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_an_answer_is_read_whole_however_it_arrives(tmp_path: Path, piece: int) -> None:
    """Byte by byte or at once: the same result."""
    remote, end = _answering(tmp_path, _http("200 OK", b'{"id": "abc"}\n'), piece)
    assert {"id": "abc"} == remote.call("start", ["web"], {})
    version = f"Corral-Version: {__version__}\r\n".encode()
    head = b"POST /v1/start HTTP/1.1\r\nHost: corral\r\n" + version + b"Content-Length: 16\r\n\r\n"
    assert head + b'{"args":["web"]}' == end()


def test_an_error_is_raised_as_the_verb_raised_it(tmp_path: Path) -> None:
    """Kind, message and hint survive the way."""
    body = b'{"error": {"kind": "already-exists", "message": "name taken", "hint": "another", "errno": 17}}'
    remote, end = _answering(tmp_path, _http("409 Conflict", body))
    with pytest.raises(AlreadyExists, match="name taken") as caught:
        remote.call("create", [{}], {})
    assert ("another", 17) == (caught.value.hint, caught.value.errno)
    end()


def test_an_error_of_an_unknown_kind_is_internal(tmp_path: Path) -> None:
    """A newer service may know kinds that this client does not."""
    remote, end = _answering(tmp_path, _http("418 Teapot", b'{"error": {"kind": "odd", "message": "m"}}'))
    with pytest.raises(Internal, match="m"):
        remote.call("ps", [], {})
    end()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200", _http("200 OK", b"{}")[:-1], _http("200 OK", b"{}").replace(b": 2", b": -2"), b"x\r\n\r\n"],
    ids=["nothing", "half-head", "half-body", "negative", "nonsense"],
)
def test_a_service_that_ends_in_the_middle_is_told_as_such(tmp_path: Path, answer: bytes) -> None:
    """No half answer is taken for a whole one."""
    remote, end = _answering(tmp_path, answer)
    with pytest.raises((Unavailable, Internal)) as caught:
        remote.call("ps", [], {})
    assert "the service" in caught.value.message
    end()


def test_no_service_is_no_client(tmp_path: Path) -> None:
    """Where nobody listens there is nothing to call, and no error."""
    assert Remote.connect_or_none(Places(str(tmp_path)), 0) is None
