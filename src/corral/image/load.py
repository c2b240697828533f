"""Load: images from docker-archives, OCI archives and OCI layout directories into the store.

Owns the formats; how archives and directories are read is ``sources``' part.

Source: image-spec image-layout.md; Docker image spec 1.2 "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.image.config import parse_config
from corral.image.digests import digest_of
from corral.image.guard import Work
from corral.image.ingest import FdReader, Readable
from corral.image.layer_stream import compression_of
from corral.image.lookup import local_name
from corral.image.manifest import (
    MAX_CONFIG_BYTES,
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    as_list,
    as_object,
    parse_manifest,
    text_of,
)
from corral.image.platforms import host_platform, parse_platform, select
from corral.image.policy import load_policy
from corral.image.progress import Cancel
from corral.image.reference import parse_reference
from corral.image.sources import NOT_IMAGES_HINT, Archive, Contents, Directory, LoadContext, read_archive
from corral.oci.json import dumps, loads

if TYPE_CHECKING:
    from corral.image.blobs import BlobStore
    from corral.image.store import Image, ImageStore

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_MAX_IMAGES = 1000
# What an archive without a path is called in errors.
_STREAM = "archive"


def load(
    store: ImageStore,
    source: str | int,
    *,
    name: str = "",
    platform: str = "",
    cancel: Cancel | None = None,
) -> list[Image]:
    """Put the images of ``source`` (a path, or a descriptor, which may be a pipe and stays open) into the store.

    ``name`` is what an image gets that brings none. Raises: InvalidArgument for what is no archive of images, NotFound.
    """
    wanted = parse_platform(platform) if platform else host_platform()
    store.blobs.make_directories()
    try:
        with Work(store.path) as work:
            return _load(LoadContext(store, work, wanted, cancel or Cancel(), name, _STREAM), source)
    finally:
        # What no image turned out to need, or all of it if the archive was not one.
        store.sweep()


def _load(context: LoadContext, source: str | int) -> list[Image]:
    if isinstance(source, int):
        return _load_stream(context, FdReader(source))
    context.label = source
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise NotFound(f"load {source}: {str(exc.strerror).lower()}", path=source, errno=exc.errno or 0) from exc
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        return _load_directory(context, fd) if is_directory else _load_stream(context, FdReader(fd))
    finally:
        os.close(fd)


def _load_stream(context: LoadContext, source: Readable) -> list[Image]:
    archive = read_archive(context, source)
    if "index.json" in archive.documents:
        _check_policy(context, "oci-archive")
        return _load_index(context, archive)
    if "manifest.json" in archive.documents:
        _check_policy(context, "docker-archive")
        return _load_docker(context, archive)
    raise context.refuse("neither a docker-archive nor an oci-archive", NOT_IMAGES_HINT)


def _check_policy(context: LoadContext, transport: str) -> None:
    load_policy().check_load(transport, "" if context.label == _STREAM else context.label)


def _load_directory(context: LoadContext, fd: int) -> list[Image]:
    contents = Directory(context, fd)
    if contents.document("index.json") is not None:
        _check_policy(context, "oci")
        return _load_index(context, contents)
    data = contents.document("manifest.json")
    if data is None:
        raise context.refuse(
            "neither index.json nor manifest.json is in it", "for a root filesystem use `corral import`"
        )
    _check_policy(context, "dir")
    contents.is_flat = True
    parsed = parse_manifest(data, name=f"{context.label}/manifest.json")
    if not isinstance(parsed, Manifest):
        raise context.refuse("its manifest.json is an index")
    return [_load_manifest(context, contents, data, [local_name(context.name)] if context.name else [])]


# ---- OCI ----------------------------------------------------------------------------------------------


def _load_index(context: LoadContext, contents: Contents) -> list[Image]:
    data = contents.document("index.json") or b""
    parsed = parse_manifest(data, name=f"index.json of {context.label}")
    if not isinstance(parsed, Index):
        raise context.refuse("its index.json is no index")
    if not parsed.manifests:
        raise context.refuse("it holds no images")
    docker_names = _docker_names(context, contents)
    images: dict[str, Image] = {}
    problems: list[CorralError] = []
    for entries in _by_names(context, parsed.manifests):
        try:
            entry = entries[0] if len(entries) == 1 else select(Index("", entries), context.wanted, context.label)
            contents.bring(entry)
            data = _manifest_data(context, contents, entry)
        except NotFound as exc:
            problems.append(exc)
            continue
        image = _load_manifest(context, contents, data, _names(context, entry))
        for name in docker_names.get(image.id, []):
            image = context.store.add(image.digest, names=[name])
        images[image.id] = image
    if not images:
        raise problems[0] if problems else context.refuse("it holds no images")
    return list(images.values())


def _by_names(context: LoadContext, entries: list[Descriptor]) -> list[list[Descriptor]]:
    """The index's entries, those of one image for several platforms together."""
    groups: list[list[Descriptor]] = []
    per_name: dict[tuple[str, ...], list[Descriptor]] = {}
    for entry in entries[:_MAX_IMAGES]:
        if entry.platform is None:
            groups.append([entry])
        elif entry.platform.os != "unknown":  # under which build tools add attestations
            names = tuple(_names(context, entry))
            if names not in per_name:
                groups.append(per_name.setdefault(names, []))
            per_name[names].append(entry)
    return groups


