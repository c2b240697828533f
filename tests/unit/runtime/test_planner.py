"""corral.runtime.planner: the resident planner serves its own world, and nobody else's."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral.errors import AlreadyExists, FailedPrecondition
from corral.linux.procfs import read_namespace_ids
from corral.linux.sockets import connect, listen, recv_fds, send_fds
from corral.runtime import planner
from corral.runtime.session import HEADER, NOT_MINE, REQUEST, TEXT


@contextmanager
def serving(root: Path) -> Iterator[Path]:
    """A planner in a thread; the path of its socket, once it answers."""
    stop, end = os.pipe()
    path = root / ".planner.sock"
    thread = threading.Thread(target=planner.serve, args=(str(root),), kwargs={"stop_fd": stop})
    thread.start()
    try:
        while not path.exists():
            thread.join(0.001)
            assert thread.is_alive()
        yield path
    finally:
        os.close(end)
        thread.join()
        os.close(stop)


def ask_for_help(path: Path) -> int:
    """Send a request for ``create --help``; the kind of the answer."""
    fd = os.memfd_create("request")
    os.write(fd, b"v=1\0cwd=/\0arg=create\0arg=--help\0")
    front = connect(str(path))
    send_fds(front, HEADER.pack(REQUEST, 0, 0, 0), (fd,))
    data, _ = recv_fds(front, 1 << 17)
    os.close(fd)
    front.close()
    kind: int = HEADER.unpack_from(data)[0]
    return kind


def test_planner_answers_one_front_after_another(tmp_path: Path) -> None:
    """Sessions are independent, and the socket is gone at the end."""
    tmp_path.chmod(0o755)
    with serving(tmp_path) as path:
        assert [TEXT, TEXT] == [ask_for_help(path), ask_for_help(path)]
        assert 0o600 == path.stat().st_mode & 0o777
    assert not path.exists()


def test_planner_answers_while_another_front_is_silent(tmp_path: Path) -> None:
    """A front that connects and says nothing holds nobody up."""
    tmp_path.chmod(0o755)
    with serving(tmp_path) as path:
        silent = connect(str(path))
        assert TEXT == ask_for_help(path)
        silent.close()


@pytest.mark.parametrize("other", ["namespaces", "root", "user"])
def test_planner_sends_strangers_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Another user, other namespaces or another root: their paths and ids mean something else."""
    tmp_path.chmod(0o755)
    if other == "user":
        monkeypatch.setattr(planner, "peer_credentials", lambda _: (os.getpid(), os.geteuid() + 1, os.getegid()))
    elif other == "namespaces":
        monkeypatch.setattr(planner, "read_namespace_ids", lambda *pid: {"mnt": (0, len(pid))})
    else:
        monkeypatch.setattr(planner, "_is_mine", lambda *_: False)
    with serving(tmp_path) as path:
        front = connect(str(path))
        data, _ = recv_fds(front, 1 << 17)
        front.close()

    assert NOT_MINE == HEADER.unpack_from(data)[0]


def test_process_that_is_gone_is_not_ours() -> None:
    """Its namespaces cannot be looked at."""
    assert not planner._is_mine(0, {})
    assert planner._is_mine(os.getpid(), read_namespace_ids())


def test_second_planner_is_refused(tmp_path: Path) -> None:
    """Two would race for the socket."""
    tmp_path.chmod(0o755)
    with (
        serving(tmp_path) as path,
        pytest.raises(AlreadyExists, match=f"listen on {path}: another planner answers there"),
    ):
        planner.serve(str(tmp_path))


def test_socket_of_a_killed_planner_is_replaced(tmp_path: Path) -> None:
    """A file that nobody listens on is no reason to stay cold."""
    tmp_path.chmod(0o755)
    listen(f"{tmp_path}/.planner.sock").close()
    with serving_after_crash(tmp_path) as path:
        assert TEXT == ask_for_help(path)


@contextmanager
def serving_after_crash(root: Path) -> Iterator[Path]:
    """As ``serving``, where the socket's file exists from before: ready when another inode is there."""
    path = root / ".planner.sock"
    before = path.stat().st_ino
    stop, end = os.pipe()
    thread = threading.Thread(target=planner.serve, args=(str(root),), kwargs={"stop_fd": stop})
    thread.start()
    try:
        while True:
            try:
                connect(str(path)).close()
                break
            except OSError:
                thread.join(0.001)
                assert thread.is_alive()
        assert before != 0
        yield path
    finally:
        os.close(end)
        thread.join()
        os.close(stop)


def test_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can replace the socket could answer in our name."""
    tmp_path.chmod(0o777)
    with pytest.raises(FailedPrecondition) as caught:
        planner.serve(str(tmp_path))

    assert f"listen in {tmp_path}: others than its owner may write there" == caught.value.message
    assert f"chown it to yourself and chmod go-w {tmp_path}" == caught.value.hint
