"""Save: images of the store as docker-archives, OCI archives or OCI layout directories.

The same images give the same bytes: no times, no order of chance.

Source: image-spec image-layout.md; Docker image spec 1.2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol

from corral.errors import AlreadyExists, InvalidArgument
from corral.image.digests import split
from corral.image.disk import storage_error, write_complete
from corral.image.ingest import CHUNK, Readable
from corral.image.layer_stream import LayerStream
from corral.image.load import CONTAINERD_NAME, REF_NAME
from corral.image.manifest import OCI_INDEX, Descriptor
from corral.image.tarstream import FILE, RECORD, Member
from corral.image.tarwrite import end_of_archive, header
from corral.oci.json import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.image.progress import Cancel
    from corral.image.store import Image, ImageStore, Layer

Format = Literal["docker-archive", "oci-archive", "oci-dir"]
FORMATS: tuple[Format, ...] = ("docker-archive", "oci-archive", "oci-dir")
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def save(
    store: ImageStore,
    names: Sequence[str],
    target: str | int,
    *,
    archive: Format = "docker-archive",
    cancel: Cancel | None = None,
) -> None:
    """Write the images to ``target``: a path, or (for archives) a descriptor, which stays open.

    An archive at a path appears when it is complete, in place of a file that was there; a directory must be empty.
    Raises: NotFound, AlreadyExists, InvalidArgument.
    """
    if archive not in FORMATS:
        raise InvalidArgument(f"save images: format {archive!r} is none of {', '.join(FORMATS)}")
    if not names:
        raise InvalidArgument("save images: none is named")
    chosen = _choose(store, names)
    if isinstance(target, int):
        if archive == "oci-dir":
            raise InvalidArgument("save images: a directory cannot be written to a pipe", hint="name it with --output")
        _write(store, chosen, _TarSink(target, cancel), archive)
        return
    is_taken = os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target))
    if (archive == "oci-dir" and is_taken) or (archive != "oci-dir" and os.path.isdir(target)):
        raise AlreadyExists(
            f"save images to {target}: it exists", hint="remove it, or choose another name", path=target
        )
    if archive == "oci-dir":
        _write(store, chosen, _FolderSink(target, cancel), archive)
    else:
        write_complete(target, lambda fd: _write(store, chosen, _TarSink(fd, cancel), archive))


class _Chosen:
    """An image and the names that it is saved under."""

    __slots__ = ("image", "names")

    def __init__(self, image: Image) -> None:
        self.image = image
        self.names: list[str] = []


def _choose(store: ImageStore, names: Sequence[str]) -> list[_Chosen]:
    chosen: dict[str, _Chosen] = {}
    for name in names:
        image, found = store.resolve_name(name)
        entry = chosen.setdefault(image.id, _Chosen(image))
        if found and found not in entry.names:
            entry.names.append(found)
    return list(chosen.values())


class _Sink(Protocol):
    """Where files go."""

    def file(self, name: str, size: int, content: Readable) -> None:
        """Write a file of ``size`` bytes."""

    def finish(self) -> None:
        """All files are written."""


class _TarSink:
    def __init__(self, fd: int, cancel: Cancel | None) -> None:
        self._fd = fd
        self._cancel = cancel
        self._written: set[str] = set()

    def file(self, name: str, size: int, content: Readable) -> None:
        if name in self._written:
            return
        self._written.add(name)
        member = Member(name.encode(), FILE, size)
        member.mode = 0o444
        self._write(header(member))
        _copy(content, size, name, self._write, self._cancel)
        self._write(bytes(-size % RECORD))

    def finish(self) -> None:
        self._write(end_of_archive())

    def _write(self, data: bytes) -> None:
        _write_all(self._fd, data, "the archive")


class _FolderSink:
    def __init__(self, path: str, cancel: Cancel | None) -> None:
        self._path = path
        self._cancel = cancel

    def file(self, name: str, size: int, content: Readable) -> None:
        path = os.path.join(self._path, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return  # a blob that two images share
        except OSError as exc:
            raise storage_error("make", path, exc) from exc
        try:
            _copy(content, size, path, lambda data: _write_all(fd, data, path), self._cancel)
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Nothing is left to do."""


def _write_all(fd: int, data: bytes, path: str) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as exc:
        raise storage_error("write", path, exc) from exc


def _copy(content: Readable, size: int, name: str, write: Callable[[bytes], None], cancel: Cancel | None) -> None:
    rest = size
    while data := content.read(CHUNK):
        if cancel is not None:
            cancel.check(f"save {name}")
        rest -= len(data)
        if rest < 0:
            break
        write(data)
    if rest:
        raise InvalidArgument(
            f"save {name}: its size is not {size} bytes", hint="the store's content has changed on disk"
        )


class _Bytes:
    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data


def _write(store: ImageStore, chosen: list[_Chosen], sink: _Sink, archive: Format) -> None:
    if archive == "docker-archive":
        _write_docker(store, chosen, sink)
    else:
        _write_oci(store, chosen, sink)
    sink.finish()


def _json(sink: _Sink, name: str, value: object) -> None:
    data = dumps(value).encode()
    sink.file(name, len(data), _Bytes(data))


# ---- Docker -------------------------------------------------------------------------------------------


def _write_docker(store: ImageStore, chosen: list[_Chosen], sink: _Sink) -> None:
    entries = []
    for item in chosen:
        layers = []
        for layer in item.image.layers:
            name = f"{split(layer.diff_id)[1]}.tar"
            layers.append(name)
            _write_tar(store, layer, name, sink)
        config = f"{split(item.image.id)[1]}.json"
        _write_blob(store, item.image.manifest.config, config, sink)
        entries.append({"Config": config, "RepoTags": item.names, "Layers": layers})
    _json(sink, "manifest.json", entries)


def _write_tar(store: ImageStore, layer: Layer, name: str, sink: _Sink) -> None:
    """The layer without compression. A header needs the size first, so a compressed one is read twice."""
    with store.open_layer(layer) as stream:
        size = stream.plain_size()
    with store.open_layer(layer) as stream:
        sink.file(name, size, stream)
        stream.verify()


def _write_blob(store: ImageStore, blob: Descriptor, name: str, sink: _Sink) -> None:
    # A blob is its own diff_id here: what is read is what is hashed.
    with LayerStream(store.blobs.open(blob.digest), blob.digest, blob.digest, is_raw=True) as stream:
        sink.file(name, blob.size, stream)
        stream.verify()


# ---- OCI ----------------------------------------------------------------------------------------------


def _write_oci(store: ImageStore, chosen: list[_Chosen], sink: _Sink) -> None:
    sink.file("oci-layout", len(_LAYOUT), _Bytes(_LAYOUT))
    entries = []
    tags = [name.rpartition(":")[2] for item in chosen for name in item.names]
    for item in chosen:
        for blob in item.image.manifest.blobs():
            _write_blob(store, blob, _blob_name(blob.digest), sink)
        manifest = Descriptor(item.image.manifest.media_type, item.image.digest, store.blobs.size(item.image.digest))
        _write_blob(store, manifest, _blob_name(manifest.digest), sink)
        for name in item.names or [""]:
            tag = name.rpartition(":")[2]
            # By their tags, skopeo and umoci find the images of a layout: complete names where tags are not enough.
            annotations = {REF_NAME: tag if tags.count(tag) == 1 else name, CONTAINERD_NAME: name} if name else {}
            entry = Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations, item.image.platform)
            entries.append(entry.to_json())
    _json(sink, "index.json", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _blob_name(digest: str) -> str:
    algorithm, digits = split(digest)
    return f"blobs/{algorithm}/{digits}"
