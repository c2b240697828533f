"""``gc``: finish at once what crashes left, and take away what nobody needs."""

from __future__ import annotations

from corral.engine.parents import release_groups
from corral.engine.reconcile import reconcile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["gc"]


def gc(places: Places) -> list[dict[str, str]]:
    """Reconcile; returns what was done: ``what``, ``id`` and, for what could not be done, ``why``. Idempotent."""
    report = reconcile(places)
    report += _image_store(places)
    report += _layers(places)
    report += _networks(places)
    report += _volumes(places)
    if release_groups(places):
        report.append({"what": "remove the empty cgroups of", "id": "the store"})
    return report


def _volumes(places: Places) -> list[dict[str, str]]:
    from corral.linux import paths

    if not paths.isdir(places.volumes):
        return []
    from corral.engine.volumes import collect_volumes

    return [{"what": "remove what was left of a volume", "id": name} for name in collect_volumes(places)]


def _image_store(places: Places) -> list[dict[str, str]]:
    from corral.linux import paths

    if not paths.isdir(places.images):
        return []
    from corral.image.store import ImageStore

    freed = ImageStore(places.images).gc()
    return [{"what": f"free {freed} bytes of", "id": "images"}] if freed else []


def _layers(places: Places) -> list[dict[str, str]]:
    from corral.linux import paths

    if not paths.isdir(places.layers):
        return []
    from corral.engine.rootfs import collect_layers

    freed = collect_layers(places)
    return [{"what": f"free {freed} bytes of", "id": "layers"}] if freed else []


def _networks(places: Places) -> list[dict[str, str]]:
    from corral.linux import paths

    if not paths.isdir(places.networks):
        return []
    from corral.engine.networks import collect_networks

    return [{"what": "remove what was left of a network", "id": name} for name in collect_networks(places)]
