"""Layers as streams: compressions, digests of both sides, damage."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import InvalidArgument, Unsupported
from corral.image import layer_stream
from corral.image.compressing import Gzipped
from corral.image.layer_stream import LayerStream, Unpacked, zstd_module
from unit.image.fake_registry import digest_of

CONTENT = bytes(300_000) + bytes(range(256)) * 500 + b"end"
ZSTD: Callable[[bytes], bytes] = zstd_module().compress
SKIPPABLE = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00toc!"
FORMS = {
    "plain": CONTENT,
    "gzip": gzip.compress(CONTENT),
    "gzip of several members": gzip.compress(CONTENT[:7]) + gzip.compress(CONTENT[7:]),
    "gzip padded with zeros": gzip.compress(CONTENT) + bytes(700),
    "zstd": ZSTD(CONTENT),
    "zstd of several frames": ZSTD(CONTENT[:7]) + SKIPPABLE + ZSTD(CONTENT[7:]) + SKIPPABLE,
    "zstd that begins with a skippable frame": SKIPPABLE + ZSTD(CONTENT),
}


class Dribble:
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._file = io.BytesIO(data)
        self._at_once = at_once

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        return self._file.read(min(size, self._at_once))


def read_all(data: bytes, at_once: int = 1 << 20, size: int = 1 << 16) -> bytes:
    """The content of ``data``."""
    unpacked, parts = Unpacked(Dribble(data, at_once), "test"), []
    while part := unpacked.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("at_once", [1000, 1 << 20])
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_stream_is_unpacked_however_it_comes(data: bytes, at_once: int, size: int) -> None:
    """All forms of the compressions, in pieces of any size, never more at once than asked for."""
    assert read_all(data, at_once, size) == CONTENT


@pytest.mark.parametrize("pack", [gzip.compress, ZSTD], ids=["gzip", "zstd"])
@given(content=st.binary(max_size=2000), at_once=st.integers(1, 50), size=st.integers(1, 100))
@settings(max_examples=40)
def test_any_content_survives(pack: Callable[[bytes], bytes], content: bytes, at_once: int, size: int) -> None:
    """What was packed is unpacked."""
    assert read_all(pack(content), at_once, size) == content


def test_gzip_is_unpacked_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no isal, zlib does the same."""
    monkeypatch.setattr(layer_stream, "_gzip_decoder", lambda: zlib.decompressobj(wbits=31))
    assert read_all(FORMS["gzip of several members"], 1000, 100) == CONTENT


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 5, 100])
def test_stream_that_breaks_off_is_refused(name: str, cut: int) -> None:
    """A cut layer is never taken for a short one."""
    with pytest.raises(InvalidArgument, match=f"the {name} stream breaks off"):
        read_all(FORMS[name][:-cut])


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_damaged_stream_is_refused(name: str) -> None:
    """A flipped bit is an error of this layer."""
    data = bytearray(FORMS[name])
    data[-6] ^= 1
    with pytest.raises(InvalidArgument, match=f"damaged {name} data"):
        read_all(bytes(data))


@pytest.mark.parametrize(("data", "name"), [(b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x04\x22\x4d\x18", "lz4")])
def test_compression_that_layers_do_not_use_is_named(data: bytes, name: str) -> None:
    """Other compressions are told apart from damage."""
    with pytest.raises(Unsupported, match=name):
        read_all(data + bytes(10))


def test_bomb_comes_in_bounded_pieces() -> None:
    """A gigabyte of zeros in a megabyte of gzip never stands in memory at once."""
    unpacked = Unpacked(io.BytesIO(gzip.compress(bytes(64 << 20))), "test")
    assert max(len(unpacked.read(1 << 16)) for _ in range(100)) <= 1 << 16


def open_stream(data: bytes, diff_id: str) -> LayerStream:
    """A layer stream over ``data``."""
    fd = os.memfd_create("layer")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return LayerStream(fd, digest_of(data), diff_id)


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_both_digests_are_counted(data: bytes) -> None:
    """verify is content with the right blob and the right content, however much was read before."""
    with open_stream(data, digest_of(CONTENT)) as stream:
        stream.read(100)
        stream.verify()
        assert (stream.blob_bytes, stream.tar_bytes) == (len(data), len(CONTENT))


def test_layer_that_is_not_its_diff_id_is_refused() -> None:
    """Content that the config does not speak of is named by both digests."""
    with (
        open_stream(FORMS["gzip"], digest_of(b"other")) as stream,
        pytest.raises(InvalidArgument, match="but the image's config says"),
    ):
        stream.verify()


def pack(content: bytes) -> tuple[bytes, str]:
    """(content compressed, its digest)."""
    source = Gzipped(io.BytesIO(content))
    return b"".join(iter(lambda: source.read(1), b"")), source.diff_id


def test_compressed_layer_is_the_same_each_time() -> None:
    """The same content gives the same blob, so that it is stored and sent once."""
    (first, first_id), (second, second_id) = pack(CONTENT), pack(CONTENT)
    assert first == second
    assert first_id == second_id == digest_of(CONTENT)
    assert gzip.decompress(first) == CONTENT
