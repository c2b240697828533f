"""The image store: what the engine knows of images.

``ImageStore(path)`` is one directory (``STORE/images``) and holds nothing in memory, so any number of threads and
processes may use one store at once. Reading it is cheap to import; what talks to registries and archives is imported by
the methods that need it.
"""

from __future__ import annotations

import time

from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound
from corral.image.blobs import BlobStore
from corral.image.config import parse_config
from corral.image.digests import chain_ids, split
from corral.image.disk import Lock
from corral.image.guard import Lease, kept_by_work, read_leases, remove_lease, write_lease
from corral.image.lookup import find, local_name
from corral.image.manifest import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from corral.image.refs import Change, Record, read_refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from corral.image.compose import Making
    from corral.image.config import ConfigFile, HistoryEntry, ImageConfig
    from corral.image.ingest import Readable
    from corral.image.layer_stream import LayerStream
    from corral.image.manifest import Descriptor, Platform
    from corral.image.progress import Cancel, OnProgress
    from corral.image.pull import Access, Policy
    from corral.image.save import Format

    # ImageStore has a method of the name `list`.
    Images: TypeAlias = list["Image"]
    Problems: TypeAlias = list[CorralError]
    History: TypeAlias = list[HistoryEntry]
    Leases: TypeAlias = list[Lease]
    Names: TypeAlias = list[str]


class Layer:
    """One layer: its blob, and what it unpacks to. ``chain_id`` names it with everything below it."""

    __slots__ = ("chain_id", "diff_id", "digest", "media_type", "size")

    def __init__(self, descriptor: Descriptor, diff_id: str, chain_id: str) -> None:
        self.digest = descriptor.digest
        self.size = descriptor.size
        self.media_type = descriptor.media_type
        self.diff_id = diff_id
        self.chain_id = chain_id

    def __repr__(self) -> str:
        return f"Layer({self.digest!r}, diff_id={self.diff_id!r})"


class Image:
    """One image of the store, as it was when it was asked for.

    ``id`` is the digest of its config, ``digest`` that of its manifest. ``names`` are complete, with tag;
    ``repo_digests`` say what it was fetched as.
    """

    __slots__ = ("added_ns", "config_file", "digest", "id", "manifest", "names", "repo_digests")

    def __init__(self, image_id: str, record: Record, names: list[str], manifest: Manifest, config: ConfigFile) -> None:
        self.id = image_id
        self.digest = record.manifest
        self.added_ns = record.added_ns
        self.repo_digests = record.repo_digests
        self.names = names
        self.manifest = manifest
        self.config_file = config

    @property
    def config(self) -> ImageConfig:
        """What its containers start with."""
        return self.config_file.image_config()

    @property
    def layers(self) -> list[Layer]:
        """Bottom first."""
        diff_ids = self.config_file.diff_ids
        return [
            Layer(descriptor, diff_id, chain)
            for descriptor, diff_id, chain in zip(self.manifest.layers, diff_ids, chain_ids(diff_ids), strict=True)
        ]

    @property
    def top_chain_id(self) -> str:
        """The chain id of the whole root filesystem; '' for an image without layers."""
        chains = chain_ids(self.config_file.diff_ids)
        return chains[-1] if chains else ""

    @property
    def platform(self) -> Platform:
        """What it is for."""
        return self.config_file.platform

    @property
    def created(self) -> str:
        """When it was made, as it says (RFC 3339)."""
        return self.config_file.created

    @property
    def size_bytes(self) -> int:
        """Size of its blobs, as they are fetched."""
        return sum(item.size for item in self.manifest.blobs())

    def to_json(self) -> dict[str, object]:
        """Everything about it, for `inspect`."""
        return {
            "id": self.id,
            "digest": self.digest,
            "names": self.names,
            "repo_digests": self.repo_digests,
            "created": self.created,
            "author": self.config_file.author,
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "variant": self.platform.variant,
            "size_bytes": self.size_bytes,
            "media_type": self.manifest.media_type,
            "annotations": self.manifest.annotations,
            "config": self.config,
            "layers": [
                {"digest": item.digest, "size_bytes": item.size, "media_type": item.media_type, "diff_id": item.diff_id}
                for item in self.layers
            ],
            "history": self.config_file.history(),
        }


