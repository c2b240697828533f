"""Load: images from docker-archives, OCI archives and OCI layout directories into the store.

Archives are read once, front to back, so that pipes do: every file in them goes to the store as a blob first, and what
no image turns out to need is swept. A path inside an archive is a key in a table and never a path on disk.

Source: image-spec image-layout.md; Docker image spec 1.2 "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Protocol

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.image.config import parse_config
from corral.image.digests import digest_of, is_digest, split
from corral.image.disk import storage_error
from corral.image.guard import Work
from corral.image.ingest import CHUNK, Readable, claim, ingest
from corral.image.layer_stream import Unpacked, compression_of
from corral.image.lookup import local_name
from corral.image.manifest import (
    MAX_BLOB_BYTES,
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
from corral.image.progress import Cancel
from corral.image.reference import parse_reference
from corral.image.tarstream import FILE, LINK, SYMLINK, Member, TarReader
from corral.oci.json import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.image.blobs import BlobStore
    from corral.image.manifest import Platform
    from corral.image.store import Image, ImageStore

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_MAX_MEMBERS = 100_000
_MAX_IMAGES = 1000
_MAX_PADDING_BYTES = 64 << 20
_DOCUMENTS = frozenset({"manifest.json", "index.json", "oci-layout"})
# Left over from formats before 2016; no reader needs them.
_LEGACY = ("/VERSION", "/json")
_NOT_ONE_HINT = "for the tar of a root filesystem use `corral import`"


class FdReader:
    """A descriptor as a ``Readable``; borrowed."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        """The next bytes; none at the end."""
        return os.read(self._fd, size)


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
            return _load(_Context(store, work, wanted, cancel or Cancel(), name, "archive"), source)
    finally:
        # What no image turned out to need, or all of it if the archive was not one.
        store.sweep()


def _load(context: _Context, source: str | int) -> list[Image]:
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


class _Context:
    """What all steps of one load share."""

    __slots__ = ("cancel", "label", "name", "store", "wanted", "work")

    def __init__(self, store: ImageStore, work: Work, wanted: Platform, cancel: Cancel, *names: str) -> None:
        self.store = store
        self.work = work
        self.wanted = wanted
        self.cancel = cancel
        self.name, self.label = names

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A small blob that is in the store."""
        return self.store.blobs.read(descriptor.digest, limit_bytes)

    def refuse(self, cause: str, hint: str = "") -> InvalidArgument:
        """The error for this source."""
        return InvalidArgument(f"load {self.label}: {cause}", hint=hint)


class _Contents(Protocol):
    """Where the documents and blobs of an archive or a directory are."""

    def document(self, name: str) -> bytes | None:
        """A document at the top, or None."""

    def bring(self, blob: Descriptor) -> None:
        """Have the blob in the store, if the source has it."""


# ---- archives -----------------------------------------------------------------------------------------


class _Archive:
    """What was found in an archive: documents, and where the content of each file is in the store."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, tuple[str, int]] = {}
        self.links: dict[str, str] = {}

    def document(self, name: str) -> bytes | None:
        return self.documents.get(name)

    def bring(self, blob: Descriptor) -> None:
        """All that the archive has is in the store already."""

    def file(self, name: str) -> tuple[str, int] | None:
        """(digest, size) of a file, also through links."""
        for _hop in range(8):
            if name in self.files:
                return self.files[name]
            if name not in self.links:
                return None
            name = self.links[name]
        return None


def _load_stream(context: _Context, source: Readable) -> list[Image]:
    archive = _Archive()
    unpacked = Unpacked(source, context.label)
    for count, member in enumerate(_members(context, reader := TarReader(unpacked))):
        if count >= _MAX_MEMBERS:
            raise context.refuse(f"more than {_MAX_MEMBERS} files", _NOT_ONE_HINT)
        context.cancel.check(f"load {context.label}")
        _take(context, archive, member, reader)
    padding = 0
    while data := unpacked.read(CHUNK):
        # Who writes into a pipe wants all of it read, but not for ever.
        context.cancel.check(f"load {context.label}")
        padding += len(data)
        if padding > _MAX_PADDING_BYTES:
            raise context.refuse(f"more than {_MAX_PADDING_BYTES} bytes follow the archive's end")
    if "index.json" in archive.documents:
        return _load_index(context, archive)
    if "manifest.json" in archive.documents:
        return _load_docker(context, archive)
    raise context.refuse("neither a docker-archive nor an oci-archive", _NOT_ONE_HINT)


def _members(context: _Context, reader: TarReader) -> Iterator[Member]:
    try:
        yield from reader
    except InvalidArgument as exc:
        raise context.refuse(f"not a tar archive: {exc.message}", _NOT_ONE_HINT) from exc


def _take(context: _Context, archive: _Archive, member: Member, reader: TarReader) -> None:
    name = _key(member.name)
    if member.kind == SYMLINK:
        archive.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), _text(member.link)))
    elif member.kind == LINK:
        archive.links[name] = _key(member.link)
    elif member.kind == FILE and name in _DOCUMENTS:
        if member.stored > MAX_MANIFEST_BYTES:
            raise context.refuse(f"{name} is larger than {MAX_MANIFEST_BYTES} bytes")
        archive.documents[name] = reader.read_content()
    elif member.kind == FILE and not name.endswith(_LEGACY) and name != "repositories":
        archive.files[name] = _take_blob(context, name, member, reader)


def _take_blob(context: _Context, name: str, member: Member, reader: TarReader) -> tuple[str, int]:
    if member.sparse is not None:
        raise context.refuse(f"{name!r} is a sparse file")
    parts = name.split("/")
    digest = ":".join(parts[1:])
    if len(parts) == 3 and parts[0] == "blobs" and is_digest(digest):
        descriptor = Descriptor("", digest, member.size)
        context.work.keep([digest])
        _bring(context, descriptor, _PiecesReader(reader))
        return digest, member.size
    act = f"load {context.label}: {name}"
    return ingest(context.store.blobs, _PiecesReader(reader), act, work=context.work, limit_bytes=MAX_BLOB_BYTES)


class _PiecesReader:
    """The content of the archive's current member as a ``Readable``."""

    __slots__ = ("_pieces",)

    def __init__(self, reader: TarReader) -> None:
        self._pieces = reader.pieces()

    def read(self, _size: int, /) -> bytes:
        return bytes(next(self._pieces, b""))


