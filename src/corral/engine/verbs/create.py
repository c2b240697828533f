"""``create``: put down what a container is, under its name, without running anything."""

from __future__ import annotations

import posix
import time

from corral.engine import files, journal, names
from corral.engine.definition import SCHEMA
from corral.engine.failpoints import failpoint
from corral.engine.grants import check_grant
from corral.engine.idmaps import resolve_maps
from corral.engine.images import lease_image, release_image
from corral.engine.newfiles import make_locked_or_none, remove_new
from corral.engine.parents import usable_parent
from corral.engine.places import is_rootless
from corral.engine.shape import check_shape
from corral.errors import AlreadyExists, InvalidArgument, NotFound
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["create"]

_NAME_TRIES = 32


def create(places: Places, request: dict[str, Any]) -> dict[str, Any]:
    """Make a container from a definition whose ``schema``, ``id``, ``name`` and ``created_ns`` may be missing.

    Other containers, pods and images may be named as people do; the definition on file has their ids. Returns ``id``
    and ``name``. Nothing is left behind, not even a name, when it does not come to that.
    Raises: AlreadyExists, InvalidArgument, NotFound.
    """
    places.prepare()
    definition = _begin(request)
    container_id: str = definition["id"]
    fresh = f"{places.containers}/.new-{container_id}"
    # Before anything is taken for it: what is leased or named for nobody is given to others.
    lock = _make_directory(places, container_id)
    try:
        failpoint("create.begin")
        image = _resolve(places, definition)
        failpoint("create.resolved")
        _take_name(places, definition)
        failpoint("create.named")
        _write_files(fresh, definition, image)
        _make_volumes(places, definition)
        failpoint("create.written")
        posix.rename(fresh, places.container(container_id))
        failpoint("create.renamed")
        _check_pod(places, definition)
    except BaseException:
        files.remove_tree(fresh)
        files.remove_tree(places.container(container_id))
        names.release(places, definition.get("name", ""), container_id)
        if definition["root"].get("kind") == "image":
            release_image(places, container_id)
        raise
    finally:
        posix.close(lock)
    journal.emit(
        places,
        "container",
        "create",
        container_id,
        name=definition["name"],
        attributes={"image": definition["root"].get("image", ""), "labels": definition.get("labels", {})},
    )
    return {"id": container_id, "name": definition["name"]}


def _begin(request: dict[str, Any]) -> dict[str, Any]:
    definition = dict(request)
    for key in ("root", "process"):
        if not isinstance(definition.get(key), dict):
            raise InvalidArgument(f"create container: the definition has no member {key!r}")
    check_shape(definition)
    definition["schema"] = SCHEMA
    definition["id"] = definition.get("id") or names.make_id()
    definition["created_ns"] = time.time_ns()
    return definition


def _make_directory(places: Places, container_id: str) -> int:
    """Make the directory and return its held lock: until it is let go the name counts as taken, and gc stays away.

    One that a dead maker left in its place is taken away. Raises: AlreadyExists when there is, or is being made, one
    with this id: nothing of that is touched.
    """
    path = f"{places.containers}/.new-{container_id}"
    lock = make_locked_or_none(places.containers, container_id)
    if lock is None:
        remove_new(places.containers, container_id)
        lock = make_locked_or_none(places.containers, container_id)
    if lock is None:
        raise AlreadyExists(f"create container {container_id[:12]}: another process is making it")
    if paths.exists(places.container(container_id)):
        files.remove_tree(path)
        posix.close(lock)
        raise AlreadyExists(f"create container {container_id[:12]}: there is one with this id")
    return lock


def _resolve(places: Places, definition: dict[str, Any]) -> dict[str, Any]:
    """Have what was named as people do by its id, in the definition; returns what the image gives."""
    definition.setdefault("network", {"mode": "none" if is_rootless() else "bridge"})
    if definition["network"].get("mode") == "bridge":
        from corral.engine.networks import resolve_attachments

        definition["network"] = resolve_attachments(places, definition["network"])
    _resolve_shared(places, definition)
    resolve_maps(places, definition)
    check_grant(definition)
    # Resolved now: whoever starts it later, by a policy, has another environment.
    parent = definition.pop("cgroup_parent", "")
    if not parent and definition.get("cgroup_manager") != "systemd":
        parent = usable_parent(places)
    if parent:
        definition["cgroup_parent"] = parent
    image = _resolve_root(places, definition)
    if definition.get("mounts") or image.get("config", {}).get("volumes"):
        from corral.engine.volumes import name_volumes

        name_volumes(definition, image.get("config", {}))
    return image


