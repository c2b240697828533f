"""``stop``: the container ends, by its stop signal, or after the grace by SIGKILL."""

from __future__ import annotations

from corral.engine import names
from corral.engine.signals import parse_signal
from corral.engine.stopping import stop_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["stop"]


def stop(places: Places, reference: str, *, timeout_s: float | None = None, signal: str = "") -> dict[str, Any]:
    """End a container and return ``id`` and its ``exit``. One that does not run is fine.

    ``timeout_s``: how long it may take to end by itself (None: its own, 10 s if it has none; 0: SIGKILL at once).
    Raises: NotFound; Timeout, saying which processes stay, where they wait and what was tried.
    """
    container_id = names.find_id(places, reference)
    number = parse_signal(signal) if signal else 0
    end = stop_container(places, container_id, grace_s=timeout_s, signal=number)
    return {"id": container_id, "exit": end}
