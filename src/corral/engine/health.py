"""Health checks: a command in the container, now and then; what its results come to.

::

    starting ──passes──► healthy ◄──passes── unhealthy
        └─ fails `retries` times in a row, after the start period ─┘──► on_failure: kill, restart, stop

Source: podman-healthcheck(1); Dockerfile reference HEALTHCHECK.
"""

from __future__ import annotations

import time

from corral.engine import journal, ledger, status
from corral.engine.failpoints import failpoint
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["begin", "check", "judge"]

INTERVAL_S = 30.0
TIMEOUT_S = 30.0
RETRIES = 3
_LOG_KEPT = 5
_OUTPUT_KEPT = 500


def begin(facts: Facts) -> None:
    """A run began: its first check is due after one interval."""
    interval_s = facts.definition["health"].get("interval_s", INTERVAL_S)
    if interval_s <= 0:
        return
    with ledger.Update(facts.places, facts.container_id) as state:
        state["health"] = {
            "status": "starting",
            "failing": 0,
            "log": [],
            "run": state.get("runs", 0),
            "due_ns": ledger.boot_ns() + int(interval_s * 1e9),
        }


def check(places: Places, container_id: str) -> dict[str, Any]:
    """Run the check once, now; returns ``status``, ``code`` and ``output``. Raises: CorralError if there is none."""
    from corral.errors import FailedPrecondition

    facts = status.look(places, container_id)
    health = facts.definition.get("health", {})
    words = command_of(health.get("command", []))
    if not words:
        raise FailedPrecondition(
            f"check the health of container {facts.definition.get('name', '')!r}: it has no health check",
            hint="make it with --health-cmd",
        )
    timeout_s = health.get("timeout_s", TIMEOUT_S)
    began = time.time_ns()
    failpoint("health.begin")
    try:
        from corral.engine.execs import run_to_end

        code, output = run_to_end(facts, words, timeout_s=timeout_s)
    except CorralError as exc:
        code, output = -1, str(exc)
    failpoint("health.ran")
    item = {"start_ns": began, "end_ns": time.time_ns(), "code": code, "output": output[:_OUTPUT_KEPT]}
    before, now = _note(facts, health, item)
    if before != now:
        journal.emit(
            places,
            "container",
            "health_status",
            container_id,
            name=facts.definition.get("name", ""),
            attributes={"health_status": now},
        )
        if now == "unhealthy":
            _react(facts, health.get("on_failure", "none"))
    return {"status": now, "code": code, "output": output}


def command_of(command: list[str]) -> list[str]:
    """The words to run for ``["CMD", ...]``, ``["CMD-SHELL", text]`` or ``["NONE"]``."""
    if command[:1] == ["CMD"]:
        return command[1:]
    if command[:1] == ["CMD-SHELL"]:
        return ["/bin/sh", "-c", " ".join(command[1:])]
    return [] if command[:1] == ["NONE"] else command


def judge(health: dict[str, Any], before: dict[str, Any], code: int, *, up_s: float) -> tuple[str, int]:
    """(status, failures in a row) after a check that ended with ``code``. Pure."""
    if code == 0:
        return "healthy", 0
    was: str = before.get("status", "starting")
    if was == "starting" and up_s < health.get("start_period_s", 0.0):
        return "starting", 0
    failing = before.get("failing", 0) + 1
    return ("unhealthy" if failing >= health.get("retries", RETRIES) else was), failing


def _note(facts: Facts, health: dict[str, Any], item: dict[str, Any]) -> tuple[str, str]:
    with ledger.Update(facts.places, facts.container_id) as state:
        before = state.get("health", {})
        if state.get("runs") != facts.run or not before:
            # It ended meanwhile: nobody's health.
            return "", ""
        up_s = (item["start_ns"] - state.get("run", {}).get("started_ns", 0)) / 1e9
        now, failing = judge(health, before, item["code"], up_s=up_s)
        interval_s = health.get("interval_s", INTERVAL_S)
        state["health"] = {
            **before,
            "status": now,
            "failing": failing,
            "log": [*before.get("log", []), item][-_LOG_KEPT:],
        }
        if interval_s > 0:
            state["health"]["due_ns"] = ledger.boot_ns() + int(interval_s * 1e9)
        return before.get("status", ""), now


def _react(facts: Facts, reaction: str) -> None:
    """What ``--health-on-failure`` asks for."""
    from corral.engine.signals import SIGKILL
    from corral.engine.stopping import kill_init, stop_container

    if reaction == "stop":
        stop_container(facts.places, facts.container_id)
    elif reaction in ("kill", "restart"):
        # Its restart policy starts it again, if it has one; `restart` gives it one for this time.
        kill_init(facts, SIGKILL, restarts=reaction == "restart")
