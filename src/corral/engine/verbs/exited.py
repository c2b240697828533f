"""``exited`` and ``due``: what the keeper has run, so that policies work without a daemon."""

from __future__ import annotations

from corral.engine import ledger, names, restart, status
from corral.engine.removal import remove_container
from corral.engine.settle import settle, tell_due
from corral.engine.starting import start_container
from corral.engine.teardown import tear_down
from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["due", "exited"]


def exited(places: Places, container_id: str, exec_id: str = "") -> dict[str, Any]:
    """Follow up the end of a container's run, or of an exec in it: nobody attended it. Idempotent.

    Raises: InvalidArgument for what is no id: this is where callers give one that becomes a path.
    """
    for text in (container_id, *([exec_id] if exec_id else [])):
        if not names.is_id(text):
            raise InvalidArgument(f"follow up the end of {text!r}: that is no id")
    if exec_id:
        return _exec_ended(places, container_id, exec_id)
    try:
        return {"id": container_id, "exit": settle(places, container_id, wait_s=60.0)}
    except NotFound:
        return {"id": container_id, "exit": {}}


def _exec_ended(places: Places, container_id: str, exec_id: str) -> dict[str, Any]:
    from corral.engine import exits
    from corral.engine.execends import tell_end
    from corral.engine.files import read_object_or_none

    record = read_object_or_none(f"{places.exec_run(container_id, exec_id)}/exit")
    try:
        facts = status.look(places, container_id)
    except NotFound:
        return {"id": container_id, "exec_id": exec_id, "exit": {}}
    end = exits.to_exit(record) if record is not None else None
    if end is not None:
        tell_end(places, container_id, exec_id, end, name=facts.definition.get("name", ""))
    return {"id": container_id, "exec_id": exec_id, "exit": end or {}}


def due(places: Places, container_id: str) -> dict[str, Any]:
    """Do what is due for a container: a restart, a health check, another try to clean up. Then plan what comes next."""
    done: list[str] = []
    try:
        facts = status.look(places, container_id)
        if not facts.is_live and facts.run and facts.state.get("settled") != facts.run:
            settle(places, container_id, wait_s=60.0)
            facts = status.look(places, container_id)
        if facts.state.get("pending") or "removing" in facts.state:
            done += _clean_up(facts)
            facts = status.look(places, container_id)
        if is_restart_due(facts):
            done.append("restart")
            _restart(facts)
        if _is_health_due(facts):
            from corral.engine.health import check

            done.append("health")
            check(places, container_id)
    except NotFound:
        return {"id": container_id, "done": done}
    tell_due(places, container_id)
    return {"id": container_id, "done": done}


def is_restart_due(facts: Facts) -> bool:
    """Whether the policy wants it started by now."""
    now = ledger.boot_ns()
    moment = restart.due_at(facts.state.get("restart", {}), now)
    return bool(moment) and not facts.is_live and moment <= now


def _is_health_due(facts: Facts) -> bool:
    moment = facts.state.get("health", {}).get("due_ns", 0)
    return facts.status == status.RUNNING and bool(moment) and moment <= ledger.boot_ns()


def _clean_up(facts: Facts) -> list[str]:
    try:
        if "removing" in facts.state:
            remove_container(facts.places, facts.container_id)
            return ["remove"]
        tear_down(facts)
    except FailedPrecondition:
        return []
    except NotFound:
        raise
    except CorralError:
        return ["clean-up"]  # tried, and on record with the next time
    return ["clean-up"]


def _restart(facts: Facts) -> None:
    """Start it again; when even that cannot be done it counts as one more run that ended."""
    try:
        start_container(facts.places, facts.container_id, is_restart=True)
    except NotFound:
        raise
    except CorralError:
        from corral.engine.restart import FIRST_MS, LAST_MS

        with ledger.Update(facts.places, facts.container_id) as state:
            if state.get("stop", {}).get("run") == state.get("runs"):
                return
            again = state.get("restart") or dict(facts.state.get("restart", {}))
            row = again.get("row", 0) + 1
            again.update(count=again.get("count", 0) + 1, row=row, delay_ms=min(LAST_MS, FIRST_MS << min(row, 20)))
            again["due_ns"] = ledger.boot_ns() + again["delay_ms"] * 1_000_000
            policy = facts.definition.get("restart", {})
            bound = policy.get("max_retries", 0)
            if policy.get("policy") == "on-failure" and bound and row > bound:
                again.pop("due_ns")
            state["restart"] = again
