"""What a container's root is made of: layers of its image, of the host or of a directory, under its own upper one.

See docs/design/rootfs.md. Nothing is mounted here: the plan that ``describe`` gives is executed in the container's own
mount namespace.
"""

from __future__ import annotations

import posix

from corral.engine import names
from corral.engine.files import read_bytes_or_none, read_object_or_none, remove_tree, replace, write_object
from corral.engine.images import read_image
from corral.engine.places import is_rootless
from corral.errors import CorralError, InvalidArgument, NotFound, Unsupported
from corral.linux import paths
from corral.runtime.rootfs import RootfsPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from corral.engine.places import Places
    from corral.image.layers import Applied
    from corral.image.snapshots import LayerStore, Wanted
    from corral.image.store import ImageStore

__all__ = [
    "can_map",
    "can_stack",
    "collect_layers",
    "describe",
    "empty_inside",
    "host_id_of",
    "id_maps",
    "image_layers",
    "layer_store",
    "mount_images",
    "prepare_writable",
    "reach_layers",
]

Extent = tuple[int, int, int]

# Any ids of the host serve for trying whether ids can be mapped at all.
BLOCK_FOR_TRIAL = 1 << 30
# In a container's directory: the layers of the images that it mounts.
_MOUNTED = "mounted.json"


def layer_store(places: Places) -> LayerStore:
    """The store's layers, with the kind of marks that its containers' mounts know."""
    from corral.image.snapshots import LayerStore

    if not is_rootless():
        return LayerStore(places.layers)
    return LayerStore(places.layers, marks="user", remover=_remove_inside)


def empty_inside(path: str) -> None:
    """Empty a directory whose files belong to any of this user's ids. Raises: CorralError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        _remove_inside(fd)
    finally:
        posix.close(fd)


def _remove_inside(folder_fd: int) -> None:
    from corral.engine.idmaps import own_maps
    from corral.engine.within import call
    from corral.runtime.within import Within

    call(Within(*own_maps()), "remove", {}, fds=[folder_fd])


def image_layers(
    places: Places,
    image_id: str,
    chains: Sequence[str],
    *,
    on_done: Callable[[str], None] | None = None,
    check: Callable[[], None] | None = None,
) -> list[str]:
    """The directories of an image's layers, top first; missing ones are unpacked. The caller has a lease on it.

    ``chains``: chain ids, top first. ``on_done`` and ``check``: see ``LayerStore.ensure``. Raises: CorralError.
    """
    store = layer_store(places)
    found = store.find(chains) if chains else []
    if found is None:
        found = _unpack(places, store, image_id, on_done=on_done, check=check)
    if not found:
        return [_empty_layer(places)]
    return found


def reach_layers(places: Places, definition: dict[str, Any]) -> list[str]:
    """The directories below a container's writable one, top first. Unpacks what is missing. Raises: NotFound ..."""
    root = definition["root"]
    if root["kind"] == "host":
        return ["/"]
    if root["kind"] == "rootfs":
        if not paths.isdir(root["path"]):
            raise NotFound(f"use the root filesystem {root['path']!r}: no such directory")
        return [root["path"]]
    return image_layers(places, root["image_id"], read_image(places, definition)["chains"])


def _unpack(
    places: Places,
    store: LayerStore,
    image_id: str,
    *,
    on_done: Callable[[str], None] | None,
    check: Callable[[], None] | None,
) -> list[str]:
    from corral.image.store import ImageStore

    images = ImageStore(places.images)
    unpack = _unpack_inside(images) if is_rootless() else None
    layers = images.by_id(image_id).layers
    return store.ensure(layers, images.open_layer, on_done=on_done, check=check, unpack=unpack)


def _unpack_inside(images: ImageStore) -> Callable[[Wanted, int], Applied]:
    """Unpacks where all of a user's ids exist, so that files can belong to them."""
    from corral.engine.idmaps import own_maps
    from corral.engine.within import call
    from corral.image.layers import Applied
    from corral.runtime.within import Within

    where = Within(*own_maps())

    def unpack(layer: Wanted, folder_fd: int) -> Applied:
        posix.mkdir("diff", 0o755, dir_fd=folder_fd)
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        blob, target = images.blobs.open(layer.digest), posix.open("diff", flags, dir_fd=folder_fd)
        try:
            posix.fchmod(target, 0o755)
            asked = {"digest": layer.digest, "diff_id": layer.diff_id, "marks": "user"}
            found = call(where, "unpack", asked, fds=[blob, target])
        finally:
            posix.close(blob)
            posix.close(target)
        applied = Applied()
        applied.entries, applied.size_bytes = found["entries"], found["size_bytes"]
        applied.skipped_devices, applied.is_opaque = found["skipped_devices"], found["is_opaque"]
        return applied

    return unpack


