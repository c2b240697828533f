"""Push: an image of the store to a registry.

Blobs that the registry has are not sent, those that another of its repositories has are mounted, the rest goes side by
side. Layers that are here without compression are compressed first, and the image here becomes the one that was sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from corral.errors import InvalidArgument
from corral.image.compressing import Gzipped
from corral.image.digests import digest_of
from corral.image.guard import Work
from corral.image.ingest import ingest
from corral.image.layer_stream import compression_of
from corral.image.lookup import LOCAL_REGISTRY
from corral.image.manifest import (
    MAX_BLOB_BYTES,
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    as_oci_layer,
)
from corral.image.parallel import do_all
from corral.image.progress import Cancel, Meter, OnProgress, Progress
from corral.image.pull import Access
from corral.image.reference import parse_reference
from corral.image.registries import load_registries
from corral.image.uploads import Upload
from corral.oci.json import dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.image.reference import Reference
    from corral.image.store import Image, ImageStore, Layer


def push(
    store: ImageStore,
    name: str,
    destination: str = "",
    *,
    access: Access | None = None,
    on_progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> str:
    """Send the image to ``destination`` (default: its name), and return the digest of the manifest there.

    Raises: NotFound, InvalidArgument, PermissionDenied, Unavailable, Cancelled.
    """
    image, found = store.resolve_name(name)
    target = destination.removeprefix("docker://") or found
    if not target:
        raise InvalidArgument(
            f"push {name}: an id says not where to", hint=f"corral push {name} REGISTRY/REPOSITORY:TAG"
        )
    if not destination and found.startswith(f"{LOCAL_REGISTRY}/"):
        raise InvalidArgument(
            f"push {name}: its name {found} is a local one", hint=f"corral push {name} REGISTRY/REPOSITORY:TAG"
        )
    reference = parse_reference(target)
    if reference.digest:
        raise InvalidArgument(f"push {name} to {target}: a digest follows from the content", hint="name a tag instead")
    registries = load_registries()
    endpoint = registries.endpoints(reference)[-1]
    stop = (cancel or Cancel()).child()
    chosen = access or Access()
    registry = chosen.open(endpoint, registries, stop)
    try:
        with Work(store.path) as work:
            work.keep([image.digest, *(item.digest for item in image.manifest.blobs())])
            pusher = _Pusher(store, Upload(registry, endpoint.repository), work, stop, on_progress)
            return pusher.push(image, reference, chosen.parallel)
    finally:
        registry.close()


@dataclass(frozen=True, slots=True)
class _Pusher:
    store: ImageStore
    upload: Upload
    work: Work
    cancel: Cancel
    on_progress: OnProgress | None

    def push(self, image: Image, reference: Reference, parallel: int) -> str:
        others = _other_repositories(image, reference)
        packed = self._packed(image)
        blobs = packed.blobs()
        jobs = [partial(self._send, packed, blob, others) for blob in blobs]
        do_all(jobs, at_once=parallel, cancel=self.cancel, name="corral-push")
        data = self.store.blobs.read(image.digest, MAX_MANIFEST_BYTES)
        if packed is not image.manifest:
            data = dumps(packed.to_json()).encode()
        digest = self.upload.put_manifest(reference.tag, data, packed.media_type)
        own = digest_of(data)
        self.work.keep([own])
        self.store.blobs.put(data)
        self.store.add(own, repo_digests=[f"{reference.name}@{own}"], is_better=True)
        return digest

    def _packed(self, image: Image) -> Manifest:
        """The image's manifest, with all layers compressed."""
        layers = []
        is_changed = False
        for layer, descriptor in zip(image.layers, image.manifest.layers, strict=True):
            packed = self._pack(layer, descriptor)
            is_changed |= packed is not descriptor
            layers.append(packed)
        if not is_changed:
            return image.manifest
        config = Descriptor(OCI_CONFIG, image.manifest.config.digest, image.manifest.config.size)
        return Manifest(OCI_MANIFEST, config, [as_oci_layer(item) for item in layers], image.manifest.annotations)

    def _pack(self, layer: Layer, descriptor: Descriptor) -> Descriptor:
        fd = self.store.blobs.open(layer.digest)
        try:
            if compression_of(os.read(fd, 6), f"layer {layer.digest}"):
                return descriptor
        finally:
            os.close(fd)
        act = f"compress layer {layer.digest}"
        with self.store.open_layer(layer) as stream:
            packed = Gzipped(stream, lambda _size: self.cancel.check(act))
            digest, size = ingest(self.store.blobs, packed, act, work=self.work, limit_bytes=MAX_BLOB_BYTES)
            stream.verify()
        return Descriptor(f"{OCI_LAYER}+gzip", digest, size, descriptor.annotations)

    def _send(self, manifest: Manifest, blob: Descriptor, others: list[str]) -> None:
        what: Literal["config", "layer"] = "config" if blob.digest == manifest.config.digest else "layer"
        meter = Meter(Progress(blob.digest, what, "waiting", 0, blob.size), self.on_progress)
        if self.upload.has_blob(blob.digest) or any(self.upload.mount_blob(blob.digest, item) for item in others):
            meter.report("present", blob.size)
            return
        meter.report("moving", 0)
        self.upload.send_blob(blob, lambda offset: _BlobSource(self.store, blob, offset), self._counting(meter))
        meter.report("done", blob.size)

    def _counting(self, meter: Meter) -> Callable[[int], None]:
        def on_bytes(done: int) -> None:
            self.cancel.check("push")
            meter.report("moving", done)

        return on_bytes


class _BlobSource:
    __slots__ = ("_fd", "_offset")

    def __init__(self, store: ImageStore, blob: Descriptor, offset: int) -> None:
        self._fd = store.blobs.open(blob.digest)
        self._offset = offset

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, size, self._offset)
        self._offset += len(data)
        return data

    def close(self) -> None:
        os.close(self._fd)


def _other_repositories(image: Image, reference: Reference) -> list[str]:
    """The repositories of the same registry that may have this image's blobs."""
    names = [*image.repo_digests, *image.names]
    found = {parse_reference(name).repository for name in names if name.startswith(f"{reference.registry}/")}
    return sorted(found - {reference.repository})[:3]
