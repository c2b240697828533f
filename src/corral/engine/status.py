"""What a container is doing, asked of the kernel each time.

::

    configured ──start──► created ──release──► running ◄──► paused
        ▲                    │                    │  │
        └──start undone──────┘        stop asked  │  └────────► exited ──start──► created
                                                  ▼               ▲
                                               stopping ──────────┘
    any ──rm──► removing ──cleaning up cannot end──► dead (what stays is tried again)

The files say what was intended; init's pidfd, start time and boot id, its lock and the freezer say what is. A
``running`` without a live init is ``exited``, with the source of what is known about its end (S4.1).
"""

from __future__ import annotations

from corral.engine import exits, leases, ledger, restart
from corral.linux.procfs import read_boot_id
from corral.runtime.record import CREATED, CREATING, PAUSED, STALE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.runtime.record import Record

__all__ = ["Facts", "look"]

CONFIGURED, MADE, RUNNING, PAUSED_, STOPPING = "configured", "created", "running", "paused", "stopping"
EXITED, REMOVING, DEAD = "exited", "removing", "dead"
LIVE = frozenset({MADE, RUNNING, PAUSED_, STOPPING})

REBOOTED = "the host was restarted"
PENDING = "pending"


class Facts:
    """One look at a container: its files, its runtime record (None: never made, or removed), and its status."""

    __slots__ = ("container_id", "definition", "places", "record", "state", "status")

    def __init__(self, places: Places, container_id: str, definition: dict[str, Any], state: dict[str, Any]) -> None:
        self.places = places
        self.container_id = container_id
        self.definition = definition
        self.state = state
        self.record: Record | None = exits.runtime_record_or_none(places, container_id)
        self.status = _status(self)

    @property
    def run(self) -> int:
        """The number of the current or last run; 0 before the first."""
        number: int = self.state.get("runs", 0)
        return number

    @property
    def pid(self) -> int:
        """The pid of init as this pid namespace numbers it; 0 when it does not live."""
        return self.record.pid if self.record is not None else 0

    @property
    def is_live(self) -> bool:
        """Its init lives, started or not."""
        return self.status in LIVE

    @property
    def is_settled(self) -> bool:
        """The end of the last run has been judged, and what follows from it begun."""
        return bool(self.state.get("exit", {}).get("run", 0) == self.run)

    def exit(self) -> dict[str, Any]:
        """How the last run ended: judged, or as the record says so far; empty when it lives, or never ran."""
        if self.is_live or self.run == 0:
            return {}
        if self.is_settled:
            judged: dict[str, Any] = self.state["exit"]
            return judged
        record = self.record_of_end()
        if record is not None:
            return exits.to_exit(record)
        shown: dict[str, Any] = {"run": self.run, "code": None, "source": PENDING, "finished_ns": 0}
        if is_before_boot(self.state):
            shown["source"], shown["reason"] = "unknown", REBOOTED
        return shown

    def record_of_end(self) -> dict[str, Any] | None:
        """The last run's exit record, if there is one that says more than another boot does by itself."""
        record = exits.read_record_or_none(self.places.container(self.container_id), self.run)
        if record is not None and record.get("source") == "unknown" and is_before_boot(self.state):
            # By a monitor or keeper of this boot, that met the files of the last: neither its clock nor its counters
            # have to do with the run.
            return None
        return record

    def to_json(self) -> dict[str, Any]:
        """The status with what belongs to it, as ``inspect`` and ``ps`` show it."""
        run = self.state.get("run", {})
        shown: dict[str, Any] = {
            "status": self.status,
            "pid": self.pid,
            "run": self.run,
            "started_ns": run.get("started_ns", 0),
            "restarts": self.state.get("restart", {}).get("count", 0),
        }
        end = self.exit()
        if end:
            shown["exit"] = end
        for key in ("error", "health", "pending"):
            if self.state.get(key):
                shown[key] = self.state[key]
        now = ledger.boot_ns()
        due = restart.due_at(self.state.get("restart", {}), now)
        if due:
            shown["restart_in_s"] = max(0.0, (due - now) / 1e9)
        return shown


def look(places: Places, container_id: str) -> Facts:
    """Look at a container now. Raises: NotFound."""
    definition = ledger.read_definition(places, container_id)
    return Facts(places, container_id, definition, ledger.read(places, container_id))


def is_before_boot(state: dict[str, Any]) -> bool:
    """Whether the last run began before the host's last start: nothing of it can be alive."""
    boot = state.get("run", {}).get("boot")
    return bool(boot) and boot != read_boot_id()


def _status(facts: Facts) -> str:
    state, record = facts.state, facts.record
    if "removing" in state:
        # Its owner may be between two tries; what stays is on record then.
        return DEAD if state.get("pending") else REMOVING
    if record is not None and record.pid:
        if record.status == PAUSED:
            return PAUSED_
        # Not complete yet, or never: what lives has not begun its work in either case.
        if record.status in (CREATED, CREATING, STALE):
            return MADE
        if _is_stopping(state, facts.run):
            return STOPPING
        return RUNNING
    if facts.run == 0 or state.get("run", {}).get("phase") == "intended":
        return _before_start(facts)
    return EXITED


def _is_stopping(state: dict[str, Any], run: int) -> bool:
    stop = state.get("stop", {})
    return bool(stop.get("run") == run and stop.get("until_ns", 0) and leases.is_owned(stop.get("owner")))


def _before_start(facts: Facts) -> str:
    """A start that is under way, or did not come to anything: as before it."""
    ended = facts.state.get("exit", {}).get("run", 0)
    return EXITED if ended > 0 else CONFIGURED
