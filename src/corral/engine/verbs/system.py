"""``system``: the store as a whole."""

from __future__ import annotations

from corral.engine import names, status
from corral.engine.files import tree_bytes
from corral.engine.parents import release_groups
from corral.engine.reconcile import reconcile
from corral.errors import CorralError
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["system_df", "system_info", "system_prune", "system_start"]


def system_info(places: Places) -> dict[str, Any]:
    """The host, the store, and how many containers are in which state."""
    import posix

    import corral
    from corral.cgroup.layout import read_layout
    from corral.engine.keeper import has_keeper
    from corral.engine.places import is_rootless

    places.prepare()
    counts: dict[str, int] = {}
    pending = 0
    for container_id in names.list_ids(places):
        try:
            facts = status.look(places, container_id)
        except CorralError:
            counts["unreadable"] = counts.get("unreadable", 0) + 1
            continue
        counts[facts.status] = counts.get(facts.status, 0) + 1
        pending += bool(facts.state.get("pending"))
    host = posix.uname()
    layout = read_layout()
    return {
        "version": corral.__version__,
        "host": {
            "name": host.nodename,
            "kernel": host.release,
            "machine": host.machine,
            "cpus": len(posix.sched_getaffinity(0)),
            "cgroups": [
                {"version": item.version, "controllers": list(item.controllers), "path": item.mount_point}
                for item in layout.hierarchies
            ],
            "is_rootless": is_rootless(),
        },
        "store": {"path": places.store, "run": places.run, "filesystem_free_bytes": _free_bytes(places.store)},
        "containers": counts,
        "cleanup_pending": pending,
        "has_keeper": has_keeper(places),
    }


def _free_bytes(path: str) -> int:
    import posix

    found = posix.statvfs(path)
    return found.f_bavail * found.f_frsize


def system_df(places: Places) -> dict[str, Any]:
    """What takes up space: containers, images, volumes; how much of it removing what is unused would free."""
    containers = []
    for container_id in names.list_ids(places):
        try:
            facts = status.look(places, container_id)
        except CorralError:
            continue
        size = tree_bytes(places.container(container_id))
        containers.append(
            {"id": container_id, "name": facts.definition.get("name", ""), "size_bytes": size, "is_live": facts.is_live}
        )
    images = _images(places)
    used = {_image_of(places, row["id"]) for row in containers}
    for image in images:
        image["is_used"] = image["id"] in used
    volumes = []
    if paths.isdir(places.volumes):
        from corral.engine.volumes import list_volumes, users

        having = users(places)
        volumes = [
            {"name": name, "size_bytes": tree_bytes(f"{places.volumes}/{name}"), "is_used": name in having}
            for name in list_volumes(places)
        ]
    layers = tree_bytes(places.layers) if paths.isdir(places.layers) else 0
    return {"containers": containers, "images": images, "volumes": volumes, "layers_bytes": layers}


def _image_of(places: Places, container_id: str) -> str:
    from corral.engine import ledger

    try:
        image_id: str = ledger.read_definition(places, container_id)["root"].get("image_id", "")
    except CorralError:
        return ""
    return image_id


def _images(places: Places) -> list[dict[str, Any]]:
    if not paths.isdir(places.images):
        return []
    from corral.image.store import ImageStore

    return [
        {"id": image.id, "names": image.names, "size_bytes": image.size_bytes}
        for image in ImageStore(places.images).list()
    ]


def system_prune(places: Places, *, images: bool = True, is_all: bool = False, volumes: bool = False) -> dict[str, Any]:
    """Remove containers that do not live, images without a name (``is_all``: without a container), unused volumes.

    Returns the ids that were removed, by kind, and ``freed_bytes`` of images and layers.
    """
    from corral.engine.removal import remove_container
    from corral.engine.settle import settle

    removed: dict[str, Any] = {"containers": [], "images": [], "volumes": [], "freed_bytes": 0}
    for container_id in names.list_ids(places):
        try:
            facts = status.look(places, container_id)
            if facts.is_live or facts.state.get("restart", {}).get("due_ns") or facts.definition.get("pod"):
                continue
            settle(places, container_id)
            remove_container(places, container_id, wait_s=1.0)
        except CorralError:
            continue
        removed["containers"].append(container_id)
    if images and paths.isdir(places.images):
        from corral.engine.rootfs import collect_layers
        from corral.image.store import ImageStore

        result = ImageStore(places.images).prune(everything=is_all)
        removed["images"] = list(result.deleted)
        removed["freed_bytes"] = result.freed_bytes + collect_layers(places)
    if volumes and paths.isdir(places.volumes):
        from corral.engine.volumes import prune_volumes

        removed["volumes"] = prune_volumes(places)
    release_groups(places)
    return removed


def system_start(places: Places) -> list[dict[str, str]]:
    """After the host's start: reconcile, and start what the restart policies want running. Idempotent."""
    return reconcile(places, starts=True)
