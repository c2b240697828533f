"""``commit``: an image of what a container has become."""

from __future__ import annotations

from corral.engine import journal, leases, names, status
from corral.engine.failpoints import failpoint
from corral.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["commit"]

LEASE_S = 3600.0
WAIT_S = 30.0


def commit(places: Places, reference: str, request: dict[str, Any]) -> dict[str, Any]:
    """Make an image of a container; returns its ``id``, ``digest`` and ``names``.

    ``request`` may have ``name``, ``changes`` (instructions as in a Dockerfile), ``author``, ``message``, and ``pause``
    (default True: a running container is frozen meanwhile, so that the image is of one moment).
    Raises: NotFound, FailedPrecondition, InvalidArgument.
    """
    container_id = names.find_id(places, reference)
    with leases.acquire(places, container_id, "commit", deadline_s=LEASE_S, wait_s=WAIT_S) as lease:
        facts = status.look(places, container_id)
        must_pause = request.get("pause", True) and facts.status == status.RUNNING
        if must_pause:
            from corral.engine.verbs.pause import pause, unpause

            # On record first: who finds us dead lets it go on.
            lease.note({"thaws": facts.run})
        try:
            if must_pause:
                pause(places, container_id)
            failpoint("commit.begin")
            made = _commit(places, facts, request)
            failpoint("commit.made")
        finally:
            if must_pause:
                unpause(places, container_id)
    journal.emit(places, "container", "commit", container_id, name=facts.definition.get("name", ""))
    return made


def _commit(places: Places, facts: status.Facts, request: dict[str, Any]) -> dict[str, Any]:
    from corral.engine.changes import Changes
    from corral.image.compose import Making, add_image
    from corral.image.store import ImageStore

    root = facts.definition["root"]
    if root["kind"] == "host":
        raise FailedPrecondition(
            f"commit container {facts.definition.get('name', '')!r}: its root is this host's, which is no image",
            hint="copy what it made: corral cp; or see it: corral diff",
        )
    store = ImageStore(places.images)
    base = store.by_id(root["image_id"]) if root["kind"] == "image" else None
    making = Making(
        name=request.get("name", ""),
        changes=tuple(request.get("changes", ())),
        message=request.get("message", ""),
        author=request.get("author", ""),
        created_by=" ".join(facts.definition["process"].get("command", [])),
    )
    with Changes(places, facts.definition) as changes:
        image = add_image(store, changes.layer(), making, base=base)
        changes.check()
    return {"id": image.id, "digest": image.digest, "names": image.names}
