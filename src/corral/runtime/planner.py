"""The resident planner: the same sessions as a cold one, without the start of an interpreter each time.

It compiles for callers whose world is its own: same user, same namespaces. To all others it says "not mine", and
their front starts a cold planner. It holds nothing that a container depends on: end it at any time.
"""

from __future__ import annotations

import os
import select
import stat

from corral.errors import AlreadyExists, FailedPrecondition
from corral.linux.procfs import read_namespace_ids
from corral.linux.sockets import accept, connect, listen, peer_credentials
from corral.runtime.session import HEADER, NOT_MINE, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.linux.sockets import Socket

SOCKET_NAME = ".planner.sock"
_MAX_SESSIONS = 256


def serve(root: str, path: str = "", *, stop_fd: int = -1) -> None:
    """Answer fronts at ``path`` (default: ROOT/.planner.sock) until ``stop_fd`` is readable.

    Raises: AlreadyExists if another planner answers there, FailedPrecondition if others may write to its directory.
    """
    path = path or f"{root}/{SOCKET_NAME}"
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o711, exist_ok=True)
    _check_directory(directory)
    _warm_up()
    listener = _listen(path)
    mine = read_namespace_ids()
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    if stop_fd >= 0:
        poll.register(stop_fd, select.EPOLLIN)
    sessions: dict[int, tuple[Socket, Session]] = {}
    try:
        while True:
            for fd, _ in poll.poll():
                if fd == stop_fd:
                    return
                if fd == listener.fileno():
                    _accept(listener, poll, sessions, mine)
                else:
                    _continue(fd, poll, sessions)
    finally:
        os.unlink(path)
        listener.close()
        for sock, _ in sessions.values():
            sock.close()
        poll.close()


def _warm_up() -> None:
    """Import what every plan may need, so that the first caller does not wait for it."""
    import corral.cgroup.limits_v1
    import corral.cgroup.limits_v2
    import corral.linux.bpf_devices
    import corral.linux.libseccomp
    import corral.runtime.exec_
    import corral.runtime.hints  # noqa: F401


def _check_directory(directory: str) -> None:
    info = os.stat(directory)
    if info.st_uid not in (0, os.geteuid()) or stat.S_IMODE(info.st_mode) & 0o022:
        raise FailedPrecondition(
            f"listen in {directory}: others than its owner may write there",
            hint=f"chown it to yourself and chmod go-w {directory}",
            path=directory,
        )


def _listen(path: str) -> Socket:
    try:
        return listen(path)
    except FileExistsError:
        pass
    except OSError as exc:
        if exc.errno != 98:  # EADDRINUSE
            raise
    try:
        connect(path).close()
    except OSError:
        # Nobody listens: the planner that made it was killed.
        os.unlink(path)
        return listen(path)
    raise AlreadyExists(
        f"listen on {path}: another planner answers there", hint="stop it first, or give --socket", path=path
    )


def _accept(
    listener: Socket,
    poll: select.epoll,
    sessions: dict[int, tuple[Socket, Session]],
    mine: dict[str, tuple[int, int]],
) -> None:
    sock = accept(listener)
    pid, uid, gid = peer_credentials(sock)
    if len(sessions) >= _MAX_SESSIONS or (uid, gid) != (os.geteuid(), os.getegid()) or not _is_mine(pid, mine):
        try:
            sock.send(HEADER.pack(NOT_MINE, 0, 0, 0))
        except OSError:
            pass  # It is gone, or does not listen; either way it is not ours.
        sock.close()
        return
    sessions[sock.fileno()] = (sock, Session(sock, pid, is_shared=True))
    poll.register(sock.fileno(), select.EPOLLIN)


def _is_mine(pid: int, mine: dict[str, tuple[int, int]]) -> bool:
    """Same namespaces and same root, so that the same paths and ids mean the same. Pid 0: of another pid namespace."""
    try:
        return read_namespace_ids(pid) == mine and os.stat(f"/proc/{pid}/root").st_ino == os.stat("/").st_ino
    except OSError:
        return False


def _continue(fd: int, poll: select.epoll, sessions: dict[int, tuple[Socket, Session]]) -> None:
    sock, session = sessions[fd]
    try:
        session.receive()
    except OSError:
        session.is_over = True
    if session.is_over:
        poll.unregister(fd)
        del sessions[fd]
        sock.close()
