"""Restart policies: whether a container that ended is started again, and when. Pure.

The pause doubles from 100 ms to a minute, and begins anew for a run that lasted ten seconds. Who asked for the end
(stop, kill) has no restart to fear: ``always`` and ``unless-stopped`` differ only after a reboot.

Source: podman-run(1) "--restart"; Docker's "Start containers automatically".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["after_exit", "due_at", "wants_start_at_boot"]

FIRST_MS = 100
LAST_MS = 60_000
STEADY_NS = 10 * 10**9


def after_exit(definition: dict[str, Any], state: dict[str, Any], end: dict[str, Any]) -> dict[str, Any] | None:
    """The members of ``state["restart"]`` for a restart that is due in ``delay_ms``; None: it stays ended.

    ``end`` is the run's end as ``exits.to_exit`` gives it.
    """
    policy = definition.get("restart", {}).get("policy", "no")
    run = state.get("runs", 0)
    if state.get("restart_once") == run and state.get("stop", {}).get("run") != run:
        policy = "always"
    if policy == "no" or state.get("stop", {}).get("run") == run or definition.get("auto_remove"):
        return None
    if not state.get("run", {}).get("started_ns") and not state.get("restart", {}).get("count"):
        # Never released: whoever created it has not asked for it to run.
        return None
    # An end that nobody saw is no success.
    if policy == "on-failure" and end.get("code") == 0:
        return None
    before: dict[str, Any] = state.get("restart", {})
    is_steady = state.get("run", {}).get("lasted_ns", 0) >= STEADY_NS
    count = before.get("count", 0)
    bound = definition.get("restart", {}).get("max_retries", 0)
    if policy == "on-failure" and bound and (0 if is_steady else before.get("row", 0)) >= bound:
        return None
    row = 0 if is_steady else before.get("row", 0)
    delay = min(LAST_MS, FIRST_MS << min(row, 20))
    return {"count": count + 1, "row": row + 1, "delay_ms": delay}


def due_at(again: dict[str, Any], now_ns: int) -> int:
    """When the restart in ``state["restart"]`` is due by the clock since boot that reads ``now_ns``; 0: none is.

    A moment further away than its pause was put down before the host's restart, and is now.
    """
    moment: int = again.get("due_ns", 0)
    return now_ns if moment - again.get("delay_ms", 0) * 1_000_000 > now_ns else moment


def wants_start_at_boot(definition: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether it is to run again after the host was restarted while it ran, or was stopped (``always``)."""
    policy = definition.get("restart", {}).get("policy", "no")
    if not state.get("runs"):
        return False
    was_stopped = state.get("stop", {}).get("run") == state.get("runs", 0)
    if policy == "always":
        return True
    if policy == "unless-stopped":
        return not was_stopped
    if policy == "on-failure":
        return not was_stopped and state.get("exit", {}).get("code") != 0
    return False
