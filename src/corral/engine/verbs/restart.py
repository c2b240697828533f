"""``restart``: stop, and start again."""

from __future__ import annotations

from corral.engine import journal, leases, ledger, names
from corral.engine.failpoints import failpoint
from corral.engine.signals import parse_signal
from corral.engine.starting import start_container
from corral.engine.stopping import stop_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["finish_restart", "restart"]

LEASE_S = 900.0


def restart(places: Places, reference: str, *, timeout_s: float | None = None, signal: str = "") -> dict[str, Any]:
    """Stop a container (``timeout_s`` as for ``stop``) and start it; one that does not run is only started.

    One that was to be removed after its run stays. Interrupted, it is finished by whoever comes next.
    """
    container_id = names.find_id(places, reference)
    number = parse_signal(signal) if signal else 0
    asked = {"timeout_s": timeout_s, "signal": signal}
    with leases.acquire(places, container_id, "restart", deadline_s=LEASE_S, wait_s=60.0, arguments=asked):
        failpoint("restart.begin")
        stop_container(places, container_id, grace_s=timeout_s, signal=number)
        failpoint("restart.stopped")
        started = start_container(places, container_id)
    definition = ledger.read_definition(places, container_id)
    journal.emit(places, "container", "restart", container_id, name=definition.get("name", ""))
    return started


def finish_restart(places: Places, container_id: str) -> bool:
    """Go on with a restart whose owner died at it; whether there was one."""
    entry = ledger.read(places, container_id).get("leases", {}).get("restart")
    if entry is None or leases.is_owned(entry):
        return False
    asked = entry.get("arguments", {})
    restart(places, container_id, timeout_s=asked.get("timeout_s"), signal=asked.get("signal", ""))
    return True
