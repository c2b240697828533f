"""What a container takes from its image: the config and the layers, leased for as long as the container exists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["lease_image", "release_image"]


def lease_image(places: Places, container_id: str, name: str, *, is_synced: bool = True) -> dict[str, Any]:
    """Keep the image from being removed and return its ``id``, ``config`` and ``chains`` (top layer first).

    ``is_synced``: also after a loss of power.
    Raises: NotFound.
    """
    from corral.image.store import ImageStore

    image = ImageStore(places.images).lease(f"container-{container_id}", name, is_synced=is_synced)
    return {
        "id": image.id,
        "config": image.config,
        "chains": [layer.chain_id for layer in reversed(image.layers)],
    }


def release_image(places: Places, container_id: str) -> None:
    """End the lease. Idempotent."""
    from corral.image.store import ImageStore

    ImageStore(places.images).release(f"container-{container_id}")
