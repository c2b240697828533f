"""Messages and descriptors travel whole or not at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from corral.linux import sockets

if TYPE_CHECKING:
    from pathlib import Path


def open_fds() -> set[str]:
    """The descriptors of this process, without the one that lists them."""
    return {name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}


def test_message_and_fds_arrive_when_sent(tmp_path: Path) -> None:
    """The receiver gets the bytes and working, close-on-exec copies of the descriptors."""
    (tmp_path / "a").write_text("hello")
    left, right = sockets.seqpacket_pair()
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    sockets.send_fds(left, b"one", [fd, fd])
    os.close(fd)
    data, fds = sockets.recv_fds(right, 100)
    assert (b"one", 2) == (data, len(fds))
    assert b"hello" == os.read(fds[0], 10)
    assert [False, False] == [os.get_inheritable(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    left.close()
    right.close()


def test_borders_are_kept_when_messages_queue() -> None:
    """Two messages are two messages; the end reads as an empty one."""
    left, right = sockets.seqpacket_pair()
    sockets.send_fds(left, b"one")
    sockets.send_fds(left, b"two")
    left.close()
    assert [(b"one", []), (b"two", []), (b"", [])] == [sockets.recv_fds(right, 100) for _ in range(3)]
    right.close()


def test_empty_message_is_refused_when_sent() -> None:
    """An empty message would read like the end."""
    left, right = sockets.seqpacket_pair()
    with pytest.raises(ValueError, match="reads like the end"):
        sockets.send_fds(left, b"")
    left.close()
    right.close()


@pytest.mark.parametrize(("size", "count", "max_fds"), [(101, 0, 2), (1, 3, 2), (1, 2, 1), (1, 1, 0)])
def test_nothing_stays_open_when_message_is_too_large(size: int, count: int, max_fds: int) -> None:
    """A message over the limits is dropped whole, with every descriptor in it."""
    left, right = sockets.seqpacket_pair()
    before = open_fds()
    sockets.send_fds(left, b"x" * size, [left.fileno()] * count)
    with pytest.raises(OSError, match="exceeds 100 bytes") as caught:
        sockets.recv_fds(right, 100, max_fds)
    assert errno.EMSGSIZE == caught.value.errno
    assert before == open_fds()
    left.close()
    right.close()


def test_peer_is_told_when_connected() -> None:
    """Both ends of a pair are this process."""
    left, right = sockets.seqpacket_pair()
    assert (os.getpid(), os.geteuid(), os.getegid()) == sockets.peer_credentials(left)
    left.close()
    right.close()


@pytest.mark.parametrize("depth", [0, 3], ids=["short", "beyond-108-bytes"])
def test_connection_is_made_when_path_is(tmp_path: Path, depth: int) -> None:
    """A path longer than an address can be works too; the socket's mode is 0600."""
    directory = tmp_path.joinpath(*["d" * 60] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "socket")
    before = open_fds()
    listener = sockets.listen(path)
    client = sockets.connect(path)
    server = sockets.accept(listener)
    assert 0o600 == os.stat(path).st_mode & 0o777
    assert [False] * 3 == [os.get_inheritable(s.fileno()) for s in (listener, client, server)]
    sockets.send_fds(client, b"hi")
    assert (b"hi", []) == sockets.recv_fds(server, 10)
    for sock in (listener, client, server):
        sock.close()
    assert before == open_fds()


def test_path_is_named_when_nobody_listens(tmp_path: Path) -> None:
    """Errors carry the path, and no descriptor is left."""
    before = open_fds()
    for path, code in ((tmp_path / "none", errno.ENOENT), (tmp_path / ("n" * 200), errno.ENAMETOOLONG)):
        with pytest.raises(OSError, match=path.name) as caught:
            sockets.connect(str(path))
        assert (code, str(path)) == (caught.value.errno, caught.value.filename)
    assert before == open_fds()


def test_umask_is_restored_when_listening_is_refused(tmp_path: Path) -> None:
    """A refused bind changes nothing in the process."""
    mask = os.umask(0o22)
    os.umask(mask)
    (tmp_path / "s").touch()
    with pytest.raises(OSError, match="s'"):
        sockets.listen(str(tmp_path / "s"))
    assert mask == os.umask(mask)


def test_gone_peer_is_an_error_when_sending() -> None:
    """No signal, but EPIPE."""
    left, right = sockets.seqpacket_pair()
    right.close()
    with pytest.raises(BrokenPipeError):
        sockets.send_fds(left, b"x")
    left.close()
