"""Volumes of a store: made, found, filled, removed.

STORE/volumes/NAME/_data is what containers see, STORE/volumes/NAME/volume.json what the volume is. A volume is there
or it is not: it comes by one rename and goes by one.

volume.json: ``name``, ``created_ns``, ``labels``, ``options``, ``anonymous``, ``container`` (whose anonymous one it
is), ``is_used`` (a container has had it).
"""

from __future__ import annotations

import errno
import posix
import time

from corral.engine import files, journal, ledger, names
from corral.engine.locks import FileLock
from corral.errors import (
    AlreadyExists,
    CorralError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from corral.linux import paths
from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = [
    "collect_volumes",
    "create_volume",
    "describe",
    "device_mounts",
    "ensure_volumes",
    "find_volume",
    "list_volumes",
    "name_volumes",
    "note_used",
    "prune_volumes",
    "read_volume",
    "remove_volume",
    "users",
    "volume_directories",
]

_SCHEMA = 1
_OPTIONS = ("type", "device", "o")


def create_volume(
    places: Places,
    name: str = "",
    *,
    labels: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    exists_ok: bool = False,
    container: str = "",
) -> str:
    """Make a volume and return its name, chosen if none is given. ``container``: whose anonymous volume it is.

    ``options``: ``type``, ``device`` and ``o`` as of mount(8), for one that is mounted from elsewhere.
    Raises: AlreadyExists, InvalidArgument.
    """
    is_anonymous = not name or bool(container)
    name = name or names.make_id()
    names.check_name(name)
    _check_options(name, options or {})
    if exists_ok and paths.isdir(directory(places, name)):
        return name
    volume: dict[str, Any] = {"schema": _SCHEMA, "name": name, "created_ns": time.time_ns()}
    members = {"labels": labels, "options": options, "anonymous": is_anonymous, "container": container}
    volume.update({key: value for key, value in members.items() if value})
    paths.make_directories(places.volumes, 0o711)
    fresh = f"{places.volumes}/.new-{names.make_id()}"
    try:
        with FileLock(f"{places.volumes}/.lock", is_shared=True):
            _fill_new(fresh, volume)
            posix.rename(fresh, directory(places, name))
    except OSError as exc:
        files.remove_tree(fresh)
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise files.from_os_error("create volume", directory(places, name), exc) from exc
        if exists_ok:
            return name
        raise AlreadyExists(f"create volume {name!r}: there is one", hint="use it, or choose another name") from exc
    except BaseException:
        files.remove_tree(fresh)
        raise
    journal.emit(places, "volume", "create", name, name=name, attributes={"labels": labels or {}})
    return name


def _fill_new(fresh: str, volume: dict[str, Any]) -> None:
    posix.mkdir(fresh, 0o711)
    posix.mkdir(f"{fresh}/_data", 0o755)
    # The umask must not take it from the containers' users.
    posix.chmod(f"{fresh}/_data", 0o755)
    files.replace(f"{fresh}/volume.json", dumps(volume).encode() + b"\n", is_synced=not volume.get("anonymous"))


def _check_options(name: str, options: dict[str, str]) -> None:
    for key in options:
        if key == "size":
            raise Unsupported(
                f"create volume {name!r}: option size: a directory has no size of its own",
                hint="for one in memory: --opt type=tmpfs --opt device=tmpfs --opt o=size=64m",
            )
        if key not in _OPTIONS:
            raise InvalidArgument(f"create volume {name!r}: option {key!r} is unknown", hint="type, device and o")
    if options and not options.get("device"):
        raise InvalidArgument(f"create volume {name!r}: option device is missing", hint="as in --opt device=/dev/sdb1")
    if options and _is_bind(options) and not options["device"].startswith("/"):
        raise InvalidArgument(f"create volume {name!r}: option device={options['device']!r} is no absolute path")


def _is_bind(options: dict[str, str]) -> bool:
    words = options.get("o", "").split(",")
    return options.get("type", "none") in ("", "none", "bind") or "bind" in words or "rbind" in words


def directory(places: Places, name: str) -> str:
    """STORE/volumes/NAME."""
    return f"{places.volumes}/{name}"


def read_volume(places: Places, name: str) -> dict[str, Any]:
    """What the volume is. Raises: NotFound."""
    found = None
    if name and "/" not in name and not name.startswith("."):
        found = files.read_object_or_none(f"{directory(places, name)}/volume.json")
        if found is None and paths.isdir(f"{directory(places, name)}/_data"):
            found = {"schema": _SCHEMA, "name": name, "created_ns": 0}  # its file was cut off: the data counts
    if found is None:
        raise NotFound(f"find volume {name!r}: no such volume", hint="`corral volume ls` lists them")
    return found


def find_volume(places: Places, reference: str) -> str:
    """The name of the volume called ``reference``: its name, or the beginning of only one. Raises: NotFound."""
    try:
        return str(read_volume(places, reference)["name"])
    except NotFound:
        found = [name for name in list_volumes(places) if reference and name.startswith(reference)]
        if len(found) != 1 or len(reference) < 4:
            raise
        return found[0]


def list_volumes(places: Places) -> list[str]:
    """Their names, sorted."""
    try:
        found = posix.listdir(places.volumes)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if not name.startswith("."))


