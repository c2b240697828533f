"""New images made here: from a root filesystem's tar (import), or from an image and a layer on top of it (commit)."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.errors import InvalidArgument, NotFound
from corral.image.compressing import store_layer
from corral.image.digests import digest_of
from corral.image.guard import Work
from corral.image.ingest import FdReader
from corral.image.instructions import apply_changes
from corral.image.layer_stream import LayerStream
from corral.image.lookup import local_name
from corral.image.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, as_oci_layer
from corral.image.platforms import host_platform, parse_platform
from corral.image.tarstream import TarReader
from corral.image.tarwrite import tree_stream
from corral.oci.json import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.image.ingest import Readable
    from corral.image.store import Image, ImageStore


_NO_ARCHIVE = "give a tar, compressed or not, or a directory; for an archive of `save`: corral load"


@dataclass(frozen=True, slots=True)
class Making:
    """What to write into a new image besides its content. ``name`` may be '': then the image has none."""

    name: str = ""
    changes: Sequence[str] = ()
    message: str = ""
    author: str = ""
    platform: str = ""
    created_by: str = ""
    config: dict[str, object] = field(default_factory=dict)
    """Members of the config's ``config`` that count before ``changes`` and over the base image's."""


def add_image(
    store: ImageStore, layer: Readable | None, making: Making, *, base: Image | None = None, is_checked: bool = False
) -> Image:
    """Make an image of ``base``'s layers and ``layer``, a tar stream (compressed or not; None: no further layer).

    ``is_checked``: it comes from somebody else, and has to be an archive from its beginning to its end.
    Raises: InvalidArgument, ResourceExhausted.
    """
    name = local_name(making.name) if making.name else ""
    config = dict(base.config_file.document) if base is not None else {}
    inner = config.get("config")
    wanted = apply_changes({**(inner if isinstance(inner, dict) else {}), **making.config}, making.changes)
    store.blobs.make_directories()
    with Work(store.path) as work:
        layers = [as_oci_layer(item) for item in base.manifest.layers] if base is not None else []
        diff_ids = list(base.config_file.diff_ids) if base is not None else []
        work.keep(item.digest for item in layers)
        if layer is not None:
            descriptor, diff_id = store_layer(store.blobs, layer, f"store layer of {name or 'the image'}", work=work)
            if is_checked:
                _check_archive(store, descriptor, diff_id)
            layers.append(descriptor)
            diff_ids.append(diff_id)
        document = _document(config, wanted, diff_ids, making, is_empty=layer is None)
        return _record(store, work, document, layers, [name] if name else [])


def import_image(store: ImageStore, source: str | int, making: Making) -> Image:
    """Make an image of one layer from a root filesystem: a directory, or a tar (a path, or a descriptor, left open).

    Raises: NotFound, InvalidArgument.
    """
    if isinstance(source, int):
        return add_image(store, FdReader(source), making, is_checked=True)
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise NotFound(f"import {source}: {str(exc.strerror).lower()}", path=source, errno=exc.errno or 0) from exc
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        stream = tree_stream(fd) if is_directory else FdReader(fd)
        return add_image(store, stream, making, is_checked=not is_directory)
    finally:
        os.close(fd)


def _check_archive(store: ImageStore, descriptor: Descriptor, diff_id: str) -> None:
    """Raise InvalidArgument for what no container could be made of."""
    with LayerStream(store.blobs.open(descriptor.digest), descriptor.digest, diff_id) as stream:
        try:
            for _ in TarReader(stream):
                pass
        except InvalidArgument as exc:
            raise InvalidArgument(f"import the root filesystem: {exc.message}", hint=_NO_ARCHIVE) from exc
        if not stream.tar_bytes:
            raise InvalidArgument("import the root filesystem: there is nothing to read", hint=_NO_ARCHIVE)


def _document(
    config: dict[str, object], inner: dict[str, object], diff_ids: list[str], making: Making, *, is_empty: bool
) -> dict[str, object]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if "architecture" not in config or making.platform:
        platform = parse_platform(making.platform) if making.platform else host_platform()
        config["architecture"], config["os"] = platform.architecture, platform.os
        # The level of this machine's processor says nothing about what was imported.
        if making.platform and platform.variant:
            config["variant"] = platform.variant
    config["created"] = now
    if making.author:
        config["author"] = making.author
    config["config"] = inner
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    step: dict[str, object] = {"created": now, "created_by": making.created_by, "comment": making.message}
    step = {key: value for key, value in step.items() if value}
    if making.author:
        step["author"] = making.author
    if is_empty:
        step["empty_layer"] = True
    history = config.get("history")
    config["history"] = [*(history if isinstance(history, list) else []), step]
    # What Docker noted of the container that its image was made from is not true of this one.
    for key in ("container", "container_config", "id", "parent"):
        config.pop(key, None)
    return config


def _record(
    store: ImageStore, work: Work, document: dict[str, object], layers: list[Descriptor], names: list[str]
) -> Image:
    config = dumps(document).encode()
    manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, digest_of(config), len(config)), layers)
    data = dumps(manifest.to_json()).encode()
    work.keep([digest_of(config), digest_of(data)])
    store.blobs.put(config)
    return store.add(store.blobs.put(data), names=names)