class Removal:
    """What a removal did: names taken away, images (ids) gone, bytes of content freed."""

    __slots__ = ("deleted", "freed_bytes", "untagged")

    def __init__(self) -> None:
        self.untagged: list[str] = []
        self.deleted: list[str] = []
        self.freed_bytes = 0


class ImageStore:
    """The images below one directory, which is made when something is first put into it."""

    __slots__ = ("blobs", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.blobs = BlobStore(path)

    def resolve(self, name: str) -> Image:
        """The image that a name, a digest, an id or its beginning means. Raises: NotFound, InvalidArgument."""
        return self.resolve_name(name)[0]

    def resolve_name(self, name: str) -> tuple[Image, str]:
        """As ``resolve``, with the complete name by which it was found ('' if by digest or id)."""
        refs = read_refs(self.path)
        found = find(refs, name)
        record = refs.images[found.image_id]
        return self._image(found.image_id, record, refs.names_of(found.image_id)), found.name

    def by_id(self, image_id: str) -> Image:
        """The image with this id, also when its record was removed by force while a lease still keeps it."""
        refs = read_refs(self.path)
        record = refs.images.get(image_id)
        if record is None:
            lease = next((item for item in read_leases(self.path) if item.image_id == image_id), None)
            if lease is None:
                raise NotFound(f"find image {image_id}: not in the store")
            record = Record(lease.manifest, 0)
        return self._image(image_id, record, refs.names_of(image_id))

    def list(self) -> Images:
        """All images that can be read, the newest addition first; ``problems`` tells of the others."""
        return self._survey()[0]

    def problems(self) -> Problems:
        """What is wrong with the images that cannot be read."""
        return self._survey()[1]

    def _survey(self) -> tuple[Images, Problems]:
        refs = read_refs(self.path)
        images: Images = []
        problems: Problems = []
        for image_id, record in sorted(refs.images.items(), key=lambda item: (-item[1].added_ns, item[0])):
            try:
                images.append(self._image(image_id, record, refs.names_of(image_id)))
            except CorralError as exc:
                problems.append(exc)
        return images, problems

    def history(self, name: str) -> History:
        """How the image came about, oldest step first."""
        return self.resolve(name).config_file.history()

    def add(
        self,
        manifest_digest: str,
        *,
        names: Iterable[str] = (),
        repo_digests: Iterable[str] = (),
        is_better: bool = False,
    ) -> Image:
        """Record the image whose manifest, config and layers are in the store, and give it ``names``.

        A name that led elsewhere leads here now. An image that is here already keeps its manifest, unless this one
        ``is_better``. The caller's work keeps the content until this is done. Idempotent.
        """
        manifest, _config = self._read(manifest_digest)
        image_id = manifest.config.digest
        with Change(self.path) as refs:
            record = refs.images.setdefault(image_id, Record(manifest_digest, time.time_ns()))
            if record.manifest != manifest_digest and (is_better or not self._is_complete(record.manifest)):
                record.manifest = manifest_digest
            for blob in self._manifest(record.manifest).blobs():
                if not self.blobs.has(blob.digest):
                    raise NotFound(f"add image {image_id}: blob {blob.digest} is not in the store")
            record.repo_digests = sorted({*record.repo_digests, *repo_digests})
            for name in names:
                refs.names[name] = image_id
            return self._image(image_id, record, refs.names_of(image_id))

    def pull(
        self,
        name: str,
        *,
        policy: Policy = "missing",
        platform: str = "",
        access: Access | None = None,
        on_progress: OnProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Image:
        """Have the image in the store, as ``policy`` says; see ``pull.pull``."""
        from corral.image.pull import pull

        return pull(self, name, policy=policy, platform=platform, access=access, on_progress=on_progress, cancel=cancel)

    def push(
        self,
        name: str,
        destination: str = "",
        *,
        access: Access | None = None,
        on_progress: OnProgress | None = None,
        cancel: Cancel | None = None,
    ) -> str:
        """Send the image to a registry; returns its digest there. See ``push.push``."""
        from corral.image.push import push

        return push(self, name, destination, access=access, on_progress=on_progress, cancel=cancel)

    def load(self, source: str | int, *, name: str = "", platform: str = "", cancel: Cancel | None = None) -> Images:
        """Take images over from an archive or an OCI layout; see ``load.load``."""
        from corral.image.load import load

        return load(self, source, name=name, platform=platform, cancel=cancel)

    def save(
        self,
        names: Sequence[str],
        target: str | int,
        *,
        archive: Format = "docker-archive",
        cancel: Cancel | None = None,
    ) -> None:
        """Write images to an archive or an OCI layout; see ``save.save``."""
        from corral.image.save import save

        save(self, names, target, archive=archive, cancel=cancel)

    def import_(self, source: str | int, making: Making) -> Image:
        """Make an image of a root filesystem: a tar or a directory; see ``compose.import_image``."""
        from corral.image.compose import import_image

        return import_image(self, source, making)

    def commit(self, layer: Readable | None, making: Making, *, base: Image | None = None) -> Image:
        """Make an image of ``base`` and a layer (a tar stream) on top of it; see ``compose.add_image``."""
        from corral.image.compose import add_image

        return add_image(self, layer, making, base=base)

    def tag(self, name: str, new_name: str) -> str:
        """Give the image another name, which is returned complete. A name that led elsewhere leads here now."""
        complete = local_name(new_name)
        with Change(self.path) as refs:
            refs.names[complete] = find(refs, name).image_id
        return complete

    def untag(self, name: str) -> str:
        """Take one name away, and keep the image. Returns the complete name. Raises: NotFound; InvalidArgument."""
        with Change(self.path) as refs:
            found = find(refs, name)
            if not found.name:
                raise InvalidArgument(f"untag {name!r}: this is an id, not a name")
            del refs.names[found.name]
        return found.name

    def remove(self, name: str, *, force: bool = False) -> Removal:
        """Take the name away, and the image with it if that was its last one, or if it was named by id.

        Raises: NotFound; FailedPrecondition if a lease is on it, or if an id means an image with several names; with
        ``force`` neither counts, but content under a lease stays until the lease ends.
        """
        removal = Removal()
        with Change(self.path) as refs:
            found = find(refs, name)
            names = refs.names_of(found.image_id)
            if found.name and len(names) > 1:
                names = [found.name]
            else:
                if not force:
                    self._refuse_if_needed(name, found.image_id, names)
                del refs.images[found.image_id]
                removal.deleted.append(found.image_id)
            for item in names:
                del refs.names[item]
            removal.untagged.extend(names)
        removal.freed_bytes = self.sweep()
        return removal

    def prune(self, *, everything: bool = False) -> Removal:
        """Remove the images without a name, or ``everything`` that has no lease."""
        removal = Removal()
        with Change(self.path) as refs:
            leased = {lease.image_id for lease in read_leases(self.path)}
            for image_id in [item for item in refs.images if item not in leased]:
                names = refs.names_of(image_id)
                if names and not everything:
                    continue
                del refs.images[image_id]
                removal.deleted.append(image_id)
                for item in names:
                    del refs.names[item]
                    removal.untagged.append(item)
        removal.freed_bytes = self.sweep()
        return removal

    def lease(self, owner: str, name: str, *, is_synced: bool = True) -> Image:
        """Keep the image for ``owner`` (``container-ID``) until ``release``; a lease of the owner's is replaced.

        ``is_synced``: also after a loss of power, which an owner that will be gone then does not need.
        """
        with Lock(self.path, is_shared=True):
            image = self.resolve(name)
            write_lease(self.path, Lease(owner, image.id, image.digest), is_synced=is_synced)
        return image

    def release(self, owner: str) -> None:
        """End the owner's lease. Idempotent; content that nothing else keeps goes with the next sweep."""
        remove_lease(self.path, owner)

    def leases(self) -> Leases:
        """All leases, by owner."""
        return read_leases(self.path)

    def chains_in_use(self) -> set[str]:
        """The chain ids of all layers of all images that are recorded or leased: what unpacked layers to keep."""
        chains: set[str] = set()
        with Lock(self.path, is_shared=True):
            for digest in self._manifests_in_use():
                _manifest, config = self._read(digest)
                chains.update(chain_ids(config.diff_ids))
        return chains

    def open_layer(self, layer: Layer) -> LayerStream:
        """The layer's tar bytes, unpacked and counted while they are read; the caller closes it."""
        from corral.image.layer_stream import LayerStream

        return LayerStream(self.blobs.open(layer.digest), layer.digest, layer.diff_id)

    def sweep(self) -> int:
        """Remove the blobs that no image, lease or work keeps. Returns the bytes that this freed."""
        freed = 0
        with Lock(self.path):
            kept = kept_by_work(self.path)
            for digest in self._manifests_in_use():
                kept.add(digest)
                if self.blobs.has(digest):
                    kept.update(item.digest for item in self._manifest(digest).blobs())
            for digest, size in self.blobs.entries():
                if digest not in kept:
                    self.blobs.remove(digest)
                    freed += size
        return freed

    def gc(self, is_alive: Callable[[str], bool] | None = None) -> int:
        """As ``sweep``, and also end the leases whose owner is not alive, and remove transfers that broke off.

        Returns the bytes that this freed.
        """
        from corral.image.ingest import remove_leftovers

        if is_alive is not None:
            for lease in self.leases():
                if not is_alive(lease.owner):
                    self.release(lease.owner)
        return self.sweep() + remove_leftovers(self.blobs)

    def _manifests_in_use(self) -> set[str]:
        recorded = {record.manifest for record in read_refs(self.path).images.values()}
        return recorded | {lease.manifest for lease in read_leases(self.path)}

    def _refuse_if_needed(self, name: str, image_id: str, names: Names) -> None:
        if len(names) > 1:
            raise FailedPrecondition(
                f"remove image {name!r}: it has several names",
                hint=f"remove it by these names ({', '.join(names)}), or all at once with --force",
            )
        owners = [lease.owner for lease in read_leases(self.path) if lease.image_id == image_id]
        if owners:
            raise FailedPrecondition(
                f"remove image {name!r}: in use by {', '.join(owners)}",
                hint="remove the containers first, or use --force to take its name away",
            )

    def _image(self, image_id: str, record: Record, names: Names) -> Image:
        manifest, config = self._read(record.manifest)
        return Image(image_id, record, names, manifest, config)

    def _manifest(self, digest: str) -> Manifest:
        data = self.blobs.read(digest, MAX_MANIFEST_BYTES)
        manifest = parse_manifest(data, name=f"manifest {digest}")
        if not isinstance(manifest, Manifest):
            raise InvalidArgument(f"read manifest {digest}: an index where one image was expected")
        return manifest

    def _read(self, digest: str) -> tuple[Manifest, ConfigFile]:
        manifest = self._manifest(digest)
        name = f"config {manifest.config.digest}"
        config = parse_config(self.blobs.read(manifest.config.digest, MAX_CONFIG_BYTES), name)
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"read {name}: {len(config.diff_ids)} diff_ids for {len(manifest.layers)} layers",
                hint="config and manifest of this image do not belong together: do not trust it",
            )
        return manifest, config

    def has_complete(self, image_id: str) -> bool:
        """Whether the image is recorded and all of its content is here."""
        record = read_refs(self.path).images.get(image_id)
        return record is not None and self._is_complete(record.manifest)

    def _is_complete(self, manifest_digest: str) -> bool:
        if not self.blobs.has(manifest_digest):
            return False
        return all(self.blobs.has(item.digest) for item in self._manifest(manifest_digest).blobs())


def short_id(image_id: str) -> str:
    """The 12 digits that tables show."""
    return split(image_id)[1][:12]
