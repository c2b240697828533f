"""The service: its socket, who may speak to it, what each request means, and its end.

::

    starting ── lock, socket, planner ──► serving ── SIGTERM, SIGINT ──► draining ──► ended
                                             (SIGKILL at any point: containers do not notice)
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket

from corral import __version__
from corral.engine import status
from corral.engine.library import Engine
from corral.engine.names import make_id
from corral.engine.programs import child_environment, find_program
from corral.errors import AlreadyExists, CorralError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from corral.serve.attending import Attendant
from corral.serve.calls import calls, find_call
from corral.serve.connection import Connection, Request
from corral.serve.problems import to_error
from corral.serve.reads import read
from corral.serve.tracing import span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Service"]

SOCKET = "serve.sock"
CLIENTS_MAX = 256
DRAIN_S = 10.0
_LISTEN_FD = 3
_STOP_FD = 9
_log = logging.getLogger("corral.serve")


class Service:
    """One service of one store. ``group``: members of it may connect as well (a number, or None)."""

    def __init__(self, store: str = "", run_dir: str = "", *, group: int | None = None) -> None:
        self._engine = Engine(store, run_dir, reconciles=False)
        self._group = group
        self._attendant = Attendant(self._engine)
        self._clients: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._is_draining = False

    @property
    def path(self) -> str:
        """Where it listens."""
        return f"{self._engine.places.run}/{SOCKET}"

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then answer what is under way. Raises: AlreadyExists, CorralError."""
        async with self._engine:
            with _only_one(self.path), contextlib.ExitStack() as stack:
                listener = self._listen(stack)
                stop = asyncio.Event()
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
                server = await asyncio.start_unix_server(self._connected, sock=listener, backlog=CLIENTS_MAX)
                # Each answer is the kernel's of that moment, so it is true from the first one on; that the store is
                # looked through, and that no request waits for an import, comes beside them.
                _notify("READY=1")
                _log.info("serving %s at %s", self._engine.places.store, self.path)
                attending = asyncio.ensure_future(self._attendant.run())
                await self._engine.do(calls)
                try:
                    self._start_helpers(stack)
                    await asyncio.wait({asyncio.ensure_future(stop.wait()), attending}, return_when="FIRST_COMPLETED")
                    if attending.done():
                        attending.result()
                finally:
                    _notify("STOPPING=1")
                    server.close()
                    await self._drain()
                    attending.cancel()
                    await asyncio.gather(attending, return_exceptions=True)

    def _start_helpers(self, stack: contextlib.ExitStack) -> None:
        """Those that make things faster, and without which all works: after the service itself answers."""
        places = self._engine.places
        store = ["--store", places.store, "--run-dir", places.run]
        stack.enter_context(_beside([find_program("corral"), *store, "_resident"]))
        stack.enter_context(_beside([find_program("corral-runtime"), "--root", places.runtime_root, "planner"]))

    async def _drain(self) -> None:
        """What is being answered gets its answer, within a bound; streams and idle clients end at once."""
        self._is_draining = True
        until = asyncio.get_running_loop().time() + DRAIN_S
        while self._busy and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    # ---- who connects ------------------------------------------------------------------------------------------

    def _listen(self, stack: contextlib.ExitStack) -> socket.socket:
        """The socket: systemd's, if it gave one, or our own, which is complete before it has its name."""
        if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
            return socket.socket(fileno=_LISTEN_FD)
        fresh = f"{self.path}.{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A path may be longer than an address of the kernel's: it is named below a descriptor.
        directory = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY)
        try:
            before = os.umask(0o177)
            try:
                listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(fresh)}")
            finally:
                os.umask(before)
            if self._group is not None:
                os.chown(fresh, -1, self._group)
                os.chmod(fresh, 0o660)
            listener.listen(CLIENTS_MAX)
            os.rename(fresh, self.path)
        finally:
            os.close(directory)
        stack.callback(self._unlink)
        return listener

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _check_peer(self, peer: tuple[int, int, int]) -> None:
        """Our own user and root; with ``group`` its members, by the groups that the kernel says they have."""
        pid, uid, gid = peer
        if uid in (os.geteuid(), 0) or (self._group is not None and self._group in (gid, *_groups_of(pid))):
            return
        raise PermissionDenied(
            f"connect to {self.path}: uid {uid} may not",
            hint="it is for its own user and root; `corral serve --group` lets a group in",
        )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            peer = _peer_of(writer)
            connection = Connection(reader, writer, peer, self._answer)
            try:
                self._check_peer(peer)
            except PermissionDenied as exc:
                _log.warning("%s", exc)
                writer.close()
                return
            if len(self._clients) > CLIENTS_MAX:
                _log.warning("more than %d clients: pid %d is sent away", CLIENTS_MAX, peer[0])
                writer.close()
                return
            try:
                await connection.run()
            finally:
                for container_id in connection.attended:
                    await self._attendant.take_over(container_id)
                if connection.held:
                    await self._give_up(connection.held)
        finally:
            self._clients.discard(task)

    async def _give_up(self, held: set[str]) -> None:
        """Containers that their client wanted to start itself, and it is gone: as if they had not been asked for."""
        for container_id in held:
            try:
                facts = await self._engine.do(status.look, self._engine.places, container_id)
                if facts.status == status.MADE:
                    _log.warning("the client of %s went away before its start", container_id[:12])
                    await self._engine.verb("rm", container_id, force=True)
            except NotFound:
                continue
            except CorralError as exc:
                _log.warning("take back %s: %s", container_id[:12], exc)

    # ---- what is asked -----------------------------------------------------------------------------------------

    async def _answer(self, request: Request, connection: Connection) -> None:
        operation = f"{request.method} {request.path}"
        try:
            if request.method == "GET":
                await self._get(request, connection)
            elif request.method == "POST" and request.path.startswith("/v1/"):
                await self._post(request, connection)
            else:
                raise InvalidArgument(f"{operation}: neither a GET nor a POST below /v1", hint="see /openapi.json")
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            raise
        except Exception as exc:
            error = to_error(exc, operation)
            if error.kind == "internal":
                _log.exception("%s", operation)
            raise error from exc

    async def _post(self, request: Request, connection: Connection) -> None:
        verb = request.path.removeprefix("/v1/")
        if request.version not in ("", __version__):
            # Before anything is done: what this client means by a name may not be what is meant here.
            raise Unavailable(
                f"call {verb}: the service is Corral {__version__}, its client {request.version}",
                hint="end `corral serve` and start it again; `--no-service` works without it",
                phase="version",
            )
        call = find_call(verb)
        arguments = call.arguments(request.json())
        if self._is_draining:
            raise Unavailable(f"call {verb}: the service is about to end", hint="call again: corral works without it")
        self._busy += 1
        try:
            _log.info("%s by uid %d pid %d", verb, connection.peer[1], connection.peer[0])
            with span(verb):
                self._arrange_end(verb, arguments, connection)
                result = await self._engine.verb(call.verb, **arguments)
            self._hold(verb, arguments, result, connection)
            await connection.send_json(result)
        finally:
            self._busy -= 1

    def _arrange_end(self, verb: str, arguments: dict[str, Any], connection: Connection) -> None:
        """Who attends the end of what is about to be started: this service, or the client that holds it."""
        if verb == "run" and not arguments.get("is_created_only"):
            container_id = str(arguments["request"].get("id") or make_id())
            arguments["request"] = {**arguments["request"], "id": container_id}
            arguments["before_release"] = self._attendant.from_the_start(container_id)
        elif verb == "start" and arguments["reference"] in connection.held:
            connection.attended.add(arguments["reference"])
            self._attendant.excuse(arguments["reference"])
        elif verb == "wait":
            arguments["is_wanted"] = lambda: connection.is_there and not self._is_draining

    @staticmethod
    def _hold(verb: str, arguments: dict[str, Any], result: object, connection: Connection) -> None:
        if verb in ("run", "start") and isinstance(result, dict):
            if arguments.get("is_created_only") and verb == "run":
                connection.held.add(result["id"])
            else:
                connection.held.discard(result["id"])

    async def _get(self, request: Request, connection: Connection) -> None:
        path = request.path
        if path == "/healthz":
            await connection.send_json({"status": "ok"})
        elif path == "/readyz":
            is_ready = not self._is_draining
            await connection.send_json({"status": "ok" if is_ready else "ending"}, 200 if is_ready else 503)
        elif path == "/openapi.json":
            from corral.serve.openapi import document

            await connection.send_json(document())
        elif path == "/metrics":
            # Nobody else needs what it imports, which is a third of what the service needs to start.
            from corral.serve.metrics import exposition

            text = await self._engine.do(exposition, self._engine.places)
            await connection.send_bytes(text, "text/plain; version=0.0.4; charset=utf-8")
        else:
            await read(self._engine, request, connection)


