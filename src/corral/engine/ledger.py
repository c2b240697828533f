"""STORE/containers/ID/state.json: what the engine intends for a container and what belongs to it.

Members, all but ``schema`` absent until needed::

    schema      1
    runs        how often it was started; the number of the current run
    run         {"number", "phase": intended|created|started|over, "begun_ns", "boot", "started_ns", "started_boot_ns",
                "lasted_ns", "pid"}
    exit        the last run's end, judged (engine/settle.py)
    stop        {"by": "user", "run", "at_ns"}: someone asked for its end, so no policy starts it again; "is_given_up":
                in vain so far; "removes": {"volumes"}: and then for its removal
    restart     {"count", "delay_ms", "due_ns"}: a restart that is due (boot time clock), and how many came before
    health      {"status", "failing", "log", "due_ns"}
    leases      {operation: owner} (engine/leases.py)
    resources   [{"kind", "name", "fate": intended|created|joined|absent|removed, "why"}]
    network     what the network made of it (engine/network.py)
    pending     [{"what", "why", "since_ns", "tries", "due_ns"}]: cleaning up that has to be tried again

A file that was cut off counts as empty: the kernel, the runtime's record and the exit record say the rest.
Writes are atomic by rename; they are not synced, because after a loss of power no process of it lives either.
"""

from __future__ import annotations

import posix
import time

from corral.engine import files
from corral.engine.locks import FileLock
from corral.errors import NotFound, ResourceExhausted
from corral.linux import paths
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from corral.engine.places import Places

__all__ = ["Update", "boot_ns", "note_resource", "read", "read_definition", "write_definition"]

SCHEMA = 1
_BOOTTIME = 7


def boot_ns() -> int:
    """The clock that timers and deadlines use: since boot, suspended time included; nobody can set it."""
    return time.clock_gettime_ns(_BOOTTIME)


def read(places: Places, container_id: str) -> dict[str, Any]:
    """The state of now, without a lock. Raises: OSError."""
    return _or_empty(files.read_object_or_none(f"{places.container(container_id)}/state.json"))


def _or_empty(state: dict[str, Any] | None) -> dict[str, Any]:
    return state if state is not None and state.get("schema") == SCHEMA else {"schema": SCHEMA}


class Update:
    """``with Update(places, ID) as state:`` locks, reads, and writes back what the block changed, unless it raised.

    The lock is for a few file operations: nothing slow belongs into the block. ``needs_no_room``: where the store is
    full, the file is written over where it lies, for what ends a container.
    Raises: NotFound when the container is gone; ResourceExhausted.
    """

    __slots__ = ("_before", "_directory", "_id", "_lock", "_needs_no_room", "state")

    def __init__(self, places: Places, container_id: str, *, needs_no_room: bool = False) -> None:
        self._needs_no_room = needs_no_room
        self._directory = places.container(container_id)
        self._id = container_id
        self._lock: FileLock | None = None
        self._before = ""
        self.state: dict[str, Any] = {}

    def __enter__(self) -> dict[str, Any]:
        try:
            self._lock = FileLock(f"{self._directory}/lock")
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise NotFound(f"use container {self._id[:12]}: it was removed") from exc
        try:
            self.state = _or_empty(files.read_object_or_none(f"{self._directory}/state.json"))
            self._before = dumps(self.state)
        except BaseException:
            self._lock.close()
            raise
        return self.state

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            text = dumps(self.state)
            if kind is None and text != self._before:
                self._write(text.encode() + b"\n")
        finally:
            if self._lock is not None:
                self._lock.close()

    def _write(self, content: bytes) -> None:
        path = f"{self._directory}/state.json"
        try:
            files.replace(path, content)
        except ResourceExhausted:
            if not (self._needs_no_room and files.overwrite(path, content)):
                raise


def read_definition(places: Places, container_id: str) -> dict[str, Any]:
    """The definition. Raises: NotFound."""
    path = f"{places.container(container_id)}/definition.json"
    data = files.read_bytes_or_none(path)
    if data is None:
        raise NotFound(f"find container {container_id[:12]}: no such container", path=path)
    value = loads(data, path)
    assert isinstance(value, dict)
    return value


def write_definition(places: Places, container_id: str, definition: dict[str, Any]) -> None:
    """Replace the definition as a whole, also across a loss of power."""
    files.write_object(f"{places.container(container_id)}/definition.json", definition, is_synced=True)


def note_resource(state: dict[str, Any], kind: str, name: str, fate: str, why: str = "") -> None:
    """Put down that the container is about to have, has, or no longer has a resource. One row per kind and name."""
    rows: list[dict[str, Any]] = state.setdefault("resources", [])
    row = next((row for row in rows if row["kind"] == kind and row["name"] == name), None)
    if row is None:
        row = {"kind": kind, "name": name}
        rows.append(row)
    row["fate"] = fate
    row.pop("why", None)
    if why:
        row["why"] = why


def is_container(places: Places, container_id: str) -> bool:
    """Whether the container exists, complete."""
    return paths.exists(f"{places.container(container_id)}/definition.json")


def remove_exit_record(places: Places, container_id: str) -> None:
    """Take the last run's exit record away before the next run begins; it was judged and kept in the state."""
    try:
        posix.unlink(f"{places.container(container_id)}/exit")
    except FileNotFoundError:
        pass