def _empty_layer(places: Places, suffix: str = "") -> str:
    """What is below a container whose image has no layers at all."""
    path = f"{places.layers}/.empty{suffix}"
    paths.make_directories(path, 0o755)
    return path


def describe(definition: dict[str, Any], layers: Sequence[str], places: Places) -> RootfsPlan:
    """The container's root, made of ``layers`` (directories, top first), for ``Session.begin``.

    Makes the writable directory if it is not there. Raises: InvalidArgument for a path that cannot be a layer.
    """
    container = places.container(definition["id"])
    for path in layers:
        if not path.startswith("/"):
            raise InvalidArgument(f"use the layer {path!r}: not an absolute path")
    uid_map, gid_map = id_maps(definition, places)
    is_mapped = bool(uid_map) and not is_rootless()
    is_volatile = bool(definition.get("auto_remove"))
    if is_volatile:
        _forget_mount(container)
    if definition["root"]["kind"] == "host" and is_rootless():
        from corral.engine.hostroot import host_parts

        skeleton, parts = host_parts(container)
        prepare_writable(container, skeleton)
        return RootfsPlan((skeleton,), container, is_volatile=is_volatile, parts=tuple(parts))
    if is_mapped:
        prepare_writable(container, layers[0], uid_map, gid_map)
        if not can_map(places):
            layers, is_mapped = _shifted(places, layers, uid_map, gid_map), False
    else:
        prepare_writable(container, layers[0])
    if definition.get("storage_bytes"):
        _limit_size(container, definition["id"], definition["storage_bytes"])
    fuse = _fuse_program() if is_rootless() and not can_stack(places) else ""
    return RootfsPlan(tuple(layers), container, is_mapped=is_mapped, is_volatile=is_volatile, fuse=fuse)


def can_map(places: Places) -> bool:
    """Whether this kernel, and the store's file system, can stack layers with mapped ids; tried once in each boot."""
    maps = [(0, BLOCK_FOR_TRIAL, 65536)]
    return _try(places, "idmapped", (maps, maps), is_mapped=True)


def can_stack(places: Places) -> bool:
    """Whether the kernel stacks layers in this user's own namespaces; tried once in each boot."""
    from corral.engine.idmaps import own_maps

    return _try(places, "stacked", own_maps(), is_mapped=False)


def _try(places: Places, name: str, maps: tuple[list[Extent], list[Extent]], *, is_mapped: bool) -> bool:
    from corral.linux.procfs import read_boot_id

    memory = f"{places.run}/{name}"
    boot = read_boot_id()
    known = read_bytes_or_none(memory) or b""
    if known.startswith(boot.encode()):
        return known.endswith(b"yes")
    from corral.engine.within import call
    from corral.runtime.within import Within

    lower = (_empty_layer(places), _empty_layer(places, "2"))
    trial = f"{places.layers}/.trial"
    for part in ("upper", "work"):
        paths.make_directories(f"{trial}/{part}", 0o755)
    plan = RootfsPlan(lower, "" if is_mapped else trial, is_mapped=is_mapped)
    try:
        call(Within(*maps, rootfs=plan, path="/sys"), "look", {"root": "/", "path": "/", "is_followed": True})
        answer = "yes"
    except CorralError:
        answer = "no"
    replace(memory, f"{boot} {answer}".encode())
    return answer == "yes"


def _fuse_program() -> str:
    """The path of fuse-overlayfs. Raises: Unsupported."""
    for directory in ("/usr/bin", "/usr/local/bin", "/usr/sbin"):
        if posix.access(f"{directory}/fuse-overlayfs", posix.X_OK):
            return f"{directory}/fuse-overlayfs"
    raise Unsupported(
        "stack the layers of the root: this kernel does not let users without privileges do it",
        hint="install fuse-overlayfs; Linux 5.11, with the store on ext4, xfs or btrfs, needs no help",
    )


def _shifted(places: Places, layers: Sequence[str], uid_map: Sequence[Extent], gid_map: Sequence[Extent]) -> list[str]:
    """Copies of the layers whose files belong to the container's ids. Raises: Unsupported for the host's root."""
    from corral.image.shifting import shifted_layer
    from corral.image.tarwrite import Ids

    for layer in layers:
        if not layer.startswith(f"{places.layers}/"):
            raise Unsupported(
                f"map the ids of {layer}: this host cannot, and it is not an image's, so it is not copied",
                hint="Linux 5.19 can, on ext4, xfs and btrfs; or use no user namespace, or an image",
            )
    ids = Ids(uid_map, gid_map)
    return [shifted_layer(places.layers, layer, (uid_map, gid_map), ids) for layer in layers]


