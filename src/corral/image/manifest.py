"""Manifests, indexes and descriptors: JSON of a registry or an archive, as typed values.

Everything here was written by somebody else, so every member that is used is checked, and sizes and counts are bounded.
Cheap to import; no I/O.

Source: image-spec manifest.md, image-index.md, descriptor.md; Docker's manifest schema 2.
"""

from __future__ import annotations

from corral.errors import InvalidArgument, Unsupported
from corral.image.digests import parse_digest
from corral.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
# Docker's name of a kind of layer -> OCI's.
_OCI_LAYERS = {
    DOCKER_LAYER: OCI_LAYER,
    f"{DOCKER_LAYER}.gzip": f"{OCI_LAYER}+gzip",
    f"{DOCKER_LAYER}.zstd": f"{OCI_LAYER}+zstd",
}

MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 8 << 20
# More layers than any builder makes, and than an overlay mount takes.
MAX_LAYERS = 500
MAX_INDEX_ENTRIES = 1000
MAX_BLOB_BYTES = 1 << 50


class Platform:
    """What an image was made for: ``linux/arm64/v8``."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os = os
        self.architecture = architecture
        self.variant = variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Descriptor:
    """A piece of content: its media type, digest and size in bytes; in an index also the platform it is for."""

    __slots__ = ("annotations", "digest", "media_type", "platform", "size")

    def __init__(
        self,
        media_type: str,
        digest: str,
        size: int,
        annotations: Mapping[str, str] | None = None,
        platform: Platform | None = None,
    ) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.annotations = dict(annotations or {})
        self.platform = platform

    def to_json(self) -> dict[str, object]:
        """The descriptor as it stands in a manifest or an index."""
        value: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            value["annotations"] = self.annotations
        if self.platform is not None:
            parts = {"architecture": self.platform.architecture, "os": self.platform.os}
            value["platform"] = {**parts, "variant": self.platform.variant} if self.platform.variant else parts
        return value

    def __repr__(self) -> str:
        return f"Descriptor({self.media_type!r}, {self.digest!r}, {self.size})"


class Manifest:
    """One image for one platform: a config and its layers, bottom first."""

    __slots__ = ("annotations", "config", "layers", "media_type")

    def __init__(
        self,
        media_type: str,
        config: Descriptor,
        layers: list[Descriptor],
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.media_type = media_type
        self.config = config
        self.layers = layers
        self.annotations = dict(annotations or {})

    def blobs(self) -> list[Descriptor]:
        """Config and layers, each once (a layer may stand in a manifest twice)."""
        return list({item.digest: item for item in (self.config, *self.layers)}.values())

    def to_json(self) -> dict[str, object]:
        """The manifest as a document."""
        value: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [item.to_json() for item in self.layers],
        }
        if self.annotations:
            value["annotations"] = self.annotations
        return value


class Index:
    """Several manifests, usually one per platform."""

    __slots__ = ("manifests", "media_type")

    def __init__(self, media_type: str, manifests: list[Descriptor]) -> None:
        self.media_type = media_type
        self.manifests = manifests


def parse_manifest(data: bytes, media_type: str = "", *, name: str = "manifest") -> Manifest | Index:
    """A manifest or an index from its bytes; ``media_type`` is what its carrier said it was, if anything.

    A document that could be read as either is refused: two readers would see two images (CVE-2021-41190).
    Raises: InvalidArgument; Unsupported for schema 1 and for artifacts that are no container images.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidArgument(f"read {name}: larger than {MAX_MANIFEST_BYTES} bytes")
    value = as_object(loads(data, name), name, "")
    if value.get("schemaVersion") == 1 or media_type in _SCHEMA_1:
        raise Unsupported(
            f"read {name}: docker manifest schema 1, which was given up in 2019",
            hint="push the image again with a current tool, or copy it with skopeo, which converts it",
        )
    declared = value.get("mediaType")
    kind = (text_of(declared, name, "mediaType") if declared is not None else "") or media_type
    has_manifests, has_layers = "manifests" in value, "layers" in value or "config" in value
    if has_manifests and has_layers:
        raise InvalidArgument(f"read {name}: both an index and a manifest", hint="whoever made this image meant harm")
    if has_manifests:
        return _parse_index(value, kind if kind in INDEX_TYPES else OCI_INDEX, name)
    if not has_layers:
        raise InvalidArgument(f"read {name}: neither a manifest nor an index")
    return _parse_single(value, DOCKER_MANIFEST if kind == DOCKER_MANIFEST else OCI_MANIFEST, name)


