"""Leases: who is at work on a container. Kept in its state, so that they outlive their owner and any process sees them.

A lease is taken and given back under the container's lock, but held without it: slow work never blocks anybody who
only wants to know (S4.15). An owner that died (pid, start time and boot id tell) or that overran its deadline has
lost it, and whoever comes next goes on from what the files say.
"""

from __future__ import annotations

import posix
import time

from corral.engine.ledger import Update, boot_ns, read
from corral.errors import FailedPrecondition, NotFound, Timeout
from corral.linux.closing import Closing
from corral.linux.procfs import read_boot_id, read_stat, read_stat_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["Busy", "Lease", "Lost", "acquire", "forget_dead", "is_owned", "me"]

# These change what a container is or whether it runs; one at a time. A stop, a kill, an exec go beside them.
EXCLUSIVE = frozenset({"start", "settle", "remove", "commit"})

_identity: tuple[int, str, int, int] | None = None


def me() -> dict[str, Any]:
    """This process, so that others can tell whether it still lives."""
    global _identity
    if _identity is None or _identity[0] != posix.getpid():
        namespace = posix.stat("/proc/self/ns/pid").st_ino
        _identity = (posix.getpid(), read_boot_id(), read_stat("self").start_time_ticks, namespace)
    pid, boot, start, namespace = _identity
    return {"pid": pid, "boot": boot, "start": start, "pidns": namespace}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that ``me`` described there still lives.

    One in another pid namespace is believed until its deadline: its number means nothing here.
    """
    own = me()
    if owner.get("boot") != own["boot"]:
        return False
    if owner.get("pidns") != own["pidns"]:
        return True
    stat = read_stat_or_none(owner.get("pid", 0))
    return stat is not None and not stat.is_dead and stat.start_time_ticks == owner.get("start")


def is_owned(entry: dict[str, Any] | None) -> bool:
    """Whether somebody is at work under this lease."""
    return entry is not None and boot_ns() < entry.get("deadline_ns", 0) and is_alive(entry)


class Busy(Timeout):
    """Another process is at work on the container, and did not end in time."""


class Lost(FailedPrecondition):
    """Another process took the work over: what there is of it is no longer ours to undo."""


class Lease(Closing):
    """A lease that is held. A context manager; ``close`` gives it back and is idempotent."""

    __slots__ = ("_id", "_places", "_token", "operation")

    def __init__(self, places: Places, container_id: str, operation: str, token: str) -> None:
        self._places = places
        self._id = container_id
        self._token = token
        self.operation = operation

    def check(self) -> None:
        """Raises: Lost when another took it over, this process having been stopped for too long."""
        self.check_in(read(self._places, self._id))

    def check_in(self, state: dict[str, Any]) -> None:
        """``check`` in a state that was read just now, or is being updated. Raises: Lost."""
        entry = state.get("leases", {}).get(self.operation)
        if entry is None or entry.get("token") != self._token:
            raise Lost(
                f"{self.operation} container {self._id[:12]}: another process took the work over",
                hint="this one had overrun its deadline; look at the container's state",
            )

    def note(self, arguments: dict[str, Any]) -> None:
        """Put down what somebody else has to know to finish it. Raises: NotFound, ResourceExhausted."""
        with Update(self._places, self._id) as state:
            entry = state.get("leases", {}).get(self.operation, {})
            if entry.get("token") == self._token:
                entry["arguments"] = arguments

    def close(self) -> None:
        """Give it back. The container may be gone."""
        token, self._token = self._token, ""
        if not token:
            return
        try:
            with Update(self._places, self._id) as state:
                leases = state.get("leases", {})
                if leases.get(self.operation, {}).get("token") == token:
                    del leases[self.operation]
                    if not leases:
                        del state["leases"]
        except NotFound:
            pass  # removed, and the lease with it


def acquire(
    places: Places,
    container_id: str,
    operation: str,
    *,
    deadline_s: float,
    wait_s: float = 0.0,
    arguments: dict[str, Any] | None = None,
) -> Lease:
    """Take the lease for ``operation``, waiting up to ``wait_s`` for one that excludes it.

    ``deadline_s``: after that long others may take the work over. ``arguments`` are what they need to finish it.
    Raises: NotFound; Timeout, naming who is at work.
    """
    until = time.monotonic() + wait_s
    pause = 0.001
    token = posix.urandom(8).hex()
    while True:
        with Update(places, container_id) as state:
            taken = state.get("leases", {})
            blocking = _blocking(taken, operation)
            if blocking is None:
                # Of other operations also what a dead owner left: it is on record until somebody has finished that.
                kept = dict(taken)
                kept[operation] = {
                    **me(),
                    "token": token,
                    "since_ns": time.time_ns(),
                    "deadline_ns": boot_ns() + int(deadline_s * 1e9),
                }
                if arguments:
                    kept[operation]["arguments"] = arguments
                state["leases"] = kept
                return Lease(places, container_id, operation, token)
        left = until - time.monotonic()
        if left <= 0:
            name, entry = blocking
            raise Busy(
                f"{operation} container {container_id[:12]}: process {entry.get('pid')} is at work on it ({name})",
                hint="wait for it, or end that process: its work can then be finished by anybody",
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.05)


def forget_dead(state: dict[str, Any], operation: str) -> None:
    """Have what a dead owner left of an operation finished by nobody, because something newer is asked for."""
    taken = state.get("leases", {})
    if operation in taken and not is_owned(taken[operation]):
        del taken[operation]
        if not taken:
            del state["leases"]


def _blocking(taken: dict[str, Any], operation: str) -> tuple[str, dict[str, Any]] | None:
    for name, entry in taken.items():
        if (name == operation or (name in EXCLUSIVE and operation in EXCLUSIVE)) and is_owned(entry):
            return name, entry
    return None