def _limit_size(container: str, container_id: str, limit_bytes: int) -> None:
    """Bound what the writable directory holds. Idempotent. Raises: Unsupported where the file system cannot."""
    from corral.linux.quota import set_project, set_project_limit

    # Of the container's own; what else bears it is counted with it, so it is not a small number.
    project = 1 << 30 | int(container_id[:7], 16)
    try:
        for name in ("upper", "work"):
            fd = posix.open(f"{container}/{name}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            try:
                set_project(fd, project)
                set_project_limit(fd, project, limit_bytes)
            finally:
                posix.close(fd)
    except OSError as exc:
        raise Unsupported(
            f"limit the size of container {container_id[:12]} in {container}: {(exc.strerror or '').lower()}",
            hint="--storage-opt size= needs ext4 or xfs mounted with prjquota, and root",
            errno=exc.errno or 0,
        ) from exc


def _forget_mount(container: str) -> None:
    """Take away the kernel's mark of a root that was mounted and never synced, which forbids to mount it again.

    Only after a loss of power it would tell the truth, and then there is no second start.
    """
    mark = f"{container}/work/work/incompat"
    if not paths.isdir(paths.dirname(mark)):
        return
    if is_rootless():
        for path in (paths.dirname(mark), mark):
            try:
                posix.chmod(path, 0o700)
            except OSError:
                return  # there is none
    remove_tree(mark)


def prepare_writable(
    directory: str, top_layer: str, uid_map: Sequence[Extent] = (), gid_map: Sequence[Extent] = ()
) -> None:
    """Make ``upper`` and ``work`` in ``directory``. Idempotent.

    The upper directory is the container's / itself, so it looks like the topmost layer's, with the owner that the maps
    (inside, outside, size) give it.
    """
    upper = f"{directory}/upper"
    if paths.isdir(upper) and paths.isdir(f"{directory}/work"):
        return
    status = posix.stat(top_layer)
    paths.make_directories(f"{directory}/work", 0o700)
    new = f"{directory}/.new-upper"
    paths.make_directories(new, 0o700)
    if posix.geteuid() == 0:
        posix.chown(new, host_id_of(status.st_uid, uid_map), host_id_of(status.st_gid, gid_map))
    posix.chmod(new, status.st_mode & 0o7777)
    if not paths.isdir(upper):
        posix.rename(new, upper)


def host_id_of(inside: int, extents: Sequence[Extent]) -> int:
    """The id on this host of ``inside``; that of the namespace's root for one that it lacks."""
    if not extents:
        return inside
    for first, outside, size in extents:
        if first <= inside < first + size:
            return outside + inside - first
    return host_id_of(0, extents) if inside else extents[0][1]


def id_maps(definition: dict[str, Any], places: Places) -> tuple[list[Extent], list[Extent]]:
    """The id maps of the container's user namespace, or of that which it shares with another; none without."""
    from corral.engine.idmaps import own_maps
    from corral.engine.ledger import read_definition

    modes = definition.get("namespaces", {})
    # The other may share that of a third: each was made before who joined it.
    while str(modes.get("user", "")).startswith("container:"):
        try:
            modes = read_definition(places, modes["user"].removeprefix("container:")).get("namespaces", {})
        except NotFound:
            if not is_rootless():
                raise
            # It was removed: what a rootless container has on disc belongs to the user's ids, as with all of them.
            return own_maps()
    return [tuple(item) for item in modes.get("uid_map", [])], [tuple(item) for item in modes.get("gid_map", [])]


def mount_images(places: Places, definition: dict[str, Any]) -> dict[str, str]:
    """The directory that holds the merged tree of each image that the container mounts, by the image's id."""
    from corral.image.store import ImageStore

    store = ImageStore(places.images)
    sources = dict.fromkeys(mount["source"] for mount in definition.get("mounts", []) if mount["type"] == "image")
    images = {source: store.resolve(source) for source in sources}
    if images:
        # Before the layers are made: from then on they stay, whatever becomes of the image.
        chains = sorted({layer.chain_id for image in images.values() for layer in image.layers})
        write_object(f"{places.container(definition['id'])}/{_MOUNTED}", {"chains": chains})
    found = {}
    for source, image in images.items():
        layers = image_layers(places, image.id, [layer.chain_id for layer in reversed(image.layers)])
        if len(layers) == 1:
            found[source] = layers[0]
        else:
            from corral.image.merging import merged_tree

            found[source] = merged_tree(places.layers, image.top_chain_id, layers)
    return found


def collect_layers(places: Places) -> int:
    """Remove the layers that no image and no container needs; the bytes that this freed."""
    from corral.image.store import ImageStore

    def keep() -> set[str]:
        mounted: set[str] = set()
        for container_id in names.list_ids(places):
            record = read_object_or_none(f"{places.container(container_id)}/{_MOUNTED}") or {}
            mounted.update(record.get("chains", []))
        return ImageStore(places.images).chains_in_use() | mounted

    return layer_store(places).gc(keep)