def _resolve_shared(places: Places, definition: dict[str, Any]) -> None:
    """Names of other containers and pods become ids, so that a rename changes nothing."""
    network = dict(definition["network"])
    if network.get("mode") == "container":
        network["container"] = names.find_id(places, network.get("container", ""))
        definition["network"] = network
    modes = dict(definition.get("namespaces", {}))
    for kind, mode in modes.items():
        if isinstance(mode, str) and mode.startswith("container:"):
            modes[kind] = "container:" + names.find_id(places, mode.removeprefix("container:"))
    if modes:
        definition["namespaces"] = modes
    if definition.get("pod") and not definition.get("is_infra"):
        _join_pod(places, definition)
    if is_rootless():
        _share_user(places, definition)


def _share_user(places: Places, definition: dict[str, Any]) -> None:
    """Who joins a namespace of another container without privileges joins the user namespace that owns it, too."""
    from corral.engine.podfiles import read_pod

    modes, network = dict(definition.get("namespaces", {})), definition["network"]
    if modes.get("user") or modes.get("uid_map"):
        return
    shared = [modes.get(kind, "") for kind in ("ipc", "uts", "pid", "cgroup")]
    if network.get("mode") in ("container", "pod"):
        shared.insert(0, f"container:{network['container']}" if network["mode"] == "container" else "pod")
    for mode in shared:
        if mode == "pod" or mode.startswith("container:"):
            other = "container:" + read_pod(places, definition["pod"])["infra"] if mode == "pod" else mode
            definition["namespaces"] = {**modes, "user": other}
            return


def _join_pod(places: Places, definition: dict[str, Any]) -> None:
    """What the pod shares is the pod's, unless something else was asked for."""
    from corral.engine.podfiles import find_pod, read_pod

    definition["pod"] = find_pod(places, definition["pod"])
    pod = read_pod(places, definition["pod"])
    if pod.get("removing"):
        raise NotFound(f"find pod {pod['name']!r}: it is being removed")
    share = pod.get("share", [])
    modes = {kind: "pod" for kind in ("ipc", "uts", "pid") if kind in share}
    modes.update(definition.get("namespaces", {}))
    definition["namespaces"] = modes
    if definition["network"].get("mode") == "pod" and "net" not in share:
        definition["network"] = {"mode": "none"}
    above = pod.get("cgroup_parent") or usable_parent(places)
    if above and not definition.get("cgroup_parent"):
        definition["cgroup_parent"] = f"{above}/pod-{pod['id']}"


def _check_pod(places: Places, definition: dict[str, Any]) -> None:
    """Once it can be seen: who removes the pod has either found it, or said so before."""
    if definition.get("pod"):
        from corral.engine.podfiles import read_pod

        pod = read_pod(places, definition["pod"])
        if pod.get("removing"):
            raise NotFound(f"find pod {pod['name']!r}: it is being removed")


def _resolve_root(places: Places, definition: dict[str, Any]) -> dict[str, Any]:
    """Check that the root is there; returns what the image gives (``lease_image``), {} for a root that is none."""
    root = dict(definition["root"])
    if root.get("kind") == "image":
        wanted = root.get("image_id") or root.get("image", "")
        # As with the definition: one that is gone after its run has no life beyond a loss of power.
        found = lease_image(places, definition["id"], wanted, is_synced=not definition.get("auto_remove"))
        root["image_id"] = found["id"]
        definition["root"] = root
        return found
    if root.get("kind") == "rootfs":
        path = root.get("path", "")
        if not path.startswith("/") or not paths.isdir(path):
            raise NotFound(f"use the root filesystem {path!r}: no such directory", hint="--rootfs takes a directory")
    elif root.get("kind") == "host":
        # They lie inside the layer: other containers' files are none of its business.
        security = dict(definition.get("security", {}))
        # Where they are, not what they are called: a link on the way would be left as it is.
        hidden = [paths.realpath(path) for path in (places.store, places.run)]
        security["mask"] = [*security.get("mask", []), *hidden]
        definition["security"] = security
    else:
        raise InvalidArgument(f"create container: a root of kind {root.get('kind')!r} does not exist")
    return {}


def _take_name(places: Places, definition: dict[str, Any]) -> None:
    if definition.get("name"):
        names.reserve(places, definition["name"], definition["id"])
        return
    for turn in range(_NAME_TRIES):
        name = names.make_name()
        if turn >= _NAME_TRIES // 2:
            name += str(int.from_bytes(posix.urandom(2), "little"))
        try:
            names.reserve(places, name, definition["id"])
        except AlreadyExists:
            continue
        definition["name"] = name
        return
    raise AlreadyExists("create container: no free name was found", hint="give one with --name")


def _write_files(directory: str, definition: dict[str, Any], image: dict[str, Any]) -> None:
    if image:
        files.write_object(f"{directory}/image.json", image)
    # One that is gone after its run has no life beyond a loss of power either.
    files.write_object(f"{directory}/definition.json", definition, is_synced=not definition.get("auto_remove"))


def _make_volumes(places: Places, definition: dict[str, Any]) -> None:
    if any(item.get("type") == "volume" for item in definition.get("mounts", [])):
        from corral.engine.volumes import ensure_volumes

        ensure_volumes(places, definition)
