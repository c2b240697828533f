"""What a container takes from its image: the config and the layers, leased for as long as the container exists."""

from __future__ import annotations

from corral.engine import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.image.store import Image

__all__ = ["lease_image", "read_image", "release_image"]


def lease_image(places: Places, container_id: str, name: str, *, is_synced: bool = True) -> dict[str, Any]:
    """Keep the image from being removed and return its ``id``, ``config`` and ``chains`` (top layer first).

    ``is_synced``: also after a loss of power.
    Raises: NotFound.
    """
    from corral.image.store import ImageStore

    return _taken(ImageStore(places.images).lease(f"container-{container_id}", name, is_synced=is_synced))


def _taken(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "config": image.config,
        "chains": [layer.chain_id for layer in reversed(image.layers)],
    }


def read_image(places: Places, definition: dict[str, Any]) -> dict[str, Any]:
    """What ``lease_image`` gave at create; {} for a root that is no image.

    It is kept in the container's image.json, which is not synced: where a loss of power cut that off, the image that
    is leased says the same. Raises: NotFound when neither is there.
    """
    root = definition["root"]
    if root.get("kind") != "image":
        return {}
    kept = files.read_object_or_none(f"{places.container(definition['id'])}/image.json")
    if kept:
        return kept
    from corral.image.store import ImageStore

    return _taken(ImageStore(places.images).by_id(root["image_id"]))


def release_image(places: Places, container_id: str) -> None:
    """End the lease. Idempotent."""
    from corral.image.store import ImageStore

    ImageStore(places.images).release(f"container-{container_id}")