def describe(places: Places, name: str, *, is_whole: bool = False) -> dict[str, Any]:
    """What ``volume ls`` shows; ``is_whole``: also who has it and how much it holds. Raises: NotFound."""
    volume = read_volume(places, name)
    shown = {
        "name": name,
        "driver": "local",
        "path": f"{directory(places, name)}/_data",
        "created_ns": volume.get("created_ns", 0),
        "labels": volume.get("labels", {}),
        "options": volume.get("options", {}),
        "anonymous": bool(volume.get("anonymous")),
    }
    if is_whole:
        from corral.engine.files import tree_bytes

        shown["containers"] = users(places).get(name, [])
        shown["size_bytes"] = tree_bytes(shown["path"])
    return shown


def users(places: Places) -> dict[str, list[str]]:
    """Volume -> ids of the containers that have it. One that is being made counts, one being removed does not."""
    found: dict[str, list[str]] = {}
    try:
        entries = posix.listdir(places.containers)
    except FileNotFoundError:
        return found
    for entry in entries:
        if entry.startswith(".") and not entry.startswith(".new-"):
            continue
        try:
            definition = files.read_object_or_none(f"{places.containers}/{entry}/definition.json") or {}
            if "removing" in (files.read_object_or_none(f"{places.containers}/{entry}/state.json") or {}):
                continue
        except OSError:
            continue
        for item in definition.get("mounts", []):
            if item.get("type") == "volume":
                found.setdefault(item.get("source", ""), []).append(entry.removeprefix(".new-"))
    return found


def remove_volume(places: Places, name: str) -> None:
    """Remove a volume that no container has. Raises: NotFound; FailedPrecondition; PermissionDenied for what stays."""
    volume = read_volume(places, name)
    _refuse_used(places, name)
    dead = f"{places.volumes}/.dead-{names.make_id()}"
    try:
        posix.rename(directory(places, name), dead)
    except FileNotFoundError as exc:
        raise NotFound(f"remove volume {name!r}: no such volume") from exc
    try:
        # A container that was made meanwhile: its definition was written before it looked for the volume.
        _refuse_used(places, name)
    except FailedPrecondition:
        posix.rename(dead, directory(places, name))
        raise
    journal.emit(places, "volume", "remove", name, name=name, attributes={"labels": volume.get("labels", {})})
    stays = _remove_tree(dead)
    if stays:
        raise PermissionDenied(f"remove volume {name!r}: {stays[0]}", hint="`corral gc` tries again")


def _remove_tree(path: str) -> list[str]:
    """Remove a volume's directory; returns what stays."""
    from corral.engine.deadfiles import remove_dead

    try:
        return remove_dead(path)
    except CorralError as exc:
        return [str(exc)]


def _refuse_used(places: Places, name: str) -> None:
    having = users(places).get(name)
    if having:
        try:
            shown = ledger.read_definition(places, having[0]).get("name", having[0][: names.SHORT])
        except CorralError:
            shown = having[0][: names.SHORT]
        raise FailedPrecondition(
            f"remove volume {name!r}: container {shown!r} has it", hint="remove the container first"
        )


