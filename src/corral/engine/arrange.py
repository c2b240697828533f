"""What one run needs of this host, gathered before its config.json is compiled: layers, ids, namespaces, files."""

from __future__ import annotations

import posix

from corral.engine import exits, host_facts, hostfiles, ledger
from corral.engine.accounts import resolve_account
from corral.engine.idmaps import own_user
from corral.engine.images import read_image
from corral.engine.parents import usable_parent
from corral.engine.places import is_rootless
from corral.engine.programs import find_program
from corral.engine.rootfs import id_maps, reach_layers
from corral.errors import FailedPrecondition
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.definition import Definition, ImageConfig, SpecPlace
    from corral.engine.places import Places

__all__ = ["Arrangement", "arrange", "cgroup_path_of", "uses_systemd"]

_NS_FILES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user", "network": "net"}


class Arrangement:
    """``image``: the image's config, {} for none. ``layers``: directories of the root, top first, without the upper."""

    __slots__ = ("image", "layers", "place")

    def __init__(self, image: ImageConfig, layers: list[str], place: SpecPlace) -> None:
        self.image = image
        self.layers = layers
        self.place = place


def arrange(places: Places, definition: dict[str, Any]) -> Arrangement:
    """Gather; makes files in the container's directory and unpacks layers that are missing, nothing else.

    Raises: NotFound, FailedPrecondition, InvalidArgument.
    """
    container_id = definition["id"]
    image = read_image(places, definition)
    layers = reach_layers(places, definition)
    config: ImageConfig = image.get("config", {})
    process = definition["process"]
    user = process.get("user") or config.get("user", "") or own_user(definition)
    upper = f"{places.container(container_id)}/upper"
    seen = [upper, *layers] if paths.isdir(upper) else layers
    place: SpecPlace = {
        "rootfs": f"{places.container_run(container_id)}/rootfs",
        "cgroups_path": cgroup_path_of(places, definition),
        "account": resolve_account(seen, user, process.get("groups", [])),
        "machine": posix.uname().machine,
        "capabilities": host_facts.bounding_set(),
        "files": hostfiles.prepare_files(places, definition),
        "namespaces": _joined(places, definition),
        "devices": host_facts.find_devices(_typed(definition)),
        "is_rootless": is_rootless(),
        "nofile_hard": host_facts.nofile_hard(),
        "can_limit_swap": host_facts.can_limit_swap(),
    }
    if "user" in place.get("namespaces", {}):
        place["gid_map"] = id_maps(definition, places)[1]
    if definition["root"].get("is_direct"):
        place["rootfs"] = definition["root"]["path"]
    _add_mount_sources(places, definition, place, layers)
    if process.get("init"):
        place["init"] = find_program("corral-init")
    profile = definition.get("security", {}).get("seccomp", "")
    if profile and profile != "unconfined":
        from corral.engine.spec import bounding_set

        held = bounding_set(_typed(definition), place)
        place["seccomp"] = host_facts.read_profile(profile, held, place["machine"])
    return Arrangement(config, layers, place)


def _typed(definition: dict[str, Any]) -> Definition:
    return definition  # type: ignore[return-value]  # what a file holds has been checked when it was written


def uses_systemd(definition: dict[str, Any]) -> bool:
    """Whether its group is a unit's: it was asked for, or its parent is a slice."""
    parent: str = definition.get("cgroup_parent", "")
    return definition.get("cgroup_manager") == "systemd" or parent.endswith(".slice")


def cgroup_path_of(places: Places, definition: dict[str, Any]) -> str:
    """``linux.cgroupsPath``: the store's parent, or the one that was asked for, and the id in it; "" for no group."""
    if definition.get("cgroup_manager") == "disabled":
        return ""
    parent: str = definition.get("cgroup_parent", "")
    if uses_systemd(definition):
        return f"{parent.rpartition('/')[2]}:corral:{definition['id']}"
    parent = parent or usable_parent(places)
    return f"/{parent.strip('/')}/{definition['id']}" if parent else ""


def _joined(places: Places, definition: dict[str, Any]) -> dict[str, str]:
    """Namespaces of others that it shares: kind -> path. Raises: FailedPrecondition when the other does not run."""
    wanted: dict[str, str] = {}
    for kind, mode in definition.get("namespaces", {}).items():
        if isinstance(mode, str) and mode.startswith("container:"):
            wanted[kind] = mode.removeprefix("container:")
        elif mode == "pod":
            wanted[kind] = _infra_of(places, definition)
    network = definition["network"]
    if network["mode"] == "container":
        wanted["network"] = network["container"]
    elif network["mode"] == "pod":
        wanted["network"] = _infra_of(places, definition)
    return {kind: _namespace_path(places, other, kind) for kind, other in wanted.items()}


def _infra_of(places: Places, definition: dict[str, Any]) -> str:
    from corral.engine.podfiles import read_pod

    infra: str = read_pod(places, definition.get("pod", ""))["infra"]
    return infra


def _namespace_path(places: Places, other: str, kind: str) -> str:
    record = exits.runtime_record_or_none(places, other)
    if record is None or not record.pid:
        name = ledger.read_definition(places, other).get("name", other)
        raise FailedPrecondition(
            f"share the {kind} namespace of container {name!r}: it is not running",
            hint=f"start it: corral start {name}",
        )
    return f"/proc/{record.pid}/ns/{_NS_FILES[kind]}"


def _add_mount_sources(places: Places, definition: dict[str, Any], place: SpecPlace, layers: list[str]) -> None:
    mounts = definition.get("mounts", [])
    if any(item.get("type") == "volume" for item in mounts):
        from corral.engine.copyup import fill_volumes
        from corral.engine.volumes import device_mounts, volume_directories

        place["volumes"] = volume_directories(places, definition)
        place["volume_devices"] = device_mounts(places, definition)
        fill_volumes(places, definition, layers, place["volumes"])
    if any("U" in item.get("options", []) for item in mounts):
        from corral.engine.copyup import give_away

        give_away(places, definition, place)
    if any(item.get("type") == "image" for item in mounts):
        from corral.engine.rootfs import mount_images

        place["images"] = mount_images(places, definition)
    if definition.get("pod") and (definition.get("namespaces", {}).get("ipc") == "pod" or definition.get("is_infra")):
        from corral.engine.podfiles import shm_of

        place["shm"] = shm_of(places, definition["pod"])
