"""``wait``: until a container has ended, or is in some other state."""

from __future__ import annotations

import time

from corral.engine import exits, names, status
from corral.engine.settle import settle
from corral.engine.verbs.exited import due, is_restart_due
from corral.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.engine.places import Places

__all__ = ["wait"]

_PAUSE_S = 0.05
_ASK_S = 1.0
_ENDED = frozenset({"exited", "stopped", "not-running"})
_HEALTH = frozenset({"healthy", "unhealthy"})
_CONDITIONS = _ENDED | _HEALTH | status.LIVE | {status.CONFIGURED, status.REMOVING, status.DEAD, "removed", "next-exit"}


def wait(
    places: Places,
    reference: str,
    *,
    condition: str = "exited",
    timeout_s: float | None = None,
    is_one_run: bool = False,
    is_wanted: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Block until the container is ``exited`` (one that does not run is), or its status or health is ``condition``.

    One that its policy starts again is not ``exited`` until that gives up or somebody stops it; with ``is_one_run`` the
    end of a run is enough. ``removed`` waits until there is no such container, ``next-exit`` for an end to come.
    ``is_wanted`` is asked every second: when it says no, nobody waits any more, and that is a Timeout too.
    Returns ``id`` and ``exit`` (``code`` None: nobody knows).
    Raises: NotFound; Timeout; InvalidArgument for a state that there is not; FailedPrecondition for a health that
    cannot come.
    """
    if condition not in _CONDITIONS:
        raise InvalidArgument(
            f"wait for container {reference!r} to be {condition!r}: there is no such state",
            hint=f"one of {', '.join(sorted(_CONDITIONS))}",
        )
    container_id = names.find_id(places, reference)
    patience = _Patience(timeout_s, is_wanted)
    if condition in _ENDED:
        end = _wait_end(places, container_id, patience)
        while not is_one_run and _comes_back(places, container_id):
            end = _wait_end(places, container_id, patience)
            patience.check(reference, "end, which its restart policy puts off")
            time.sleep(_PAUSE_S)
        return {"id": container_id, "exit": end}
    run = status.look(places, container_id).run
    pause = 0.005
    while True:
        try:
            facts = status.look(places, container_id)
        except NotFound:
            if condition == "removed":
                return {"id": container_id, "exit": {}}
            raise
        if condition in (facts.status, facts.state.get("health", {}).get("status")):
            return {"id": container_id, "exit": facts.exit()}
        if condition in _HEALTH:
            _check_health(facts, condition)
        if condition == "next-exit" and (facts.is_live or (facts.run > run and not _is_intended(facts))):
            return {"id": container_id, "exit": _wait_end(places, container_id, patience)}
        left = patience.check(reference, f"be {condition}: it is {facts.status}")
        time.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, 0.1)


def _is_intended(facts: status.Facts) -> bool:
    """Whether the last run has a number, and no process yet: its end is still to come."""
    return bool(facts.state.get("run", {}).get("phase") == "intended")


def _check_health(facts: status.Facts, condition: str) -> None:
    """Raise FailedPrecondition if no check will ever say so."""
    name = facts.definition.get("name", "")
    if facts.definition.get("health", {}).get("command", ["NONE"])[:1] == ["NONE"]:
        raise FailedPrecondition(
            f"wait for container {name!r} to be {condition}: it has no health check", hint="corral run --health-cmd ..."
        )
    if facts.status == status.EXITED:
        raise FailedPrecondition(f"wait for container {name!r} to be {condition}: it is exited")


class _Patience:
    """How long somebody waits: until a time, and as long as it is wanted."""

    __slots__ = ("_is_wanted", "_until")

    def __init__(self, timeout_s: float | None, is_wanted: Callable[[], bool] | None) -> None:
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._is_wanted = is_wanted

    def check(self, name: str, what: str) -> float | None:
        """The seconds until this is to be asked again; None: whenever something happens. Raises: Timeout."""
        left = None if self._until is None else self._until - time.monotonic()
        if left is not None and left <= 0:
            raise Timeout(f"wait for container {name!r} to {what}")
        if self._is_wanted is None:
            return left
        if not self._is_wanted():
            raise Timeout(f"wait for container {name!r} to {what}: nobody waits for it any more")
        return _ASK_S if left is None else min(left, _ASK_S)


def _comes_back(places: Places, container_id: str) -> bool:
    """Whether its policy starts it again, or has: a run that is not settled is under way, or about to be."""
    try:
        facts = status.look(places, container_id)
    except NotFound:
        return False
    if is_restart_due(facts):
        # The keeper's to do. Where there is none it would never be done.
        due(places, container_id)
    if facts.is_live or facts.state.get("restart", {}).get("due_ns"):
        return True
    # The policy has not been asked yet, or is about to start it.
    has_policy = facts.definition.get("restart", {}).get("policy", "no") != "no"
    return has_policy and facts.state.get("settled") != facts.run


def _wait_end(places: Places, container_id: str, patience: _Patience) -> dict[str, Any]:
    """How the run that is under way ends; for one that is over, how it ended."""
    while True:
        facts = status.look(places, container_id)
        if not facts.is_live:
            return _settled(places, container_id, facts.exit())
        left = patience.check(facts.definition.get("name", ""), f"end: it is {facts.status}")
        record = exits.Waiter(places, container_id, facts.run).wait(left)
        if record is not None:
            return _settled(places, container_id, exits.to_exit(record))


def _settled(places: Places, container_id: str, known: dict[str, Any]) -> dict[str, Any]:
    """How it ended, followed up; ``known`` is what the caller knows of it already."""
    try:
        return settle(places, container_id) or known
    except NotFound:
        # Made with --rm, and gone: its record was read in time.
        return known
    except ResourceExhausted:
        # The store is full: others follow it up. What its monitor could not even write down is not known yet.
        if known.get("code") is None:
            raise
        return known
