"""``kill``: a signal for the container's first process."""

from __future__ import annotations

from corral.engine import names
from corral.engine.signals import parse_signal
from corral.engine.stopping import kill_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["kill"]


def kill(places: Places, reference: str, *, signal: str = "KILL", is_for_all: bool = False) -> dict[str, Any]:
    """Send ``signal`` to the first process, or to all of them. Does not wait for what follows.

    SIGKILL and the stop signal count as a wish that it end: no restart policy starts it again.
    Raises: NotFound, FailedPrecondition if it does not run, InvalidArgument for a signal that there is not.
    """
    number = parse_signal(signal)
    container_id = names.find_id(places, reference)
    kill_container(places, container_id, number, is_for_all=is_for_all)
    return {"id": container_id}
