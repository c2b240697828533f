"""``rm``: the container is no more: its cgroups, files and name."""

from __future__ import annotations

import errno

from corral.engine import names, status
from corral.engine.removal import bury_container, make_room, remove_container
from corral.engine.settle import settle
from corral.engine.stopping import intend_removal, stop_container
from corral.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["rm"]


def rm(
    places: Places, reference: str, *, force: bool = False, volumes: bool = False, timeout_s: float | None = None
) -> dict[str, Any]:
    """Remove a container; with ``force`` also one that runs (``timeout_s``: its grace, 0 unless given).

    ``volumes``: its anonymous volumes too. Returns ``id`` and ``stays``, files that could not be removed yet.
    Raises: NotFound; FailedPrecondition for one that runs, or that holds a pod; Unavailable; Timeout when it cannot be
    ended now: it is removed as soon as it has ended.
    """
    container_id = names.find_id(places, reference)
    try:
        facts = status.look(places, container_id)
    except InvalidArgument as exc:
        if not force:
            raise InvalidArgument(exc.message, hint="it was cut off: remove the container with --force") from exc
        return {"id": container_id, "stays": bury_container(places, container_id)}
    name = facts.definition.get("name", reference)
    if facts.definition.get("is_infra"):
        raise FailedPrecondition(
            f"remove container {name!r}: it holds the namespaces of a pod",
            hint=f"remove the pod: corral pod rm {facts.definition.get('pod', '')[:12]}",
        )
    for is_last in (False, False, True):
        try:
            stays = _remove(places, container_id, force=force, with_volumes=volumes, grace_s=timeout_s or 0.0)
            return {"id": container_id, "stays": stays}
        except NotFound:
            break  # its own --rm, or another rm, was faster
        except ResourceExhausted as exc:
            if is_last or exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            make_room(places, container_id)
    return {"id": container_id, "stays": []}


def _remove(places: Places, container_id: str, *, force: bool, with_volumes: bool, grace_s: float) -> list[str]:
    facts = status.look(places, container_id)
    if facts.is_live:
        if not force and facts.status != status.MADE:
            raise FailedPrecondition(
                f"remove container {facts.definition.get('name', container_id)!r}: it is {facts.status}",
                hint="stop it first, or use --force",
            )
        _stop(places, container_id, grace_s=grace_s, with_volumes=with_volumes)
    settle(places, container_id)
    return remove_container(places, container_id, with_volumes=with_volumes)


def _stop(places: Places, container_id: str, *, grace_s: float, with_volumes: bool) -> None:
    try:
        stop_container(places, container_id, grace_s=grace_s)
    except Timeout as exc:
        intend_removal(places, container_id, with_volumes=with_volumes)
        if status.look(places, container_id).is_live:
            raise Timeout(exc.message, hint=f"{exc.hint}; it is removed as soon as it has ended", phase="rm") from exc
