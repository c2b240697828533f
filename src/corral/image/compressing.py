"""Layers compressed on their way into the store or to a registry."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Protocol

from corral.image.ingest import CHUNK, Readable, ingest
from corral.image.layer_stream import Unpacked
from corral.image.manifest import MAX_BLOB_BYTES, OCI_LAYER, Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.image.blobs import BlobStore
    from corral.image.guard import Work

# isal's best, at several hundred megabytes a second; zlib's usual.
_ISAL_LEVEL, _ZLIB_LEVEL = 3, 6


class _Deflater(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Gzipped:
    """``source`` compressed with gzip, a ``Readable``; the same bytes for the same content.

    ``diff_id`` is the sha256 digest of what went in, once all was read. ``on_chunk`` is told its size, piece by piece.
    """

    __slots__ = ("_deflater", "_hasher", "_is_done", "_on_chunk", "_source")

    def __init__(self, source: Readable, on_chunk: Callable[[int], None] | None = None) -> None:
        self._source = source
        self._hasher = hashlib.sha256()
        self._deflater = _deflater()
        self._is_done = False
        self._on_chunk = on_chunk

    @property
    def diff_id(self) -> str:
        """The digest of the content so far."""
        return f"sha256:{self._hasher.hexdigest()}"

    def read(self, _size: int, /) -> bytes:
        """The next compressed bytes, a piece as it comes; none at the end."""
        while not self._is_done:
            data = self._source.read(CHUNK)
            if not data:
                self._is_done = True
                return self._deflater.flush()
            self._hasher.update(data)
            if self._on_chunk is not None:
                self._on_chunk(len(data))
            if output := self._deflater.compress(data):
                return output
        return b""


def store_layer(blobs: BlobStore, source: Readable, act: str, *, work: Work) -> tuple[Descriptor, str]:
    """Store a layer's tar stream, however it is compressed, with gzip: (its blob, its diff_id)."""
    packed = Gzipped(Unpacked(source, act))
    digest, size = ingest(blobs, packed, act, work=work, limit_bytes=MAX_BLOB_BYTES)
    return Descriptor(f"{OCI_LAYER}+gzip", digest, size), packed.diff_id


def _deflater() -> _Deflater:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, 31)
    return isal_zlib.compressobj(_ISAL_LEVEL, isal_zlib.DEFLATED, 31)
