"""Clients of the keeper and of monitors: packets over their sockets (docs/design/monitor.md).

A keeper is started when there is none. Nothing here waits for ever for a program that is stopped or hangs: each
answer has its time, except where the caller waits for an end.
"""

from __future__ import annotations

import _struct as struct
import posix
import time

from corral.engine.files import read_bytes_or_none
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, Timeout, Unavailable
from corral.linux.sockets import connect, peer_credentials, recv_fds, send_fds
from corral.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from corral.engine.places import Places
    from corral.linux.sockets import Socket

__all__ = ["Keeper", "Monitor", "has_keeper", "has_monitor", "keeper_pid_or_none", "monitor_pid_or_none"]

_HEADER = struct.Struct("<IIiI")
_PACKET_MAX = _HEADER.size + 65536

# As in native/supervise/protocol.h.
_PING = 77
_OK, _ERROR, _SPAWN, _SPAWNED, _RUN_AT, _LIST, _ITEM, _SHUTDOWN = 64, 65, 66, 67, 68, 69, 70, 71
_START, _ATTACH, _WATCH, _ATTEND, _EXITED, _DONE, _RESIZE, _CLOSE_STDIN, _REOPEN_LOG = range(80, 89)
_LOST = 89
_STREAM_FLAGS = {2: "stdout", 4: "stderr"}
_WARNING = 5

_EEXIST = 17
_ANSWER_S = 20.0
_START_KEEPER_S = 20.0
_LAST_MONITOR_S = 2.0
# RELEASE and the poststart hooks have bounds of their own, below this one.
_START_S = 600.0


