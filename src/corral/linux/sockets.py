"""Unix sockets that keep message borders and carry descriptors, on the C module alone.

The ``socket`` module of the standard library costs more to import than a cold plan may take.

Source: unix(7), cmsg(3).
"""

from __future__ import annotations

import _socket
import _struct as struct
import errno
import posix

from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Socket = _socket.socket

# The kernel takes at most this many descriptors in one message (SCM_MAX_FD).
MAX_FDS = 253

# sun_path holds 108 bytes with the final NUL.
_MAX_PATH = 107
_INT_SIZE = 4


def seqpacket_pair() -> tuple[Socket, Socket]:
    """Two connected ends, both close-on-exec and owned by the caller."""
    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return left, right


def from_fd(fd: int) -> Socket:
    """A socket object over ``fd``, which it owns from now on (``close`` closes it, ``detach`` gives it back)."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def _bound(path: str, act: str, kind: int = _socket.SOCK_SEQPACKET) -> Socket:
    """A socket bound or connected (``act``) to ``path``. A path too long for an address goes through its directory."""
    sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
    directory = -1
    try:
        address = path
        if len(path.encode("utf-8", "surrogateescape")) > _MAX_PATH:
            parent, name = paths.split(path)
            directory = posix.open(parent, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            address = f"/proc/self/fd/{directory}/{name}"
        if act == "bind":
            sock.bind(address)
        else:
            sock.connect(address)
    except OSError as exc:
        sock.close()
        # "path too long" comes from the address parser without an errno.
        raise OSError(exc.errno or errno.ENAMETOOLONG, exc.strerror or str(exc), path) from exc
    finally:
        if directory >= 0:
            posix.close(directory)
    return sock


def connect(path: str) -> Socket:
    """A SEQPACKET connection to the socket at ``path``. Raises: OSError with the path."""
    return _bound(path, "connect")


def connect_stream(path: str) -> Socket:
    """A SOCK_STREAM connection to the socket at ``path``. Raises: OSError with the path."""
    return _bound(path, "connect", _socket.SOCK_STREAM)


def listen(path: str, *, backlog: int = 64) -> Socket:
    """A listening SEQPACKET socket at ``path`` with mode 0600; the file must not exist yet, and is the caller's.

    The umask is the process's: do not call this where other threads make files.
    """
    umask = posix.umask(0o177)
    try:
        sock = _bound(path, "bind")
    finally:
        posix.umask(umask)
    try:
        sock.listen(backlog)
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, exc.strerror, path) from exc
    return sock


def accept(listener: Socket) -> Socket:
    """The next connection, close-on-exec and owned by the caller. Blocks as the listener does."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept is made of
    return from_fd(fd)


def send_fds(sock: Socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one message of ``data`` (not empty: nobody could tell it from the end) with copies of ``fds``.

    Raises: OSError (EPIPE when the peer is gone; no SIGPIPE), ValueError for an empty message.
    """
    if not data:
        raise ValueError("an empty message reads like the end of the stream")
    # Not the array module: it pulls in collections.
    rights = struct.pack(f"={len(fds)}i", *fds)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else []
    sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def recv_fds(sock: Socket, max_bytes: int, max_fds: int = MAX_FDS) -> tuple[bytes, list[int]]:
    """Receive one message: its bytes and its descriptors, close-on-exec and owned by the caller. Empty at the end.

    A message longer than ``max_bytes``, or with more than ``max_fds`` descriptors, is dropped whole: EMSGSIZE, and
    nothing stays open.
    """
    space = _socket.CMSG_SPACE(max_fds * _INT_SIZE) if max_fds else 0
    data, ancillary, flags, _ = sock.recvmsg(max_bytes, space, _socket.MSG_CMSG_CLOEXEC)
    received: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            received += struct.unpack_from(f"={len(payload) // _INT_SIZE}i", payload)
    # CMSG_SPACE rounds up, so one descriptor more than asked for may have fitted.
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(received) > max_fds:
        for fd in received:
            posix.close(fd)
        raise OSError(errno.EMSGSIZE, f"message exceeds {max_bytes} bytes or {max_fds} descriptors")
    return data, received


def peer_credentials(sock: Socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the peer when it connected (or made the pair); pid 0 if it is outside our pid namespace."""
    pid, uid, gid = struct.unpack("=iII", sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 3 * _INT_SIZE))
    return pid, uid, gid
