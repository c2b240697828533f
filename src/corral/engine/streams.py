"""Pipes between a process in a container and an asyncio program; the monitor has the other ends."""

from __future__ import annotations

import asyncio
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any, Self

    from corral.engine.keeper import Monitor

__all__ = ["Pipes", "Streams", "attended_end", "changes", "readable"]

_LIMIT = 1 << 20


class Pipes:
    """Pipes that are not attached yet: ``attach`` hands one end of each to the monitor, ``streams`` has the others."""

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self._ours: dict[str, int] = {}
        self._theirs: dict[str, int] = {}
        try:
            for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                if wanted:
                    read, write = os.pipe2(os.O_CLOEXEC)
                    self._ours[name], self._theirs[name] = (write, read) if name == "stdin" else (read, write)
        except OSError:
            self.close()
            raise

    def attach(self, monitor: Monitor) -> None:
        """Connect them with the process of ``monitor``; called before it begins. Raises: CorralError."""
        # The connection ends with the process's output, so it has to outlive this call: it is duplicated.
        given = {name: self._theirs.get(name, -1) for name in ("stdin", "stdout", "stderr")}
        monitor.attach(stdin=given["stdin"], stdout=given["stdout"], stderr=given["stderr"])
        self._theirs["connection"] = os.dup(monitor.fileno())

    def close(self) -> None:
        """Close all that is still open here. Idempotent."""
        for fd in (*self._ours.values(), *self._theirs.values()):
            os.close(fd)
        self._ours.clear()
        self._theirs.clear()

    async def streams(self) -> Streams:
        """The program's ends, which belong to the result."""
        for name in ("stdin", "stdout", "stderr"):
            if name in self._theirs:
                os.close(self._theirs.pop(name))
        found = Streams(self._theirs.pop("connection", -1))
        loop = asyncio.get_running_loop()
        ours, self._ours = self._ours, {}
        for name, fd in ours.items():
            file = os.fdopen(fd, "wb" if name == "stdin" else "rb", buffering=0)
            if name == "stdin":
                transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
                found.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
            else:
                reader = asyncio.StreamReader(limit=_LIMIT)
                transport_read, _ = await loop.connect_read_pipe(_protocol_for(reader), file)
                found.keep(transport_read)
                setattr(found, name, reader)
        return found


def _protocol_for(reader: asyncio.StreamReader) -> type[asyncio.StreamReaderProtocol]:
    def make() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(reader)

    return make  # type: ignore[return-value]  # a factory is all that is called


class Streams:
    """What a process reads and writes. ``stdin``, ``stdout``, ``stderr``: None where it was not attached.

    An async context manager; ``close`` gives up all three, and the process goes on.
    """

    def __init__(self, connection: int) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._connection = connection
        self._transports: list[asyncio.BaseTransport] = []

    def keep(self, transport: asyncio.BaseTransport) -> None:
        """Close this transport with the rest."""
        self._transports.append(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        if self.stdin is not None:
            self.stdin.close()
            self.stdin = None
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        if self._connection >= 0:
            os.close(self._connection)
            self._connection = -1

    async def communicate(self, data: bytes = b"") -> tuple[bytes, bytes]:
        """Send ``data``, end the input, and return all output of both streams; then disconnect."""

        async def read(reader: asyncio.StreamReader | None) -> bytes:
            return await reader.read() if reader is not None else b""

        async def write() -> None:
            if self.stdin is None:
                return
            try:
                self.stdin.write(data)
                await self.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # It did not want all of it.
            self.stdin.close()
            self.stdin = None

        _, out, err = await asyncio.gather(write(), read(self.stdout), read(self.stderr))
        await self.close()
        return out, err


async def readable(fd: int, timeout_s: float | None = None) -> bool:
    """Wait until a descriptor is readable; False when the time is over. Cancel-safe."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()
    loop.add_reader(fd, _set_once, future)
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)


def _set_once(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


async def attended_end(run_directory: str, timeout_s: float | None) -> tuple[dict[str, Any] | None, bool]:
    """The exit record of what has a monitor there, the end being the caller's; and whether the time is over.

    (None, False): no monitor is there, or it died; another one may come.
    """
    from corral.engine.keeper import Monitor

    monitor = Monitor.attending_or_none(run_directory)
    if monitor is None:
        return None, False
    with monitor:
        if not await readable(monitor.fileno(), timeout_s):
            return None, True
        record = monitor.receive_exit()
        if record is not None:
            monitor.done()
        return record, False


async def changes(directory: str) -> AsyncGenerator[None, None]:
    """One item at first, and then one for each change of the files in ``directory``."""
    from corral.linux.inotify import DirectoryWatch

    with DirectoryWatch(directory) as watch:
        yield
        while True:
            if watch.fileno() < 0:
                await asyncio.sleep(0.1)
            elif await readable(watch.fileno(), 5.0):
                watch.wait(0)
            yield