def prune_volumes(places: Places, *, everything: bool = False, freed: list[int] | None = None) -> list[str]:
    """Remove the anonymous volumes, or all, that no container has; returns their names. ``freed`` gets their sizes."""
    from corral.engine.files import tree_bytes

    having = users(places)
    removed = []
    for name in list_volumes(places):
        try:
            if name in having or not (everything or read_volume(places, name).get("anonymous")):
                continue
            size = tree_bytes(directory(places, name)) if freed is not None else 0
            remove_volume(places, name)
        except CorralError:
            continue
        removed.append(name)
        if freed is not None:
            freed.append(size)
    return removed


def name_volumes(definition: dict[str, Any], image_config: dict[str, Any]) -> None:
    """Give anonymous volumes their names, and add those that the image declares where nothing else is mounted."""
    mounts = [dict(item) for item in definition.get("mounts", [])]
    taken = {paths.normpath(item["target"]) for item in mounts}
    declared = [paths.normpath(target) for target in image_config.get("volumes") or [] if target.startswith("/")]
    mounts += [
        {"type": "volume", "source": "", "target": target, "is_anonymous": True}
        for target in dict.fromkeys(declared)
        if target not in (taken | {"/"})
    ]
    for item in mounts:
        if item["type"] == "volume" and not item.get("source"):
            item["source"], item["is_anonymous"] = names.make_id(), True
    if mounts:
        definition["mounts"] = mounts


def ensure_volumes(places: Places, definition: dict[str, Any]) -> None:
    """Make the volumes that a container names and that do not exist. Raises: CorralError; none is left then."""
    made = []
    try:
        for item in definition.get("mounts", []):
            if item.get("type") == "volume" and not paths.isdir(directory(places, item["source"])):
                owner = definition["id"] if item.get("is_anonymous") else ""
                made.append(create_volume(places, item["source"], exists_ok=True, container=owner))
    except BaseException:
        for name in made:
            files.remove_tree(directory(places, name))
        raise


def volume_directories(places: Places, definition: dict[str, Any]) -> dict[str, str]:
    """Volume -> the directory that containers see. A named one that was removed is made again. Raises: CorralError."""
    found = {}
    for item in definition.get("mounts", []):
        if item.get("type") != "volume":
            continue
        name = item["source"]
        try:
            options = read_volume(places, name).get("options", {})
        except NotFound:
            ensure_volumes(places, definition)
            options = {}
        found[name] = options["device"] if options and _is_bind(options) else f"{directory(places, name)}/_data"
    return found


def device_mounts(places: Places, definition: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Volume -> ``type``, ``device``, ``o`` of those that are filesystems of their own, mounted in each container."""
    found = {}
    for item in definition.get("mounts", []):
        if item.get("type") == "volume":
            options = read_volume(places, item["source"]).get("options", {})
            if options and not _is_bind(options):
                found[item["source"]] = options
    return found


def note_used(places: Places, name: str) -> None:
    """Put down that a container has had the volume: what is in it now is never an image's again."""
    volume = read_volume(places, name)
    if not volume.get("is_used"):
        files.write_object(f"{directory(places, name)}/volume.json", {**volume, "is_used": True})


def collect_volumes(places: Places) -> list[str]:
    """Remove what crashes left: half-made and half-removed ones, and anonymous ones whose container never came to be.

    Returns what was removed. Idempotent.
    """
    removed = []
    if not paths.isdir(places.volumes):
        return []
    with FileLock(f"{places.volumes}/.lock"):
        halves = [name for name in posix.listdir(places.volumes) if name.startswith((".new-", ".dead-"))]
        removed += [name for name in halves if not _remove_tree(f"{places.volumes}/{name}")]
    having = users(places)
    for name in list_volumes(places):
        try:
            volume = read_volume(places, name)
            owner = volume.get("container", "")
            if owner and not volume.get("is_used") and name not in having:
                remove_volume(places, name)
                removed.append(name)
        except (CorralError, OSError):
            continue
    return removed
