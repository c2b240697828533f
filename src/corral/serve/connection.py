"""One client: HTTP/1.1 by h11 over a unix socket, with bounds on everything that a client can send or leave open."""

from __future__ import annotations

import asyncio
import json
import select
import urllib.parse

import h11

from corral.errors import CorralError, InvalidArgument, ResourceExhausted
from corral.serve.problems import body_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any, TypeVar

    Answering = Callable[["Request", "Connection"], Awaitable[None]]
    _T = TypeVar("_T")

__all__ = ["Connection", "Request"]

HEAD_MAX = 64 << 10
BODY_MAX = 4 << 20
# A request has to be complete this long after its first byte; a client may be idle between requests for longer.
REQUEST_S = 30.0
# A client that does not read a whole buffer for so long is gone for us.
WRITE_S = 60.0
# How often it is asked whether a client still waits for what may take any time.
_ASK_S = 1.0


class Request:
    """A complete request. ``query``: the last value of each name. ``version``: of a Corral that asks; "" of others."""

    __slots__ = ("body", "method", "path", "query", "version")

    def __init__(self, method: str, target: str, body: bytes, version: str = "") -> None:
        self.method = method
        self.version = version
        path, _, query = target.partition("?")
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.body = body

    def json(self) -> object:
        """The body as JSON; an empty one is an empty object. Raises: InvalidArgument."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
            if b"\\ud" in self.body or b"\\uD" in self.body or b"\xed" in self.body:
                # Halves of surrogate pairs stand for bytes that are no UTF-8, as in paths; others are no text at all.
                json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError) as exc:
            raise InvalidArgument(f"read the body of {self.path}: {exc}", hint="send JSON") from exc
        return value

    def flag(self, name: str) -> bool:
        """A query parameter as a truth value; ``?name`` alone is true."""
        return self.query.get(name, "0").lower() in ("", "1", "true", "yes")

    def number(self, name: str, default: float | None = None) -> float | None:
        """A query parameter as a number. Raises: InvalidArgument."""
        text = self.query.get(name, "")
        if not text:
            return default
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found < 1e18:
            raise InvalidArgument(f"read {self.path}: {name}={text!r} is no number from 0 up")
        return found


class Connection:
    """Reads requests and hands them to ``answer`` one after the other, until the client closes or misbehaves.

    ``peer``: (pid, uid, gid) of who connected. ``held``: ids of containers that wait for this client to start them.
    ``attended``: of those that it has let go since, and whose ends it attends.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: tuple[int, int, int], answer: Answering
    ) -> None:
        self.peer = peer
        self.held: set[str] = set()
        self.attended: set[str] = set()
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)

    async def run(self) -> None:
        """Until the end of the connection. Closes it."""
        try:
            while True:
                request = await self._read_request()
                if request is None:
                    return
                await self._respond(request)
                if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is h11.MUST_CLOSE:
                    return
                self._http.start_next_cycle()
        except (ConnectionError, TimeoutError, h11.LocalProtocolError):
            return  # the client is gone, or does not read
        finally:
            self._writer.close()

    @property
    def is_there(self) -> bool:
        """Whether the client still has its end open, asked of the kernel; in any thread."""
        try:
            poll = select.poll()
            poll.register(self._writer.get_extra_info("socket").fileno(), 0)
            return not poll.poll(0)
        except (ValueError, OSError):
            return False  # closed here

    async def while_there(self, waiting: Awaitable[_T]) -> _T:
        """What ``waiting`` gives. Raises: ConnectionResetError, and nobody waits any more, when the client has gone."""
        task = asyncio.ensure_future(waiting)
        try:
            while not (await asyncio.wait((task,), timeout=_ASK_S))[0]:
                if not self.is_there:
                    raise ConnectionResetError
            return task.result()
        finally:
            task.cancel()

    async def _read_request(self) -> Request | None:
        """The next request; None when the client has ended, or was told why it is not understood."""
        event = self._http.next_event() if self._http.trailing_data[0] else h11.NEED_DATA
        if event is h11.NEED_DATA:
            data = await self._reader.read(HEAD_MAX)
            self._http.receive_data(data)
            if not data:
                return None
        try:
            async with asyncio.timeout(REQUEST_S):
                return await self._complete(None if event is h11.NEED_DATA else event)
        except h11.RemoteProtocolError as exc:
            await self._refuse(InvalidArgument(f"read a request: {exc}"), exc.error_status_hint or 400)
        except ResourceExhausted as exc:
            await self._refuse(exc, 413)
        except TimeoutError:
            await self._refuse(InvalidArgument(f"read a request: not complete after {REQUEST_S:g} s"), 408)
        return None

    async def _complete(self, event: object) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            if event is None:
                event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._reader.read(HEAD_MAX))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_MAX:
                    raise ResourceExhausted(f"read a request: its body is longer than {BODY_MAX >> 20} MiB")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                version = dict(head.headers).get(b"corral-version", b"").decode("ascii", "replace")
                return Request(head.method.decode("ascii"), head.target.decode("ascii"), bytes(body), version)
            else:
                return None
            event = None

    async def _respond(self, request: Request) -> None:
        try:
            await self._answer(request, self)
        except CorralError as exc:
            if self._http.our_state is not h11.SEND_RESPONSE:
                # In the middle of a stream: the client sees that it is not complete.
                raise ConnectionResetError from exc
            await self.send_json(body_of(exc), status_of(exc))

    async def _refuse(self, error: CorralError, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.send_json(body_of(error), status, [("connection", "close")])

    async def send_json(self, value: object, status: int = 200, headers: list[tuple[str, str]] | None = None) -> None:
        """Answer with one JSON value."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        await self.send_bytes(text + b"\n", "application/json", status, headers)

    async def send_bytes(
        self, data: bytes, content_type: str, status: int = 200, headers: list[tuple[str, str]] | None = None
    ) -> None:
        """Answer with these bytes."""
        head = [("content-type", content_type), ("content-length", str(len(data))), *(headers or [])]
        out = self._http.send(h11.Response(status_code=status, headers=head)) or b""
        out += self._http.send(h11.Data(data=data)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        await self._write(out)

    async def send_lines(self, items: AsyncIterator[Any]) -> None:
        """Answer with one JSON line per item, as they come; ends when the client goes, also while nothing comes."""
        head = [("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked")]
        await self._send(h11.Response(status_code=200, headers=head))
        lines = asyncio.ensure_future(self._pour(items))
        # A client sends nothing while it reads a stream: whatever comes is its end.
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait((lines, gone), return_when=asyncio.FIRST_COMPLETED)
            if not lines.done():
                raise ConnectionResetError
            lines.result()
        finally:
            for task in (lines, gone):
                task.cancel()
            await asyncio.gather(lines, gone, return_exceptions=True)
        await self._send(h11.EndOfMessage())
        # What the reader may have taken is lost for the next request.
        raise ConnectionResetError

    async def _pour(self, items: AsyncIterator[Any]) -> None:
        async for item in items:
            text = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
            await self._send(h11.Data(data=text + b"\n"))

    async def _send(self, event: h11.Event) -> None:
        await self._write(self._http.send(event) or b"")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(WRITE_S):
            await self._writer.drain()
