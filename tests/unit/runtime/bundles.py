"""Bundles on disk and fronts made of a socket, for the tests of what the planner does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.linux.sockets import recv_fds, send_fds, seqpacket_pair
from corral.runtime import prepare
from corral.runtime.host import Host
from corral.runtime.plan import Plan
from corral.runtime.prepare import Surroundings
from corral.runtime.session import HEADER, REQUEST, Session
from corral.runtime.wire import decode
from unit.runtime.jobs import HOSTS, Config, config


def make_bundle(folder: Path, document: Config | None = None) -> Path:
    """A bundle with a rootfs; its path."""
    bundle = folder / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    write_config(bundle, config() if document is None else document)
    return bundle


def write_config(bundle: Path, document: object) -> None:
    """Replace the bundle's config.json."""
    (bundle / "config.json").write_text(json.dumps(document))


def around(folder: Path, **env: str) -> Surroundings:
    """A caller who stands in ``folder``."""
    return Surroundings(str(folder), env)


def use_host(monkeypatch: pytest.MonkeyPatch, name: str) -> Host:
    """Let ``prepare`` find this host instead of the real one."""
    host = HOSTS[name]()
    monkeypatch.setattr(prepare, "read_host", lambda pid: host)
    return host


class Answer:
    """A message of the planner. Its descriptors are closed; a plan is decoded before."""

    def __init__(self, data: bytes, fds: list[int]) -> None:
        self.kind, _, _, self.value = HEADER.unpack_from(data)
        self.body = data[HEADER.size :]
        self.texts = self.body.decode().split("\0")
        self.n_fds = len(fds)
        self.plan = Plan()
        if fds and self.kind == 48:
            self.plan = decode(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        for fd in fds:
            os.close(fd)


class FakeFront:
    """The other end of a session, in the same process: each message is answered before the next."""

    def __init__(self) -> None:
        self.ours, theirs = seqpacket_pair()
        self.theirs = theirs
        self.session = Session(theirs)

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self.theirs.close()

    def tell(self, kind: int, body: bytes = b"", *, step: int = 0, error: int = 0, value: int = 0) -> None:
        """Send a message and let the session take it."""
        send_fds(self.ours, HEADER.pack(kind, step, error, value) + body)
        self.session.receive()

    def request(self, cwd: Path, *words: str, **env: str) -> Answer:
        """Ask for a plan; the answer."""
        items = [
            "v=1",
            f"cwd={cwd}",
            "fds=3,4",
            *(f"env={k}={v}" for k, v in env.items()),
            *(f"arg={w}" for w in words),
        ]
        fd = os.memfd_create("request")
        os.write(fd, "".join(f"{item}\0" for item in items).encode())
        send_fds(self.ours, HEADER.pack(REQUEST, 0, 0, 0), (fd,))
        os.close(fd)
        self.session.receive()
        return self.answer()

    def answer(self) -> Answer:
        """The next message of the session, which is there already."""
        return Answer(*recv_fds(self.ours, 1 << 17))


def read_state(root: Path, name: str) -> dict[str, Any]:
    """state.json of a record."""
    state: dict[str, Any] = json.loads((root / name / "state.json").read_text())
    return state