@contextlib.contextmanager
def _only_one(path: str) -> Any:  # noqa: ANN401 -- a generator in the eyes of the decorator
    """Holds RUN/serve.lock. Raises: AlreadyExists."""
    lock = os.open(path.removesuffix(".sock") + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(f"serve at {path}: another service of this store is there", path=path) from None
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _beside(words: list[str]) -> Any:  # noqa: ANN401
    """A process that ends when this one does: the resident planner, for fronts that use the store's state root, and the
    resident commands (docs/adr/0009). Not threads here: both fork.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    words = [*words, f"--stop-fd={_STOP_FD}"]
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, read_end, _STOP_FD)]
    try:
        child = os.posix_spawn(words[0], words, child_environment(), file_actions=actions, setsid=True)
    finally:
        os.close(null)
        os.close(read_end)
    try:
        yield
    finally:
        os.close(write_end)
        os.waitpid(child, 0)


def _peer_of(writer: asyncio.StreamWriter) -> tuple[int, int, int]:
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = (int.from_bytes(raw[at : at + 4], "little", signed=True) for at in (0, 4, 8))
    return pid, uid, gid


def _groups_of(pid: int) -> tuple[int, ...]:
    """Supplementary groups of a process; none when it cannot be seen."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("Groups:"):
                    return tuple(int(word) for word in line.split()[1:])
    except OSError:
        return ()
    return ()


def _notify(text: str) -> None:
    """Tell systemd, if it started us and asked. Source: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send(text.encode())
        except OSError as exc:
            _log.warning("notify %s: %s", address, exc)
