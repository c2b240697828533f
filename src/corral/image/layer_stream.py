"""A layer's blob as the tar bytes inside it, with both of its digests counted on the way.

Owns the recognition of compressions, by content (media types are often wrong), and the decoders. Output comes in
bounded pieces, whatever a hostile blob would expand to; how much there may be in all is the applier's bound.

Source: RFC 1952 (several members make one stream), RFC 8878 (several frames, skippable ones too).
"""

from __future__ import annotations

import importlib
import os
import zlib
from typing import TYPE_CHECKING, Literal, Protocol, Self

from corral.errors import InvalidArgument, Unsupported
from corral.image.digests import hasher_of, split
from corral.image.ingest import CHUNK, Readable

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

Compression = Literal["", "gzip", "zstd"]
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_OTHERS = ((b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x04\x22\x4d\x18", "lz4"))
# What zstd's command line accepts without asking; a frame may want up to this much memory.
_MAX_WINDOW_LOG = 27


class Decoder(Protocol):
    """One member or frame being decoded; the interface of ``zlib`` objects, reduced."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decode up to ``limit`` bytes."""

    @property
    def is_hungry(self) -> bool:
        """Whether it has no output left for what it was fed."""

    @property
    def rest(self) -> bytes | None:
        """What follows the end of the member; None while it has not ended."""


class _Gzip:
    __slots__ = ("_inner", "_pending")

    def __init__(self) -> None:
        self._inner = _gzip_decoder()
        self._pending = b""

    def feed(self, data: bytes, limit: int) -> bytes:
        output: bytes = self._inner.decompress(self._pending + data if self._pending else data, limit)
        self._pending = self._inner.unconsumed_tail
        return output

    @property
    def is_hungry(self) -> bool:
        return not self._pending

    @property
    def rest(self) -> bytes | None:
        return self._inner.unused_data if self._inner.eof else None


class _Zstd:
    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner = _zstd_decoder()

    def feed(self, data: bytes, limit: int) -> bytes:
        return self._inner.decompress(data, limit)

    @property
    def is_hungry(self) -> bool:
        return self._inner.needs_input

    @property
    def rest(self) -> bytes | None:
        return self._inner.unused_data if self._inner.eof else None


def compression_of(start: bytes, what: str) -> Compression:
    """How a stream that begins with ``start`` (at least 6 bytes, if it has them) is compressed.

    Raises: Unsupported for compressions that layers do not use.
    """
    if start.startswith(GZIP_MAGIC):
        return "gzip"
    if start.startswith(ZSTD_MAGIC) or _is_skippable(start):
        return "zstd"
    for magic, name in _OTHERS:
        if start.startswith(magic):
            raise Unsupported(
                f"read {what}: compressed with {name}", hint=f"unpack it first: {name} -dc ... | corral ..."
            )
    return ""


class Unpacked:
    """``source`` without its compression, whatever it is; a ``Readable``. Does not own ``source``."""

    __slots__ = ("_decoder", "_input", "_is_done", "_kind", "_source", "_what")

    def __init__(self, source: Readable, what: str) -> None:
        self._source = source
        self._what = what
        start = b""
        while len(start) < 6 and (data := source.read(CHUNK)):
            start += data
        self._input = start
        self._kind = compression_of(start, what)
        self._decoder: Decoder | None = None
        self._is_done = False

    @property
    def compression(self) -> Compression:
        """What was recognized."""
        return self._kind

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes of the content; none at its end. Raises: InvalidArgument for a damaged stream."""
        if not self._kind:
            return self._read_plain(size)
        while not self._is_done:
            if self._decoder is None and not self._start_member():
                break
            assert self._decoder is not None
            is_at_end = False
            if self._decoder.is_hungry and not self._input:
                self._input = self._source.read(CHUNK)
                is_at_end = not self._input
            # Also with no more input: a decoder may hold back what did not fit into `size` before.
            output = self._decode(size)
            if output:
                return output
            if is_at_end and self._decoder is not None:
                raise InvalidArgument(f"read {self._what}: the {self._kind} stream breaks off", hint=_DAMAGED_HINT)
        return b""

    def _decode(self, size: int) -> bytes:
        assert self._decoder is not None
        data, self._input = self._input, b""
        try:
            output = self._decoder.feed(data, size)
        except Exception as exc:  # each decoder has its own class of errors
            raise InvalidArgument(f"read {self._what}: damaged {self._kind} data", hint=_DAMAGED_HINT) from exc
        rest = self._decoder.rest
        if rest is not None:
            self._decoder = None
            self._input = rest
        return output

    def _start_member(self) -> bool:
        """Begin the next member or frame; False at the end of the stream."""
        while len(self._input) < 4 and (data := self._source.read(CHUNK)):
            self._input += data
        if self._kind == "gzip":
            # gzip(1) ignores zeros that pad the last member.
            if not self._input.strip(b"\0"):
                while data := self._source.read(CHUNK):
                    if data.strip(b"\0"):
                        raise InvalidArgument(f"read {self._what}: data after the end of gzip data", hint=_DAMAGED_HINT)
                self._is_done = True
                return False
            self._decoder = _Gzip()
        else:
            if not self._input:
                self._is_done = True
                return False
            self._decoder = _Zstd()
        return True

    def _read_plain(self, size: int) -> bytes:
        if self._input:
            data, self._input = self._input[:size], self._input[size:]
            return data
        return self._source.read(size)


_DAMAGED_HINT = "the blob is damaged: remove the image and fetch it again"


class LayerStream:
    """The tar bytes of one layer, from its blob. Use as a ``with`` block; ``verify`` at the end.

    ``digest`` is the blob's, ``diff_id`` that of the tar bytes. Owns ``fd``. ``is_raw``: the blob as it is stored.
    """

    __slots__ = ("_blob_hasher", "_diff_hasher", "_diff_id", "_digest", "_fd", "_unpacked", "blob_bytes", "tar_bytes")

    def __init__(self, fd: int, digest: str, diff_id: str, *, is_raw: bool = False) -> None:
        self._fd = fd
        self._digest = digest
        self._diff_id = diff_id
        self._blob_hasher = hasher_of(digest)
        # Of an uncompressed layer both digests are one, counted once.
        self._diff_hasher = None if diff_id == digest else hasher_of(diff_id)
        self.blob_bytes = 0
        self.tar_bytes = 0
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        try:
            source = _Counted(self)
            self._unpacked = source if is_raw else Unpacked(source, f"layer {digest}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes of the tar stream; none at its end."""
        data = self._unpacked.read(size)
        if self._diff_hasher is not None:
            self._diff_hasher.update(data)
        self.tar_bytes += len(data)
        return data

    def plain_size(self) -> int:
        """How many tar bytes there are: quick where nothing is compressed. The stream is of no use afterwards."""
        if isinstance(self._unpacked, Unpacked) and self._unpacked.compression:
            self.verify()
            return self.tar_bytes
        return os.fstat(self._fd).st_size

    def read_blob(self, size: int) -> bytes:
        """The next bytes of the blob as it is stored: the source of ``read``, not for callers of it."""
        data = os.read(self._fd, size)
        self._blob_hasher.update(data)
        self.blob_bytes += len(data)
        return data

    def verify(self) -> None:
        """Read what is left and compare both digests. Raises: InvalidArgument, naming the one that is wrong."""
        while self.read(CHUNK):
            pass
        blob = f"{split(self._digest)[0]}:{self._blob_hasher.hexdigest()}"
        if blob != self._digest:
            raise InvalidArgument(f"read layer {self._digest}: its content is {blob}", hint=_DAMAGED_HINT)
        if self._diff_hasher is None:
            return
        found = f"{split(self._diff_id)[0]}:{self._diff_hasher.hexdigest()}"
        if found != self._diff_id:
            raise InvalidArgument(
                f"read layer {self._digest}: unpacked it is {found}, but the image's config says {self._diff_id}",
                hint="config and layers of this image do not belong together: do not trust it",
            )

    def close(self) -> None:
        """Close the blob. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Counted:
    __slots__ = ("_stream",)

    def __init__(self, stream: LayerStream) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return self._stream.read_blob(size)


def _is_skippable(start: bytes) -> bool:
    return len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50


class _Inflater(Protocol):
    """``zlib``'s decompression objects and ``isal``'s."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...


class _FrameDecoder(Protocol):
    """The standard library's zstd decompressor (Python 3.14) and its backport."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...


def _gzip_decoder() -> _Inflater:
    try:
        from isal import isal_zlib  # twice as fast, but not on every architecture
    except ImportError:
        return zlib.decompressobj(wbits=31)
    return isal_zlib.decompressobj(wbits=31)


def zstd_module() -> ModuleType:
    """The standard library's zstd (Python 3.14), or its backport."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


def _zstd_decoder() -> _FrameDecoder:
    zstd = zstd_module()
    decoder: _FrameDecoder = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    )
    return decoder