def _parse_index(value: Mapping[str, object], media_type: str, name: str) -> Index:
    items = as_list(value.get("manifests"), name, "manifests", MAX_INDEX_ENTRIES)
    return Index(media_type, [parse_descriptor(item, name, f"manifests[{i}]") for i, item in enumerate(items)])


def _parse_single(value: Mapping[str, object], media_type: str, name: str) -> Manifest:
    config = parse_descriptor(value.get("config"), name, "config")
    if config.media_type not in CONFIG_TYPES:
        raise Unsupported(
            f"read {name}: its config is {config.media_type!r}, so this is no container image",
            hint="artifacts such as charts and signatures cannot be run",
        )
    items = as_list(value.get("layers", []), name, "layers", MAX_LAYERS)
    layers = [parse_descriptor(item, name, f"layers[{i}]") for i, item in enumerate(items)]
    return Manifest(media_type, config, layers, _text_map(value.get("annotations"), name, "annotations"))


def parse_descriptor(value: object, name: str, pointer: str) -> Descriptor:
    """One descriptor of the document ``name``."""
    item = as_object(value, name, pointer)
    digest = parse_digest(item.get("digest"), f"{name}: {pointer}.digest")
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BLOB_BYTES:
        raise _wrong(name, f"{pointer}.size", "not a size in bytes")
    platform = None
    if item.get("platform") is not None:
        platform = _parse_platform(as_object(item["platform"], name, f"{pointer}.platform"), name, pointer)
    return Descriptor(
        text_of(item.get("mediaType", ""), name, f"{pointer}.mediaType"),
        digest,
        size,
        _text_map(item.get("annotations"), name, f"{pointer}.annotations"),
        platform,
    )


def _parse_platform(value: Mapping[str, object], name: str, pointer: str) -> Platform:
    parts = [
        text_of(value.get(key, ""), name, f"{pointer}.platform.{key}") for key in ("os", "architecture", "variant")
    ]
    return Platform(*parts)


def as_oci_layer(layer: Descriptor) -> Descriptor:
    """The layer as an OCI manifest names it: readers refuse Docker's media types there."""
    media_type = _OCI_LAYERS.get(layer.media_type, layer.media_type)
    return Descriptor(media_type, layer.digest, layer.size, layer.annotations)


def as_object(value: object, name: str, pointer: str) -> dict[str, object]:
    """``value``, which must be a JSON object."""
    if not isinstance(value, dict):
        raise _wrong(name, pointer, "not an object")
    return value


def as_list(value: object, name: str, pointer: str, limit: int) -> list[object]:
    """``value``, which must be an array of at most ``limit`` items."""
    if not isinstance(value, list):
        raise _wrong(name, pointer, "not an array")
    if len(value) > limit:
        raise _wrong(name, pointer, f"more than {limit} items")
    return value


def text_of(value: object, name: str, pointer: str) -> str:
    """``value``, which must be a string without NUL."""
    if not isinstance(value, str) or "\0" in value:
        raise _wrong(name, pointer, "not a string")
    return value


def _text_map(value: object, name: str, pointer: str) -> dict[str, str]:
    if value is None:
        return {}
    return {key: text_of(item, name, f"{pointer}[{key!r}]") for key, item in as_object(value, name, pointer).items()}


def _wrong(name: str, pointer: str, cause: str) -> InvalidArgument:
    return InvalidArgument(f"read {name}: {pointer}: {cause}" if pointer else f"read {name}: {cause}")