def _manifest_data(context: LoadContext, contents: Contents, entry: Descriptor) -> bytes:
    """The manifest that the index's entry leads to: its own, or that for the wanted platform."""
    data = context.read(entry, MAX_MANIFEST_BYTES)
    parsed = parse_manifest(data, entry.media_type, name=f"manifest {entry.digest} of {context.label}")
    if isinstance(parsed, Manifest):
        return data
    chosen = select(parsed, context.wanted, context.label)
    contents.bring(chosen)
    return context.read(chosen, MAX_MANIFEST_BYTES)


def _load_manifest(context: LoadContext, contents: Contents, data: bytes, names: list[str]) -> Image:
    parsed = parse_manifest(data, name=f"manifest of {context.label}")
    if not isinstance(parsed, Manifest):
        raise context.refuse("an index within an index")
    for blob in parsed.blobs():
        contents.bring(blob)
        if not context.store.blobs.has(blob.digest):
            raise context.refuse(f"blob {blob.digest} is missing", "it was saved without all of its layers")
    digest = digest_of(data)
    context.work.keep([digest])
    context.store.blobs.put(data)
    return context.store.add(digest, names=names)


def _names(context: LoadContext, entry: Descriptor) -> list[str]:
    """What an entry of index.json is called: by containerd's annotation, by OCI's, or by who loads it."""
    if full := entry.annotations.get(CONTAINERD_NAME):
        return [parse_reference(full).tagged]
    ref = entry.annotations.get(REF_NAME, "")
    if "/" in ref or ":" in ref:
        return [local_name(ref)]
    if context.name:
        return [local_name(context.name)]
    if ref:
        # A mere tag. The directory's name is the best guess at a repository, if it can be one.
        base = os.path.basename(os.path.abspath(context.label)).partition(".")[0].lower()
        try:
            return [local_name(f"{base}:{ref}")]
        except InvalidArgument:
            return []
    return []


# ---- Docker -------------------------------------------------------------------------------------------


def _entries(context: LoadContext, data: bytes) -> list[dict[str, object]]:
    name = f"manifest.json of {context.label}"
    items = as_list(loads(data, name), name, "", _MAX_IMAGES)
    return [as_object(item, name, f"[{number}]") for number, item in enumerate(items)]


def _tags(context: LoadContext, entry: dict[str, object]) -> list[str]:
    name = f"manifest.json of {context.label}"
    tags = entry.get("RepoTags")
    items = as_list(tags, name, "RepoTags", _MAX_IMAGES) if tags is not None else []
    return [parse_reference(text_of(item, name, "RepoTags")).tagged for item in items]


def _docker_names(context: LoadContext, contents: Contents) -> dict[str, list[str]]:
    """Names by image id, where an OCI archive has Docker's manifest.json as well (docker save since 25)."""
    data = contents.document("manifest.json")
    if data is None:
        return {}
    found: dict[str, list[str]] = {}
    for entry in _entries(context, data):
        path = str(entry.get("Config", ""))
        digest = ":".join(path.split("/")[1:]) if path.startswith("blobs/") else ""
        found.setdefault(digest, []).extend(_tags(context, entry))
    return found


def _load_docker(context: LoadContext, archive: Archive) -> list[Image]:
    entries = _entries(context, archive.documents["manifest.json"])
    if not entries:
        raise context.refuse("it holds no images")
    return [_load_docker_image(context, archive, entry) for entry in entries]


def _load_docker_image(context: LoadContext, archive: Archive, entry: dict[str, object]) -> Image:
    name = f"manifest.json of {context.label}"
    config_digest, config_size = _file(context, archive, text_of(entry.get("Config"), name, "Config"))
    config = parse_config(context.store.blobs.read(config_digest, MAX_CONFIG_BYTES), f"config of {context.label}")
    paths = as_list(entry.get("Layers") or [], name, "Layers", MAX_LAYERS)
    if len(paths) != len(config.diff_ids):
        raise context.refuse(f"{len(paths)} layers, but its config names {len(config.diff_ids)}")
    layers = []
    for number, (path, diff_id) in enumerate(zip(paths, config.diff_ids, strict=True)):
        digest, size = _file(context, archive, text_of(path, name, f"Layers[{number}]"))
        suffix = _suffix(context.store.blobs, digest)
        if not suffix and digest != diff_id:
            raise context.refuse(f"layer {path} is {digest}, but its config says {diff_id}", "the archive is damaged")
        layers.append(Descriptor(OCI_LAYER + suffix, digest, size))
    manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, config_digest, config_size), layers)
    data = dumps(manifest.to_json()).encode()
    names = _tags(context, entry) or ([local_name(context.name)] if context.name else [])
    return _load_manifest(context, archive, data, names)


def _file(context: LoadContext, archive: Archive, path: str) -> tuple[str, int]:
    found = archive.file(posixpath.normpath(path))
    if found is None:
        raise context.refuse(f"{path!r} is missing", "the archive was cut off, or its files are not those it lists")
    return found


def _suffix(blobs: BlobStore, digest: str) -> str:
    """The media type's ending for a layer's blob."""
    fd = blobs.open(digest)
    try:
        kind = compression_of(os.read(fd, 6), f"layer {digest}")
    finally:
        os.close(fd)
    return f"+{kind}" if kind else ""
