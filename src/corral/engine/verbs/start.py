"""``start`` and ``run``: a container's process begins."""

from __future__ import annotations

from corral.engine import names
from corral.engine.starting import start_container
from corral.engine.verbs.create import create
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.starting import BeforeRelease

__all__ = ["run", "start"]


def start(
    places: Places, reference: str, *, before_release: BeforeRelease | None = None, is_created_only: bool = False
) -> dict[str, Any]:
    """Start a container; one that runs is fine. Returns ``id``, ``run`` and ``pid``.

    ``is_created_only``: its process is made and waits; another ``start`` lets it go. ``before_release`` gets the
    connected monitor when the process exists and waits: to attach descriptors, to attend.
    Raises: NotFound, FailedPrecondition, and what kept it from starting; it is then as before.
    """
    container_id = names.find_id(places, reference)
    return start_container(places, container_id, before_release=before_release, is_created_only=is_created_only)


def run(
    places: Places,
    request: dict[str, Any],
    *,
    before_release: BeforeRelease | None = None,
    is_created_only: bool = False,
) -> dict[str, Any]:
    """``create`` and ``start``. Returns ``id``, ``name``, ``run`` and ``pid``.

    One that was to be removed after its run (``auto_remove``) is removed when it cannot start.
    """
    made = create(places, request)
    try:
        started = start_container(places, made["id"], before_release=before_release, is_created_only=is_created_only)
    except BaseException:
        if request.get("auto_remove"):
            _remove_quietly(places, made["id"])
        raise
    return {**made, **started}


def _remove_quietly(places: Places, container_id: str) -> None:
    from corral.engine.removal import remove_container

    try:
        remove_container(places, container_id)
    except CorralError:
        return  # what kept it from starting is told; gc finds what stays