class _Peer:
    """A connection. ``close`` it, or use it in ``with``."""

    __slots__ = ("_lost", "_name", "_socket")

    def __init__(self, sock: Socket, name: str) -> None:
        self._socket = sock
        self._name = name
        self._lost: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when an answer has come, or the other end is gone."""
        return self._socket.fileno()

    def _send(self, kind: int, value: int = 0, body: bytes = b"", fds: Sequence[int] = ()) -> None:
        send_fds(self._socket, _HEADER.pack(kind, 0, 0, value & 0xFFFFFFFF) + body, fds)

    def _receive(self, timeout_s: float | None) -> tuple[int, int, int, bytes] | None:
        """(kind, error, value, bytes); None at the end of the connection. Raises: Timeout."""
        self._socket.settimeout(timeout_s)
        try:
            data, fds = recv_fds(self._socket, _PACKET_MAX)
        except TimeoutError:
            raise Timeout(f"ask {self._name}: no answer in {timeout_s:g} s", hint="it is stopped, or hangs") from None
        except ConnectionResetError:
            return None
        finally:
            self._socket.settimeout(None)
        for fd in fds:
            posix.close(fd)
        if len(data) < _HEADER.size:
            return None
        kind, _, error, value = _HEADER.unpack_from(data)
        return kind, error, value, data[_HEADER.size :]

    def _ask(
        self,
        kind: int,
        value: int = 0,
        body: bytes = b"",
        fds: Sequence[int] = (),
        *,
        timeout_s: float = _ANSWER_S,
        warnings: list[str] | None = None,
    ) -> int:
        """Send a request, return the answer's value. Raises: CorralError."""
        self._request(kind, value, body, fds)
        return self._answer(timeout_s, warnings=warnings)

    def _request(self, kind: int, value: int = 0, body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send what ``_answer`` gives the answer of, which is none where the other end is gone."""
        try:
            self._send(kind, value, body, fds)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _answer(self, timeout_s: float = _ANSWER_S, *, warnings: list[str] | None = None) -> int:
        """The value of the next answer. Raises: CorralError."""
        try:
            answer = self._receive(timeout_s)
            while answer is not None and answer[0] in (_WARNING, _LOST):
                if answer[0] == _LOST:
                    self._lost.append((_STREAM_FLAGS.get(answer[2], ""), answer[1]))
                elif warnings is not None:
                    warnings.append(answer[3].decode("utf-8", "surrogateescape"))
                answer = self._receive(timeout_s)
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        if answer is None:
            raise Unavailable(f"ask {self._name}: it ended before it answered", hint="try again")
        if answer[0] == _ERROR:
            raise _to_error(answer[1], answer[3])
        return answer[2]


def _to_error(number: int, body: bytes) -> CorralError:
    message, _, hint = body.decode("utf-8", "surrogateescape").partition("\0")
    if number == _EEXIST:
        return AlreadyExists(message, hint=hint)
    return FailedPrecondition(message, hint=hint)


class Keeper(_Peer):
    """The keeper of a run directory."""

    __slots__ = ()

    @classmethod
    def open(
        cls,
        places: Places,
        *,
        cgroups: Callable[[], Sequence[str]] | None = None,
        first: Callable[[Keeper], None] | None = None,
    ) -> Keeper:
        """Connect to the keeper of ``places``, and start one if there is none.

        ``cgroups`` gives the arguments of a new keeper that name the groups which it, and so its monitors, move to.
        ``first`` sends a request in the same breath; a keeper that does not get to it is not the one that is returned.
        Raises: Unavailable, NotFound if corral-keeper is not installed.
        """
        path = f"{places.run}/keeper.sock"
        until = time.monotonic() + _START_KEEPER_S
        while True:
            try:
                found = cls(connect(path), "the keeper")
            except OSError as exc:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"connect to {path}: {(exc.strerror or '').lower()}",
                        hint=f"{places.run}/keeper.log may say why no keeper listens there",
                        path=path,
                    ) from exc
                _start_keeper(places.run, cgroups() if cgroups is not None else ())
                continue
            try:
                # One that is about to end, or was killed, still takes connections for a moment.
                found._greet(first)
            except Unavailable:
                found.close()
                continue
            except BaseException:
                found.close()
                raise
            return found

    def _greet(self, first: Callable[[Keeper], None] | None) -> None:
        """Raises: Unavailable when it has ended; it takes requests in their order, so ``first`` was not taken."""
        self._request(_PING)
        if first is not None:
            first(self)
        self._answer()

    def send_spawn(self, spec: Mapping[str, str], planner_socket: int = -1) -> None:
        """Ask for a monitor for ``spec``, which gets ``planner_socket`` (a copy); ``spawned`` tells of it.

        Without a socket, it adopts what an earlier monitor of that run directory left.
        """
        text = "".join(f"{key}={value}\0" for key, value in spec.items())
        fds = (planner_socket,) if planner_socket >= 0 else ()
        self._request(_SPAWN, body=text.encode("utf-8", "surrogateescape"), fds=fds)

    def spawned(self, spec: Mapping[str, str], planner_socket: int = -1) -> int:
        """The pid of the monitor that ``send_spawn`` asked for with the same arguments. Raises: CorralError."""
        until = time.monotonic() + _LAST_MONITOR_S
        while True:
            try:
                return self._answer()
            except AlreadyExists:
                # That of the last run may be about to end: it has told everybody, and puts its files away.
                if time.monotonic() > until:
                    raise
            time.sleep(0.005)
            self.send_spawn(spec, planner_socket)

    def spawn(self, spec: Mapping[str, str], planner_socket: int = -1) -> int:
        """``send_spawn`` and ``spawned``. Raises: AlreadyExists, CorralError."""
        self.send_spawn(spec, planner_socket)
        return self.spawned(spec, planner_socket)

    def run_at(self, container_id: str, delay_ms: int) -> None:
        """Have ``COMMAND _due ID`` run in so many milliseconds, instead of an earlier such wish of this container.

        COMMAND is that of the last monitor spec; without any, the wish is refused: FailedPrecondition.
        """
        self._ask(_RUN_AT, max(0, min(delay_ms, 0xFFFFFFFF)), container_id.encode())

    def list(self) -> list[dict[str, str | int]]:
        """What it keeps: ``id``, ``exec`` ("" or the exec's id), ``monitor`` and ``init`` (pids), ``state``."""
        self._send(_LIST)
        found: list[dict[str, str | int]] = []
        while True:
            answer = self._receive(_ANSWER_S)
            if answer is None or answer[0] != _ITEM:
                return found
            container_id, exec_id, state = answer[3].decode("utf-8", "surrogateescape").split("\0")
            found.append({"id": container_id, "exec": exec_id, "monitor": answer[2], "init": answer[1], "state": state})

    def shut_down(self) -> None:
        """End it. Raises: FailedPrecondition while it has monitors or commands to run."""
        self._ask(_SHUTDOWN)


def _start_keeper(run: str, arguments: Sequence[str]) -> None:
    from corral.engine import programs

    words = [programs.find_program("corral-keeper"), run, *arguments]
    result = programs.run(words, timeout_s=_START_KEEPER_S)
    if result.code:
        raise Unavailable(f"start the keeper: {result.output.strip()}", path=run)
    # Another one may have been about to end, or not yet listening.
    time.sleep(0.005)


class Monitor(_Peer):
    """The monitor of a container's run, or of an exec."""

    __slots__ = ()

    @classmethod
    def connect(cls, run_directory: str) -> Monitor:
        """Connect to the monitor in a run directory. Raises: OSError where none listens."""
        return cls(connect(f"{run_directory}/monitor.sock"), "the monitor")

    @classmethod
    def attending_or_none(cls, run_directory: str) -> Monitor | None:
        """Connect, and take care of the end to come: ``done`` when that is done. None where no monitor listens."""
        try:
            found = cls.connect(run_directory)
        except OSError:
            return None
        try:
            found.send_attend()
        except OSError:
            found.close()
            return None
        return found

    @property
    def pid(self) -> int:
        """The monitor's own pid."""
        return peer_credentials(self._socket)[0]

    def start(self) -> list[str]:
        """Let the created process go; return warnings. Raises: FailedPrecondition with the words of who refused."""
        warnings: list[str] = []
        self._ask(_START, timeout_s=_START_S, warnings=warnings)
        return warnings

    def attach(self, *, stdin: int = -1, stdout: int = -1, stderr: int = -1, attends: bool = False) -> None:
        """Connect descriptors (copies are sent) with the process until this connection ends.

        Output comes from now on; a reader that is slow slows the process down. When the process has ended and all its
        output was written, the monitor closes the connection; or, if it ``attends``, sends what ``receive_exit`` gives.
        """
        given = [(stdin, 1), (stdout, 2), (stderr, 4)]
        flags = sum(bit for fd, bit in given if fd >= 0) | (8 if attends else 0)
        self._ask(_ATTACH, flags, fds=[fd for fd, _ in given if fd >= 0])

    def wait_detached(self, timeout_s: float | None = None) -> None:
        """Wait until the process has ended and an ``attach`` of this connection has had all output. Raises: Timeout."""
        while self.receive_lost(timeout_s) is not None:
            pass

    def receive_lost(self, timeout_s: float | None = None) -> tuple[str, int] | None:
        """Wait for a descriptor of an ``attach`` to fail: its stream, and the errno. None: as ``wait_detached``."""
        while not self._lost:
            answer = self._receive(timeout_s)
            if answer is None:
                return None
            if answer[0] == _LOST:
                self._lost.append((_STREAM_FLAGS.get(answer[2], ""), answer[1]))
        return self._lost.pop(0)

    def send_watch(self) -> None:
        """Ask for the end; ``receive_exit`` when the connection is readable."""
        self._send(_WATCH)

    def send_attend(self) -> None:
        """Ask for the end, and take care of it: the monitor then waits for ``done``."""
        self._send(_ATTEND)

    def receive_exit(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The exit record, once it is on disk; None if the monitor is gone. Raises: Timeout."""
        while True:
            answer = self._receive(timeout_s)
            if answer is None:
                return None
            if answer[0] == _EXITED:
                return loads(answer[3], "the exit record")  # type: ignore[return-value]

    def watch(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Wait for the end; as ``receive_exit``."""
        self.send_watch()
        return self.receive_exit(timeout_s)

    def attend(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Wait for the end and take care of it: ``done`` says that what follows from it was done."""
        self.send_attend()
        return self.receive_exit(timeout_s)

    def done(self) -> None:
        """What follows from the end was done here; the monitor ends without the engine's command being run."""
        try:
            self._send(_DONE)
        except (BrokenPipeError, ConnectionResetError):
            return

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal. Raises: FailedPrecondition if it has none."""
        self._ask(_RESIZE, rows << 16 | columns)

    def close_stdin(self) -> None:
        """End its standard input."""
        self._ask(_CLOSE_STDIN)

    def reopen_log(self) -> None:
        """Open the file ``log`` anew, after somebody renamed it."""
        self._ask(_REOPEN_LOG)


def _probe(path: str) -> Socket | None:
    try:
        return connect(path)
    except OSError:
        return None


def has_keeper(places: Places) -> bool:
    """Whether a keeper listens."""
    sock = _probe(f"{places.run}/keeper.sock")
    if sock is None:
        return False
    sock.close()
    return True


def keeper_pid_or_none(places: Places) -> int | None:
    """The pid of the keeper that listens, by its lock's file: its socket knows only who started it."""
    text = read_bytes_or_none(f"{places.run}/keeper.lock") if has_keeper(places) else None
    return int(text) if text and text.strip().isdigit() else None


def has_monitor(run_directory: str) -> bool:
    """Whether a monitor listens in a run directory."""
    return monitor_pid_or_none(run_directory) is not None


def monitor_pid_or_none(run_directory: str) -> int | None:
    """The pid of the monitor that listens in a run directory."""
    sock = _probe(f"{run_directory}/monitor.sock")
    if sock is None:
        return None
    try:
        return peer_credentials(sock)[0]
    finally:
        sock.close()
