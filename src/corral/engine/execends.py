"""The ends of execs, told once each, and before the end of the container that they were in (S4.2)."""

from __future__ import annotations

import posix
import time

from corral.engine import exits, files, journal
from corral.engine.locks import FileLock
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["list_execs", "tell_all", "tell_end"]

# With init all processes of its pid namespace die at once; their monitors then drain and write.
BOUND_S = 3.0


def list_execs(places: Places, container_id: str) -> list[str]:
    """Ids of the execs that have a directory."""
    try:
        return sorted(posix.listdir(f"{places.container_run(container_id)}/exec"))
    except FileNotFoundError:
        return []


def tell_end(places: Places, container_id: str, exec_id: str, end: dict[str, Any] | None, *, name: str = "") -> None:
    """Write the event down unless somebody has; an exec whose directory is gone has been told of."""
    directory = places.exec_run(container_id, exec_id)
    try:
        with FileLock(f"{directory}/lock"):
            if paths.exists(f"{directory}/told"):
                return
            shown = {"exec": exec_id, "code": end.get("code") if end is not None else None}
            journal.emit(places, "container", "exec_died", container_id, name=name, attributes=shown)
            files.replace(f"{directory}/told", b"")
    except (FileNotFoundError, NotADirectoryError):
        return


def tell_all(facts: Facts) -> None:
    """Tell of all execs that ended with their container; one that does not is told of when it does."""
    until = time.monotonic() + BOUND_S
    for exec_id in list_execs(facts.places, facts.container_id):
        directory = facts.places.exec_run(facts.container_id, exec_id)
        if paths.exists(f"{directory}/told"):
            continue
        record = _await_record(directory, until)
        if record is not None:
            name = facts.definition.get("name", "")
            tell_end(facts.places, facts.container_id, exec_id, exits.to_exit(record), name=name)


def _await_record(directory: str, until: float) -> dict[str, Any] | None:
    pause = 0.001
    while True:
        record = files.read_object_or_none(f"{directory}/exit")
        left = until - time.monotonic()
        if record is not None or left <= 0 or not paths.isdir(directory):
            return record
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.05)