def _bring(context: _Context, blob: Descriptor, source: Readable) -> None:
    """Put ``source``, which should be ``blob``, into the store, unless it is there."""
    partial = claim(context.store.blobs, blob, context.cancel)
    if partial is None:
        return
    with partial:
        partial.rewind()
        while data := source.read(CHUNK):
            context.cancel.check(f"load {context.label}")
            partial.write(data)
        partial.commit()


def _key(name: bytes) -> str:
    return posixpath.normpath("/" + _text(name)).lstrip("/")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


# ---- directories --------------------------------------------------------------------------------------


class _Directory:
    """An OCI layout, or the directory that skopeo's and podman's ``dir:`` writes (``is_flat``)."""

    def __init__(self, context: _Context, fd: int) -> None:
        self._context = context
        self._fd = fd
        self.is_flat = False

    def document(self, name: str) -> bytes | None:
        try:
            fd = self._open(name)
        except FileNotFoundError:
            return None
        try:
            data = os.read(fd, MAX_MANIFEST_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > MAX_MANIFEST_BYTES:
            raise self._context.refuse(f"{name} is larger than {MAX_MANIFEST_BYTES} bytes")
        return data

    def bring(self, blob: Descriptor) -> None:
        self._context.work.keep([blob.digest])
        if self._context.store.blobs.has(blob.digest):
            return
        algorithm, digits = split(blob.digest)
        try:
            fd = self._open(digits if self.is_flat else f"blobs/{algorithm}/{digits}")
        except FileNotFoundError:
            return
        try:
            _bring(self._context, blob, FdReader(fd))
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=self._fd)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FileNotFoundError(path) from exc
        except OSError as exc:
            raise storage_error("open", f"{self._context.label}/{path}", exc) from exc
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._context.refuse(f"{path} is not a file")
        return fd


def _load_directory(context: _Context, fd: int) -> list[Image]:
    contents = _Directory(context, fd)
    if contents.document("index.json") is not None:
        return _load_index(context, contents)
    data = contents.document("manifest.json")
    if data is None:
        raise context.refuse(
            "neither index.json nor manifest.json is in it", "for a root filesystem use `corral import`"
        )
    contents.is_flat = True
    parsed = parse_manifest(data, name=f"{context.label}/manifest.json")
    if not isinstance(parsed, Manifest):
        raise context.refuse("its manifest.json is an index")
    return [_load_manifest(context, contents, data, [local_name(context.name)] if context.name else [])]


# ---- OCI ----------------------------------------------------------------------------------------------


def _load_index(context: _Context, contents: _Contents) -> list[Image]:
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


def _by_names(context: _Context, entries: list[Descriptor]) -> list[list[Descriptor]]:
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


def _manifest_data(context: _Context, contents: _Contents, entry: Descriptor) -> bytes:
    """The manifest that the index's entry leads to: its own, or that for the wanted platform."""
    data = context.read(entry, MAX_MANIFEST_BYTES)
    parsed = parse_manifest(data, entry.media_type, name=f"manifest {entry.digest} of {context.label}")
    if isinstance(parsed, Manifest):
        return data
    chosen = select(parsed, context.wanted, context.label)
    contents.bring(chosen)
    return context.read(chosen, MAX_MANIFEST_BYTES)


def _load_manifest(context: _Context, contents: _Contents, data: bytes, names: list[str]) -> Image:
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


def _names(context: _Context, entry: Descriptor) -> list[str]:
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


def _entries(context: _Context, data: bytes) -> list[dict[str, object]]:
    name = f"manifest.json of {context.label}"
    items = as_list(loads(data, name), name, "", _MAX_IMAGES)
    return [as_object(item, name, f"[{number}]") for number, item in enumerate(items)]


def _tags(context: _Context, entry: dict[str, object]) -> list[str]:
    name = f"manifest.json of {context.label}"
    tags = entry.get("RepoTags")
    items = as_list(tags, name, "RepoTags", _MAX_IMAGES) if tags is not None else []
    return [parse_reference(text_of(item, name, "RepoTags")).tagged for item in items]


def _docker_names(context: _Context, contents: _Contents) -> dict[str, list[str]]:
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


def _load_docker(context: _Context, archive: _Archive) -> list[Image]:
    entries = _entries(context, archive.documents["manifest.json"])
    if not entries:
        raise context.refuse("it holds no images")
    return [_load_docker_image(context, archive, entry) for entry in entries]


def _load_docker_image(context: _Context, archive: _Archive, entry: dict[str, object]) -> Image:
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


def _file(context: _Context, archive: _Archive, path: str) -> tuple[str, int]:
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
