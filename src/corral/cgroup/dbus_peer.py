"""One D-Bus connection, blocking, with a deadline on everything. The wire format is jeepney's; the I/O is here.

Knows D-Bus and nothing of systemd: ``corral.cgroup.systemd_bus`` does. No threads, no event loop; jeepney is imported
when the first connection is made. Not safe for concurrent use of one object.

Source: D-Bus Specification, "Authentication Protocol", "Message Protocol".
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

from corral.errors import CorralError, PermissionDenied, Timeout, Unavailable, Unsupported
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    Socket = _socket.socket

__all__ = ["ErrorReply", "Peer", "Signal", "connect_peer", "load_wire", "outer_uid"]

_MAX_PATH = 107
_MAX_LINE = 4096
# A message of ours has a few hundred bytes; what systemd sends us, some thousands. The specification allows 128 MiB.
_MAX_MESSAGE = 1 << 24
# Signals kept for later while a call waits for its reply; a manager under load sends hundreds.
_MAX_QUEUED = 100_000


class ErrorReply(CorralError):
    """The peer answered a call with the D-Bus error ``name``; callers make one of their own kinds of it."""

    kind = "unavailable"

    def __init__(self, name: str, text: str, member: str) -> None:
        super().__init__(f"call {member}: {text or name}")
        self.name = name
        self.text = text


class Signal:
    """A signal that arrived: which member of which interface, from which object, with what values."""

    __slots__ = ("body", "interface", "member", "path")

    def __init__(self, path: str, interface: str, member: str, body: tuple[Any, ...]) -> None:
        self.path = path
        self.interface = interface
        self.member = member
        self.body = body


class Peer(Closing):
    """An authenticated connection. A context manager; ``close`` is idempotent.

    ``until`` is a value of ``time.monotonic()``. After a Timeout or Unavailable the connection is of no more use.
    """

    __slots__ = ("_data", "_may_stray", "_parser", "_serial", "_signals", "_socket", "_wire", "is_subscribed", "path")

    def __init__(self, sock: Socket, path: str) -> None:
        self._socket: Socket | None = sock
        self._wire: ModuleType = load_wire()
        self._parser = self._wire.Parser()
        self._serial = 0
        self._signals: list[Signal] = []
        self._data = b""
        self._may_stray = False
        self.path = path
        # For the caller's use: the signals it wants were asked for on this connection.
        self.is_subscribed = False

    def close(self) -> None:
        """Close the connection."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def is_open(self) -> bool:
        """The peer has not closed the connection yet, as far as this side was told."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return not poll.poll(0)

    def forget_signals(self) -> None:
        """Drop the signals kept so far: what happened before an operation is none of its business."""
        self._signals.clear()

    def authenticate(self, until: float, *, name: str = "") -> None:
        """Say who we are. Raises: PermissionDenied, Unavailable, Timeout.

        With an empty ``name`` the peer takes our uid from the socket, which is right in a user namespace too, where
        the uid that we could name is not the one that the peer sees; else ``name`` is a uid in decimal.

        All in one write, BEGIN included: systemd's own server leaves a message that it reads together with BEGIN
        lying until more arrives. So BEGIN must be behind it before the first message goes out; the answer says so.
        """
        words = f"AUTH EXTERNAL {name.encode().hex()}" if name else "AUTH EXTERNAL\r\nDATA"
        self._send(f"\0{words}\r\nBEGIN\r\n".encode(), until)
        line = self._read_line(until)
        if line == "DATA":
            line = self._read_line(until)
        elif not name:
            # It needed no DATA, and may still answer it, with a line among the messages.
            self._may_stray = True
        if line.startswith(("REJECTED", "ERROR")):
            raise PermissionDenied(
                f"authenticate at {self.path!r}: the peer rejects uid {os.geteuid()}", path=self.path, phase="cgroup"
            )
        if not line.startswith("OK"):
            raise self._broken(f"the peer answers {line[:60]!r}, which is not D-Bus")
        data, self._data = self._data, b""
        self._parse(data)

    def call(
        self,
        target: tuple[str, str, str],
        member: str,
        signature: str,
        body: tuple[Any, ...],
        *,
        until: float,
    ) -> tuple[Any, ...]:
        """Call ``member`` of ``target`` (destination, object path, interface) and return the reply's values.

        Signals that come first are kept for ``next_signal``.
        Raises: ErrorReply, Timeout, Unavailable (the connection broke).
        """
        serial = self._send_call(target, member, signature, body, until=until)
        wire = self._wire
        while True:
            message = self._next_message(until, member)
            fields = message.header.fields
            if fields.get(wire.HeaderFields.reply_serial) != serial:
                self._keep_signal(message)
                continue
            if message.header.message_type is wire.MessageType.error:
                text = str(message.body[0]) if message.body else ""
                raise ErrorReply(str(fields.get(wire.HeaderFields.error_name, "")), text, member)
            return tuple(message.body)

    def send(self, target: tuple[str, str, str], member: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call without waiting for an answer, as far as the socket takes it at once; what goes wrong is passed over."""
        try:
            self._send_call(target, member, signature, body, until=time.monotonic(), no_reply=True)
        except CorralError:
            return

    def next_signal(self, until: float, waiting_for: str) -> Signal:
        """The next signal, waiting for it. Raises: Timeout, Unavailable; ``waiting_for`` is for their text."""
        while not self._signals:
            self._keep_signal(self._next_message(until, waiting_for))
        return self._signals.pop(0)

    def _send_call(
        self,
        target: tuple[str, str, str],
        member: str,
        signature: str,
        body: tuple[Any, ...],
        *,
        until: float,
        no_reply: bool = False,
    ) -> int:
        wire = self._wire
        destination, path, interface = target
        fields = {
            wire.HeaderFields.path: path,
            wire.HeaderFields.destination: destination,
            wire.HeaderFields.interface: interface,
            wire.HeaderFields.member: member,
        }
        if signature:
            fields[wire.HeaderFields.signature] = signature
        self._serial += 1
        flags = wire.MessageFlag.no_reply_expected if no_reply else 0
        header = wire.Header(wire.Endianness.little, wire.MessageType.method_call, flags, 1, 0, self._serial, fields)
        self._send(wire.Message(header, body).serialise(), until)
        return self._serial

    def _keep_signal(self, message: Any) -> None:  # noqa: ANN401  # jeepney has no types
        wire = self._wire
        if message.header.message_type is not wire.MessageType.signal:
            return
        fields = message.header.fields
        names = [str(fields.get(name, "")) for name in (1, 2, 3)]
        if len(self._signals) < _MAX_QUEUED:
            self._signals.append(Signal(names[0], names[1], names[2], tuple(message.body)))

    def _next_message(self, until: float, waiting_for: str) -> Any:  # noqa: ANN401  # jeepney has no types
        try:
            while True:
                message = self._parser.get_next_message()
                if message is not None:
                    return message
                if self._parser.bytes_desired() > _MAX_MESSAGE:
                    raise self._broken("the peer announces a message of absurd size")
                self._parse(self._receive(until, waiting_for))
        # What jeepney's parser raises for bytes that are no message.
        except (ValueError, KeyError, IndexError, AssertionError, TypeError, _struct_error()) as exc:
            raise self._broken("what the peer sends is not D-Bus") from exc

    def _parse(self, data: bytes) -> None:
        """Hand ``data`` to the parser, without a stray line before the first message (which begins with l or B)."""
        if self._may_stray and data:
            data, self._data = self._data + data, b""
            if data[:1] not in (b"l", b"B"):
                line, end, rest = data.partition(b"\r\n")
                if not end and len(line) < _MAX_LINE:
                    self._data = data
                    return
                data = rest if end else data
            self._may_stray = False
        self._parser.add_data(data)

    def _read_line(self, until: float) -> str:
        while b"\r\n" not in self._data:
            if len(self._data) > _MAX_LINE:
                raise self._broken("the peer does not speak D-Bus")
            self._data += self._receive(until, "authentication")
        line, _, self._data = self._data.partition(b"\r\n")
        return line.decode("ascii", "replace")

    def _receive(self, until: float, waiting_for: str) -> bytes:
        sock = self._live()
        self._wait(select.POLLIN, until, waiting_for)
        try:
            data = sock.recv(65536)
        except OSError as exc:
            raise self._broken(_cause(exc)) from exc
        if not data:
            raise self._broken("the peer closed the connection")
        return data

    def _send(self, data: bytes, until: float) -> None:
        sock = self._live()
        while data:
            try:
                data = data[sock.send(data, _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, until, "room in the socket")
            except OSError as exc:
                raise self._broken(_cause(exc)) from exc

    def _wait(self, event: int, until: float, waiting_for: str) -> None:
        poll = select.poll()
        poll.register(self._live(), event)
        left = until - time.monotonic()
        if not poll.poll(max(0.0, left) * 1000):
            raise Timeout(f"wait for {waiting_for} from {self.path!r}: no answer", path=self.path, phase="cgroup")

    def _live(self) -> Socket:
        if self._socket is None:
            raise self._broken("the connection is closed")
        return self._socket

    def _broken(self, cause: str) -> Unavailable:
        self.close()
        return Unavailable(f"talk to {self.path!r}: {cause}", path=self.path, phase="cgroup")


def connect_peer(path: str, until: float) -> Peer:
    """A connection to the socket at ``path``, authenticated; the caller closes it.

    Raises: Unavailable (nobody there), PermissionDenied, Timeout, Unsupported (jeepney is not installed).
    """
    try:
        return _connect_as("", path, until)
    except PermissionDenied as exc:
        if exc.errno:
            raise
        # Peers that insist on a name get the one that we have outside.
        return _connect_as(str(outer_uid()), path, until)


def _connect_as(name: str, path: str, until: float) -> Peer:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        _connect(sock, path, until)
        peer = Peer(sock, path)
    except BaseException:
        sock.close()
        raise
    try:
        peer.authenticate(until, name=name)
    except BaseException:
        peer.close()
        raise
    return peer


def _connect(sock: Socket, path: str, until: float) -> None:
    while True:
        try:
            if len(os.fsencode(path)) > _MAX_PATH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            sock.connect(path)
        except BlockingIOError as exc:
            # A Unix socket whose backlog is full: there is no event to wait for.
            if time.monotonic() >= until:
                raise Timeout(f"connect to {path!r}: no answer", path=path, phase="cgroup") from exc
            time.sleep(0.005)
        except OSError as exc:
            kind = PermissionDenied if exc.errno in (errno.EACCES, errno.EPERM) else Unavailable
            raise kind(f"connect to {path!r}: {_cause(exc)}", path=path, errno=exc.errno or 0, phase="cgroup") from exc
        else:
            return


def outer_uid(uid_map: str | None = None) -> int:
    """This process's effective uid as the initial user namespace's parent of ours numbers it.

    ``uid_map`` is the text of /proc/self/uid_map, read if not given; a uid without a row stays as it is.
    """
    uid = os.geteuid()
    if uid_map is None:
        try:
            with open("/proc/self/uid_map", encoding="utf-8") as file:
                uid_map = file.read()
        except OSError:
            return uid
    for line in uid_map.splitlines():
        inside, outside, count = (int(word) for word in line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def _cause(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if exc.errno else str(exc)


def _struct_error() -> type[Exception]:
    import struct

    return struct.error


def load_wire() -> ModuleType:
    """The wire format: jeepney's module, imported by the first who asks.

    Raises: Unsupported if it is not installed.
    """
    from importlib import import_module

    try:
        return import_module("jeepney.low_level")
    except ImportError as exc:
        raise Unsupported(
            "speak to systemd: the Python package 'jeepney' is not installed",
            hint="install it (pip install jeepney, or Debian's python3-jeepney), or use the cgroupfs driver",
            phase="cgroup",
        ) from exc
