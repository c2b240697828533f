"""Rules of corral.cgroup.dbus_peer, against a stand-in that misbehaves as told."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from corral.cgroup.dbus_peer import connect_peer, outer_uid
from corral.cgroup.systemd_bus import Manager
from corral.errors import PermissionDenied, Timeout, Unavailable, Unsupported
from unit.cgroup.fake_bus import FakeSystemd

# Long enough for a busy machine; no test waits for it to pass.
LONG_S = 60.0
# Short enough to wait for.
SHORT_S = 0.15


@pytest.mark.parametrize(
    "answers",
    [
        [["DATA", "OK x"]],
        [["OK x"]],
        [["OK x", "ERROR"]],
        [["REJECTED EXTERNAL"], ["OK x"]],
        [["DATA", "REJECTED"], ["OK x"]],
    ],
    ids=["asked-back", "at-once", "at-once-and-again", "by-name", "by-name-after-asking"],
)
def test_each_way_to_authenticate_works(manager: Manager, systemd: FakeSystemd, answers: list[list[str]]) -> None:
    """Most peers take the socket's word for who we are; others want a uid, on a new connection."""
    systemd.auth = answers
    assert manager.version(deadline_s=LONG_S)[0] == 252


def test_begin_is_sent_before_the_answer_so_that_no_message_shares_its_read(
    manager: Manager, systemd: FakeSystemd
) -> None:
    """systemd's own server lets a message lie that it reads together with BEGIN."""
    systemd.auth = [["DATA"]]
    with pytest.raises(Timeout):
        manager.version(deadline_s=SHORT_S)
    systemd.close()
    assert systemd.has_begun


def test_rejected_authentication_is_told(manager: Manager, systemd: FakeSystemd) -> None:
    """Another user's manager."""
    systemd.auth = [["REJECTED"]]
    with pytest.raises(PermissionDenied, match=f"rejects uid {os.geteuid()}"):
        manager.version(deadline_s=LONG_S)


@pytest.mark.parametrize("answers", [["HTTP/1.1 400"], ["x" * 5000]], ids=["http", "long"])
def test_peer_that_is_no_bus_is_told(manager: Manager, systemd: FakeSystemd, answers: list[str]) -> None:
    """Some other program listens there."""
    systemd.auth = [answers]
    with pytest.raises(Unavailable, match="D-Bus"):
        manager.version(deadline_s=LONG_S)


@pytest.mark.parametrize(
    "garbage",
    [b"x" * 5000, b"\0" * 64, b"l\1\0\1" + b"\xff" * 12, b"l\1\0\1\0\0\0\0\1\0\0\0\7\0\0\0" + b"\xff" * 16],
    ids=["text", "zeros", "huge", "fields"],
)
def test_garbage_after_authentication_is_an_error_not_a_crash(
    manager: Manager, systemd: FakeSystemd, garbage: bytes
) -> None:
    """Whatever arrives, the error is one of ours."""
    systemd.garbage = garbage
    with pytest.raises(Unavailable, match=r"D-Bus|absurd"):
        manager.version(deadline_s=LONG_S)


def test_socket_path_too_long_for_an_address_is_told(tmp_path: Path) -> None:
    """Not a ValueError from the depths."""
    with Manager([f"{tmp_path}/{'x' * 120}"]) as manager, pytest.raises(Unavailable, match="file name too long"):
        manager.version(deadline_s=LONG_S)


def test_s3_2_listener_that_never_accepts_ends_within_the_deadline(tmp_path: Path) -> None:
    """Neither a queued connection nor a full queue is waited for beyond the deadline."""
    address, held = str(tmp_path / "bus"), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(0)
        for _ in range(2):
            with pytest.raises(Timeout):
                connect_peer(address, time.monotonic() + 0.02)
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].setblocking(False)
            held[-1].connect_ex(address)
        for client in held:
            client.close()


def test_absent_jeepney_is_told(systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional; the error says how to get it."""
    monkeypatch.setitem(sys.modules, "jeepney.low_level", None)
    with Manager([str(systemd.path)]) as manager, pytest.raises(Unsupported, match="jeepney") as caught:
        manager.version(deadline_s=LONG_S)
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "uid"),
    [("0 0 4294967295\n", 0), ("0 1000 1\n1 100000 65536\n", 1000), ("7 1000 1\n", 0)],
    ids=["initial", "mapped", "no-row"],
)
def test_outer_uid_follows_the_map(text: str, uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus outside knows us by the uid that we have there."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert outer_uid(text) == uid
