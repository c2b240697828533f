"""``logs``: what a container wrote."""

from __future__ import annotations

from corral.engine import ledger, names, status
from corral.engine.logs import Reader
from corral.errors import FailedPrecondition, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.engine.logs import Entry
    from corral.engine.places import Places

__all__ = ["logs", "open_log"]


def logs(
    places: Places,
    reference: str,
    *,
    follow: bool = False,
    since_ns: int = 0,
    until_ns: int | None = None,
    tail: int | None = None,
) -> Iterator[Entry]:
    """The entries of a container's log, oldest first; with ``follow`` also those to come, until its run is over.

    Raises, at once: NotFound; FailedPrecondition if it keeps no log.
    """
    reader, is_over = open_log(places, reference, since_ns=since_ns, until_ns=until_ns, tail=tail)
    return reader.follow(is_over) if follow else reader.read()


def open_log(
    places: Places, reference: str, *, since_ns: int = 0, until_ns: int | None = None, tail: int | None = None
) -> tuple[Reader, Callable[[], bool]]:
    """A container's log, and the question whether nothing more will be written there. Raises as ``logs``."""
    container_id = names.find_id(places, reference)
    definition = ledger.read_definition(places, container_id)
    if definition.get("log", {}).get("driver") == "none":
        raise FailedPrecondition(
            f"read the log of container {definition.get('name', reference)!r}: it keeps none",
            hint="it was made with --log-driver none",
        )
    path = f"{places.container(container_id)}/log"
    reader = Reader(path, since_ns=since_ns, until_ns=until_ns, tail=tail)
    return reader, lambda: _is_over(places, container_id)


def _is_over(places: Places, container_id: str) -> bool:
    """Nothing more will be written: its last run has ended, and all of its output was taken."""
    try:
        facts = status.look(places, container_id)
    except NotFound:
        return True
    if facts.is_live or facts.status == status.CONFIGURED:
        return False
    return facts.exit().get("source") != status.PENDING and not facts.state.get("restart", {}).get("due_ns")
