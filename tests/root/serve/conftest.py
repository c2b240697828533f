"""A service of a store of its own, started as people do, and the command line beside it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from root.engine.conftest import DEADLINE_S, Engine, engine, eventually

__all__ = ["Client", "Service", "engine", "service"]

CORRAL = Path(__file__).resolve().parents[3] / "build" / "bin" / "corral"


class Client(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("corral", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise

    def get(self, path: str) -> tuple[int, Any]:
        self.request("GET", path)
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())

    def post(self, verb: str, **body: Any) -> tuple[int, Any]:
        self.request("POST", f"/v1/{verb}", json.dumps(body))
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


class Service:
    """``corral serve`` on the engine's store."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.path = f"{engine.places.run}/serve.sock"
        self._clients: list[Client] = []
        self.process = self.begin()

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [CORRAL, "--store", self.engine.places.store, "serve", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def wait_ready(self) -> None:
        eventually(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.stdout.read() if self.process.stdout else ""
        client = Client(self.path)
        try:
            return client.get("/readyz")[0] == 200
        except OSError:
            return False
        finally:
            client.close()

    def client(self) -> Client:
        """A connection, closed with the service."""
        self._clients.append(Client(self.path))
        return self._clients[-1]

    def close(self) -> None:
        """End it if it lives, and all connections."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.end()
        elif self.process.stdout is not None:
            self.process.stdout.close()

    def corral(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The command line, which uses the service."""
        return subprocess.run(
            [CORRAL, "--store", self.engine.places.store, *words],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            **options,
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@pytest.fixture
def service(engine: Engine) -> Iterator[Service]:
    """A service that is ready."""
    made = Service(engine)
    try:
        made.wait_ready()
        yield made
    finally:
        made.close()


def children_of(pid: int) -> list[int]:
    """Pids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
