"""Containers from Python: ``async with corral.Engine() as engine: await (await engine.run("host", ["true"])).wait()``.

Every verb is one that the command line has; it runs in a worker thread, and what takes long is waited for on the loop.
Cancelling a call leaves what it has begun to be finished by whoever comes next; nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from concurrent.futures import ThreadPoolExecutor

from corral.engine import exits, journal, names, status
from corral.engine.places import Places, is_rootless
from corral.engine.settle import settle
from corral.engine.streams import Pipes, Streams, attended_end, changes, readable
from corral.engine.verbs import find
from corral.errors import NotFound, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from typing import Any, Self

    from corral.cgroup.events import GroupEvent
    from corral.engine.logs import Entry

    JSON = dict[str, Any]

__all__ = ["Container", "Engine", "Exec", "Exit", "Image", "Pod"]

_WORKERS = 32
# Verbs that wait for what a container does have threads of their own, so that they hold nothing else up.
_WAITERS = 256
_WAITING = frozenset({"wait", "stop", "restart", "rm", "pod_stop", "pod_rm"})
_LOST_S = 1.0


class Exit:
    """How a process ended. ``code``: the exit code, 128 + signal, or None where nobody can know; ``source`` says why.

    ``reason``: in words, where there is more to say (``OOMKilled``, ``the host was restarted``).
    """

    __slots__ = ("code", "is_oom_killed", "raw", "reason", "signal", "source")

    def __init__(self, raw: JSON) -> None:
        self.raw = raw
        self.code: int | None = raw.get("code")
        self.signal: str = raw.get("signal", "")
        self.source: str = raw.get("source", "unknown")
        self.reason: str = raw.get("reason", "")
        self.is_oom_killed = bool(raw.get("oom_killed"))

    def __repr__(self) -> str:
        return f"Exit(code={self.code}, source={self.source!r}, reason={self.reason!r})"


class Engine:
    """One store and what is in it. Several may work on one store at once, in this process and in others.

    An async context manager: entering makes the store's directories and, with ``reconciles``, finishes what crashes
    have left; leaving ends the worker threads and nothing else.
    """

    def __init__(self, store: str = "", run_dir: str = "", *, reconciles: bool = True) -> None:
        self.places = Places.find(os.environ, store=store, run=run_dir)
        self._reconciles = reconciles
        self._workers: ThreadPoolExecutor | None = None
        self._waiters: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="corral")
        self._waiters = ThreadPoolExecutor(_WAITERS, thread_name_prefix="corral-waiting")
        await self.do(self.places.prepare)
        if self._reconciles:
            from corral.engine.reconcile import reconcile

            await self.do(reconcile, self.places)
        return self

    async def __aexit__(self, *_: object) -> None:
        pools = (self._workers, self._waiters)
        self._workers = self._waiters = None
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    async def do(self, function: Callable[..., Any], /, *args: object, **options: object) -> Any:  # noqa: ANN401
        """Call a blocking function in a worker thread."""
        call = functools.partial(function, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    async def verb(self, name: str, /, *args: object, **options: object) -> Any:  # noqa: ANN401 -- each has its own
        """Call a verb (``corral.engine.verbs``) on this store in a worker thread."""
        pool = self._waiters if name in _WAITING else self._workers
        call = functools.partial(find(name), self.places, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    # ---- containers ------------------------------------------------------------------------------------------------

    async def create(self, image: str, command: Sequence[str] = (), **options: object) -> Container:
        """Make a container. ``options`` are those of ``corral run``, ``_`` for ``-`` (``memory="64m"``, ``env=[...]``).

        ``image``: a name, or ``host`` for this machine's own root. ``definition``: one that is ready, instead of all.
        Raises: CorralError.
        """
        request = await self.do(self._definition, image, command, options)
        made = await self.verb("create", request)
        return Container(self, made["id"], made["name"])

    async def run(self, image: str, command: Sequence[str] = (), **options: object) -> Container:
        """``create`` and ``start``. Raises: CorralError; nothing is left then if ``rm=True`` was given."""
        request = await self.do(self._definition, image, command, options)
        made = await self.verb("run", request)
        return Container(self, made["id"], made["name"])

    def _definition(self, image: str, command: Sequence[str], options: Mapping[str, object]) -> JSON:
        given = options.get("definition")
        if isinstance(given, dict) and len(options) == 1:
            return given
        from corral.engine.option_names import check_options
        from corral.engine.options import definition_from

        flags = check_options(options)
        made = definition_from(flags, image, command, environ=os.environ, cwd=os.getcwd(), is_rootless=is_rootless())
        if made["process"].get("stdin"):
            # Closing ``Streams.stdin`` is the end of the program's input.
            made["process"].setdefault("stdin_once", True)
        return {key: value for key, value in made.items() if key not in ("id", "created_ns") and value != ""}

    async def get(self, reference: str) -> Container:
        """The container of this name, id or beginning of an id. Raises: NotFound."""
        container_id = await self.do(names.find_id, self.places, reference)
        facts = await self.do(status.look, self.places, container_id)
        return Container(self, container_id, facts.definition.get("name", ""))

    async def containers(self, *, is_all: bool = False, filters: Sequence[str] = ()) -> list[Container]:
        """Containers that live, or all, newest first."""
        rows = await self.verb("ps", is_all=is_all, filters=list(filters))
        return [Container(self, row["id"], row["name"]) for row in rows]

    async def stats(self) -> list[JSON]:
        """One sample of each container that lives."""
        found: list[JSON] = await self.verb("stats")
        return found

    # ---- pods and images -------------------------------------------------------------------------------------------

    async def create_pod(self, name: str = "", **members: object) -> Pod:
        """Make a pod; ``members`` as ``share``, ``network``, ``labels``, ``hostname``. Raises: CorralError."""
        made = await self.verb("pod_create", {**members, "name": name})
        return Pod(self, made["id"], made["name"])

    async def pods(self) -> list[Pod]:
        """All pods, newest first."""
        return [Pod(self, row["id"], row["name"]) for row in await self.verb("pod_ps")]

    async def images(self) -> list[Image]:
        """All images of the store."""
        return [Image(self, item) for item in await self.do(lambda: self._images().list())]

    async def pull(self, name: str) -> Image:
        """Get an image from its registry if it is not here. Raises: CorralError."""
        from corral.image.pull import pull

        return Image(self, await self.do(lambda: pull(self._images(), name)))

    def _images(self) -> Any:  # noqa: ANN401 -- imported when it is needed
        from corral.image.store import ImageStore

        return ImageStore(self.places.images)

    # ---- the store as a whole --------------------------------------------------------------------------------------

    async def events(self, *, after: int | None = None, filters: Sequence[str] = ()) -> AsyncIterator[JSON]:
        """Events as they happen, for ever; with ``after`` those with a higher number first (0: all there are).

        Where some are lost there is an item ``{"type": "gap", "from", "to"}``. A slow reader holds nobody up.
        """
        from corral.engine.verbs.events import batch

        seen = await self.do(journal.last_number, self.places) if after is None else after
        async for _ in changes(self.places.events):
            seen, found = await self.do(batch, self.places, seen, list(filters))
            for event in found:
                yield event

    async def gc(self) -> list[JSON]:
        """Finish what crashes left; what was done."""
        done: list[JSON] = await self.verb("gc")
        return done

    async def info(self) -> JSON:
        """The host and the store."""
        found: JSON = await self.verb("system_info")
        return found


class Container:
    """One container. ``id`` never changes; ``name`` is what it was called when it was looked up."""

    def __init__(self, engine: Engine, container_id: str, name: str) -> None:
        self.engine = engine
        self.id = container_id
        self.name = name

    def __repr__(self) -> str:
        return f"Container({self.name!r}, {self.id[:12]})"

    async def start(self, *, stdin: bool = False, stdout: bool = False, stderr: bool = False) -> Streams:
        """Start it; the streams asked for are connected before its program begins. Raises: CorralError."""
        async with _Attaching(stdin=stdin, stdout=stdout, stderr=stderr) as pipes:
            await self.engine.verb("start", self.id, before_release=pipes.hook)
            return await pipes.streams()

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Wait for the end of the run that is under way, whatever the restart policy does then.

        Raises: Timeout, NotFound.
        """
        places = self.engine.places
        facts = await self.engine.do(status.look, places, self.id)
        if facts.is_live:
            record = await self._watch(timeout_s)
            if record is not None:
                try:
                    return Exit(await self.engine.do(settle, places, self.id) or exits.to_exit(record))
                except NotFound:
                    return Exit(exits.to_exit(record))
        ended = await self.engine.verb("wait", self.id, timeout_s=timeout_s, is_one_run=True)
        return Exit(ended["exit"])

    async def _watch(self, timeout_s: float | None) -> JSON | None:
        """Its exit record, waited for on the loop; None if its monitor does not give it. Raises: Timeout."""
        from corral.engine.keeper import Monitor

        try:
            monitor = Monitor.connect(self.engine.places.container_run(self.id))
        except OSError:
            return None
        with monitor:
            monitor.send_watch()
            if not await readable(monitor.fileno(), timeout_s):
                raise Timeout(f"wait for container {self.name!r} to end: it did not within {timeout_s:g} s")
            found: JSON | None = monitor.receive_exit()
            return found

    async def stop(self, timeout_s: float | None = None) -> Exit:
        """End it, by force when ``timeout_s`` (its own: None) is over. Raises: Timeout, saying what stays and where."""
        return Exit((await self.engine.verb("stop", self.id, timeout_s=timeout_s))["exit"])

    async def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        await self.engine.verb("kill", self.id, signal=signal)

    async def restart(self, timeout_s: float | None = None) -> None:
        """Stop it and start it."""
        await self.engine.verb("restart", self.id, timeout_s=timeout_s)

    async def pause(self) -> None:
        """Freeze its processes."""
        await self.engine.verb("pause", self.id)

    async def unpause(self) -> None:
        """Let them go on."""
        await self.engine.verb("unpause", self.id)

    async def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it, with ``force`` also if it runs."""
        await self.engine.verb("rm", self.id, force=force, volumes=volumes)

    async def rename(self, name: str) -> None:
        """Give it another name."""
        self.name = (await self.engine.verb("rename", self.id, name))["name"]

    async def update(self, **changes: object) -> None:
        """Change ``resources``, ``restart`` or ``health``; limits of a running one are in force at once."""
        await self.engine.verb("update", self.id, changes)

    async def status(self) -> str:
        """What it is doing, asked of the kernel now. Raises: NotFound."""
        facts = await self.engine.do(status.look, self.engine.places, self.id)
        return str(facts.status)

    async def inspect(self, *, effective: bool = False) -> JSON:
        """Everything about it; ``effective``: also which limits really bind."""
        found: JSON = await self.engine.verb("inspect", self.id, effective=effective)
        return found

    async def top(self) -> list[JSON]:
        """Its processes."""
        found: list[JSON] = await self.engine.verb("top", self.id)
        return found

    async def stats(self, interval_s: float = 1.0) -> AsyncIterator[JSON]:
        """Samples of what it uses, every ``interval_s``, with rates from the second on, until it ends."""
        from corral.engine.stats import add_rates, sample

        before: JSON | None = None
        while True:
            try:
                facts = await self.engine.do(status.look, self.engine.places, self.id)
            except NotFound:
                return
            now = await self.engine.do(sample, facts) if facts.is_live else None
            if now is None:
                return
            yield add_rates(now, before)
            before = now
            await asyncio.sleep(interval_s)

    async def logs(self, *, follow: bool = False, since_ns: int = 0, tail: int | None = None) -> AsyncIterator[Entry]:
        """What it wrote, oldest first; with ``follow`` also what it writes, until its run is over."""
        from corral.engine.logs import take
        from corral.engine.verbs.logs import open_log

        places = self.engine.places
        reader, is_over = await self.engine.do(open_log, places, self.id, since_ns=since_ns, tail=tail)
        entries = reader.follow_looking(is_over) if follow else reader.read()
        # Who follows a silent container waits on the loop, not in a thread: there are not enough of them for that.
        async with contextlib.aclosing(changes(places.container(self.id))) as changed:
            async for _ in changed:
                found: list[Entry | None] = []
                while not found or found[-1] is not None:
                    found = await self.engine.do(take, entries)
                    if not found:
                        return
                    for entry in found:
                        if entry is not None:
                            yield entry

    async def events(self, *, after: int | None = None, actions: Sequence[str] = ()) -> AsyncIterator[JSON]:
        """Its events as they happen; ``actions`` chooses (``oom``, ``died``, ``health_status`` ...)."""
        filters = [f"id={self.id}", *(f"event={action}" for action in actions)]
        async for event in self.engine.events(after=after, filters=filters):
            yield event

    async def pressure(self, resource: str, *, stall_us: int, window_us: int = 2_000_000) -> AsyncIterator[GroupEvent]:
        """An event whenever its processes stall on ``resource`` (cpu, memory, io) for that long, until it is gone.

        Raises: NotFound where the kernel has no pressure information for groups, and CorralError.
        """
        from corral.cgroup.events import PressureTrigger
        from corral.engine.groups import require_group

        facts = await self.engine.do(status.look, self.engine.places, self.id)
        with (
            require_group(facts.record, self.name) as group,
            PressureTrigger(group, resource, stall_us=stall_us, window_us=window_us) as trigger,
        ):
            while not trigger.is_gone:
                await readable(trigger.fileno())
                for event in trigger.read_events():
                    yield event

    async def exec(
        self,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        **request: object,
    ) -> Exec:
        """Begin one more process; ``request`` may have ``env``, ``user``, ``workdir``, ``terminal``, ``privileged``.

        Raises: FailedPrecondition when it does not run.
        """
        from corral.engine.execs import begin_exec

        facts = await self.engine.do(status.look, self.engine.places, self.id)
        asked = {**request, "command": list(command), "stdin": stdin}
        stderr = stderr and not request.get("terminal")
        async with _Attaching(stdin=stdin, stdout=stdout, stderr=stderr) as pipes:
            awaits = pipes.hook is not None
            running = await self.engine.do(begin_exec, facts, asked, has_limit=True, awaits_attach=awaits)
            if pipes.hook is not None:
                await self.engine.do(_attach_to, running.directory, pipes.hook)
            return Exec(self.engine, running, await pipes.streams())


class Exec:
    """A process that was begun by ``Container.exec``: its ``streams``, and its end."""

    def __init__(self, engine: Engine, running: Any, streams: Streams) -> None:  # noqa: ANN401 -- execs.Exec
        self.engine = engine
        self.id: str = running.exec_id
        self.streams = streams
        self._running = running

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Wait for its end. When the time is over, it and all it left are ended. Raises: Timeout."""
        from corral.engine.execs import end_exec

        end = await self._end(timeout_s)
        await self.engine.do(end_exec, self._running, end)
        if end is None:
            raise Timeout(f"exec {self.id[:12]}: it did not end within {timeout_s:g} s", hint="it was ended")
        return Exit(end)

    async def _end(self, timeout_s: float | None) -> JSON | None:
        """How it ended, None if it has not in time. It is waited for on the loop as long as its monitor lives."""
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            left = None if until is None else max(0.0, until - loop.time())
            record, is_over = await attended_end(self._running.directory, left)
            if record is not None:
                return exits.to_exit(record)
            if is_over:
                return None
            end: JSON | None = await self.engine.do(self._running.wait, _LOST_S if left is None else min(left, _LOST_S))
            if end is not None or left == 0:
                return end

    async def communicate(self, data: bytes = b"") -> tuple[bytes, bytes, Exit]:
        """Send ``data`` as its input; all its output, and its end."""
        out, err = await self.streams.communicate(data)
        return out, err, await self.wait()


