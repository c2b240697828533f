"""A service's share in the life of containers: it attends their ends, and looks through the store now and then.

With it no command has to be started when a container ends. Without it, or when it is killed at any point, the keeper
has the command run: nothing here is needed for anything to become true.
"""

from __future__ import annotations

import asyncio
import logging

from corral.engine import journal, names, status
from corral.engine.keeper import Monitor
from corral.engine.stopping import is_being_stopped
from corral.engine.streams import changes
from corral.engine.verbs import find
from corral.engine.verbs.events import batch
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.engine.library import Engine
    from corral.engine.places import Places

__all__ = ["Attendant"]

RECONCILE_S = 30.0
# Events of so long are read together. For who ends unattended meanwhile the keeper has the command run.
CALM_S = 0.1
_log = logging.getLogger("corral.serve")


class Attendant:
    """Attends every container of the engine's store: ``run`` it until it is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._attended: dict[str, Monitor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._announced: set[str] = set()
        self._excused: set[str] = set()

    async def run(self) -> None:
        """Follow the journal, and reconcile at the start and every 30 s."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._reconcile())
        finally:
            # The keeper has the command run for whoever ends now.
            for container_id in list(self._attended):
                self._leave(container_id)

    def from_the_start(self, container_id: str) -> Callable[[Monitor], None]:
        """A ``before_release`` for a container that the service starts itself: no end is too early to be attended."""
        loop = asyncio.get_running_loop()

        def attend(_: Monitor) -> None:
            monitor = Monitor.attending_or_none(self._engine.places.container_run(container_id))
            if monitor is None:
                return
            self._announced.add(container_id)
            try:
                loop.call_soon_threadsafe(self._watch, container_id, monitor)
            except RuntimeError:
                monitor.close()  # the service has ended meanwhile

        return attend

    def excuse(self, container_id: str) -> None:
        """A client lets this one go and attends its end itself: two of us would only wait for each other."""
        self._excused.add(container_id)

    async def take_over(self, container_id: str) -> None:
        """The client of ``excuse`` has gone."""
        self._excused.discard(container_id)
        await self._attend(container_id)

    async def _reconcile(self) -> None:
        verb = "system_start"
        while True:
            try:
                for item in await self._engine.verb(verb):
                    level = logging.WARNING if item.get("why") else logging.INFO
                    _log.log(
                        level, "%s %s%s", item["what"], item["id"][:12], f": {item['why']}" if "why" in item else ""
                    )
                await self._attend_all()
            except (CorralError, OSError) as exc:
                _log.warning("look through the store: %s", exc)
            verb = "gc"
            await asyncio.sleep(RECONCILE_S)

    async def _follow(self) -> None:
        """Attend whom others start. To read each event of our own starts at once would slow them down."""
        places = self._engine.places
        seen = await self._engine.do(journal.last_number, places)
        async for _ in changes(places.events):
            await asyncio.sleep(CALM_S)
            seen, found = await self._engine.do(batch, places, seen, ["type=container", "event=start"])
            for event in found:
                if event.get("type") != "container":
                    continue
                if event["id"] in self._announced:
                    self._announced.discard(event["id"])
                else:
                    await self._attend(event["id"])

    async def _attend_all(self) -> None:
        """Attend whoever is not attended yet: one trip to a worker thread for all of them."""
        left = self._attended.keys() | self._excused
        for container_id, monitor in await self._engine.do(_connect_all, self._engine.places, left):
            self._watch(container_id, monitor)

    async def _attend(self, container_id: str) -> None:
        if container_id in self._attended or container_id in self._excused:
            return
        monitor = await self._engine.do(_connect_or_none, self._engine.places, container_id)
        if monitor is not None:
            self._watch(container_id, monitor)

    def _watch(self, container_id: str, monitor: Monitor) -> None:
        # Its client may have come for it while we went to its monitor.
        if container_id in self._attended or container_id in self._excused:
            monitor.close()
            return
        self._attended[container_id] = monitor
        asyncio.get_running_loop().add_reader(monitor.fileno(), self._begin_end, container_id)

    def _begin_end(self, container_id: str) -> None:
        monitor = self._attended[container_id]
        asyncio.get_running_loop().remove_reader(monitor.fileno())
        task = asyncio.ensure_future(self._end(container_id, monitor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, container_id: str, monitor: Monitor) -> None:
        """It has ended, or its monitor has. Only what was done to the end is told the monitor as done."""
        try:
            record = await self._engine.do(monitor.receive_exit, 5.0)
            if record is not None and await self._engine.do(_follow_up, self._engine.places, container_id):
                monitor.done()
        except CorralError as exc:
            _log.warning("follow up the end of %s: %s", container_id[:12], exc)
        finally:
            self._leave(container_id)
        if record is None:
            # Its monitor died, not it: there is another one.
            await self._attend(container_id)

    def _leave(self, container_id: str) -> None:
        monitor = self._attended.pop(container_id, None)
        if monitor is not None:
            asyncio.get_running_loop().remove_reader(monitor.fileno())
            monitor.close()


def _follow_up(places: Places, container_id: str) -> bool:
    """Do what follows from an end, unless whoever stops it is at that; whether it was done.

    Two of us would only wait for each other. Should the other die at it, its monitor has the keeper see to it.
    """
    if is_being_stopped(places, container_id):
        return False
    find("exited")(places, container_id)
    return True


def _connect_all(places: Places, left: set[str]) -> list[tuple[str, Monitor]]:
    """The monitors of all containers that live and are not ``left`` out, told that their ends are attended."""
    found = []
    for container_id in names.list_ids(places):
        monitor = _connect_or_none(places, container_id) if container_id not in left else None
        if monitor is not None:
            found.append((container_id, monitor))
    return found


def _connect_or_none(places: Places, container_id: str) -> Monitor | None:
    """The container's monitor, told that its end is attended; None when it has just ended, or is being removed."""
    try:
        if not status.look(places, container_id).is_live:
            return None
    except CorralError:
        return None
    return Monitor.attending_or_none(places.container_run(container_id))
