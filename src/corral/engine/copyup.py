"""A fresh volume gets what the image has where it is mounted, with owners and modes; and ``U`` gives trees away.

Source: docker-run(1) "--volume"; podman-run(1) "--volume", option U.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from corral.engine.access import open_directory, open_mounted
from corral.engine.copy import pipe
from corral.engine.idmaps import own_maps
from corral.engine.places import is_rootless
from corral.engine.rootfs import host_id_of, id_maps
from corral.engine.volumes import note_used, read_volume
from corral.engine.within import call
from corral.runtime.within import Within

if TYPE_CHECKING:
    from corral.engine.definition import SpecPlace
    from corral.engine.places import Places

__all__ = ["fill_volumes", "give_away"]


def fill_volumes(places: Places, definition: dict[str, Any], layers: list[str], sources: dict[str, str]) -> None:
    """Fill those of the container's volumes that no container has had yet. Under the lease of a start.

    ``sources``: volume -> directory. Raises: CorralError.
    """
    for item in definition.get("mounts", []):
        if item.get("type") != "volume":
            continue
        name = item["source"]
        volume = read_volume(places, name)
        if volume.get("is_used") or volume.get("options"):
            continue
        path = sources[name]
        if not os.listdir(path):
            is_filled = False
            if item.get("copy_up", True) and definition["root"]["kind"] != "host":
                is_filled = _copy(places, definition, layers, item["target"], path)
            if not is_filled:
                _give_to_root(places, definition, path)
        note_used(places, name)


def _give_to_root(places: Places, definition: dict[str, Any], path: str) -> None:
    """The root of a user namespace owns the volume that was made for its container."""
    uid_map, gid_map = id_maps(definition, places)
    if uid_map and not is_rootless():
        os.chown(path, host_id_of(0, uid_map), host_id_of(0, gid_map))


def _copy(places: Places, definition: dict[str, Any], layers: list[str], target: str, path: str) -> bool:
    """Copy the directory ``target`` of the container's root to ``path``; whether there is one."""
    root = definition["root"]
    if root.get("is_direct"):
        source = open_directory(root["path"], definition, places)
    else:
        source = open_mounted(places, definition, layers)
    with source:
        found = source.look(target)
        if found is None or found["kind"] != "directory":
            return False
        with open_directory(path, definition, places) as volume:
            pipe(source, {"path": found["path"], "name": ""}, volume, {"at": "/", "owner": None})
    _own(places, definition, path, found)
    return True


def _own(places: Places, definition: dict[str, Any], path: str, found: dict[str, Any]) -> None:
    """Owner and mode of the volume's directory are those of the image's."""
    uid, gid, mode = found["uid"], found["gid"], found["mode"] & 0o7777
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if is_rootless():
            call(Within(*own_maps()), "own", {"uid": uid, "gid": gid, "mode": mode}, fds=[fd])
            return
        if not definition["root"].get("is_direct"):
            uid_map, gid_map = id_maps(definition, places)
            uid, gid = host_id_of(uid, uid_map), host_id_of(gid, gid_map)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def give_away(places: Places, definition: dict[str, Any], place: SpecPlace) -> None:
    """Give what is mounted with the option U to the user that the container runs as. Raises: CorralError, OSError."""
    uid, gid = place["account"]["uid"], place["account"]["gid"]
    uid_map, gid_map = id_maps(definition, places)
    where = Within()
    if is_rootless():
        where = Within(*own_maps())
    elif uid_map:
        uid, gid = host_id_of(uid, uid_map), host_id_of(gid, gid_map)
    for item in definition.get("mounts", []):
        if "U" not in item.get("options", []) or item["type"] not in ("bind", "volume"):
            continue
        path = place["volumes"][item["source"]] if item["type"] == "volume" else item["source"]
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            asked = {"uid": uid, "gid": gid, "mode": stat.S_IMODE(mode)}
            call(where, "chown" if stat.S_ISDIR(mode) else "own", asked, fds=[fd])
        finally:
            os.close(fd)