class Pod:
    """Containers that share a network, and more."""

    def __init__(self, engine: Engine, pod_id: str, name: str) -> None:
        self.engine = engine
        self.id = pod_id
        self.name = name

    def __repr__(self) -> str:
        return f"Pod({self.name!r}, {self.id[:12]})"

    async def start(self) -> None:
        """Start all its containers."""
        await self.engine.verb("pod_start", self.id)

    async def stop(self, timeout_s: float | None = None) -> None:
        """Stop all its containers."""
        await self.engine.verb("pod_stop", self.id, timeout_s=timeout_s)

    async def remove(self, *, force: bool = False) -> None:
        """Remove it, with ``force`` also its containers."""
        await self.engine.verb("pod_rm", self.id, force=force)

    async def inspect(self) -> JSON:
        """Its definition, status and containers."""
        found: JSON = await self.engine.verb("pod_inspect", self.id)
        return found


class Image:
    """An image of the store."""

    def __init__(self, engine: Engine, image: Any) -> None:  # noqa: ANN401 -- image.store.Image
        self.engine = engine
        self.id: str = image.id
        self.names: list[str] = list(image.names)
        self.digest: str = image.digest
        self.size_bytes: int = image.size_bytes

    def __repr__(self) -> str:
        return f"Image({self.names[0] if self.names else self.id!r})"


def _attach_to(directory: str, hook: Callable[[Any], None]) -> None:
    from corral.engine.keeper import Monitor

    with Monitor.connect(directory) as monitor:
        hook(monitor)


class _Attaching:
    """Pipes while something begins that they are for: closed if it does not."""

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self._pipes = Pipes(stdin=stdin, stdout=stdout, stderr=stderr)
        self.hook = self._pipes.attach if stdin or stdout or stderr else None
        self.streams = self._pipes.streams

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pipes.close()
