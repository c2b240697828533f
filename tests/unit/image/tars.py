"""Tar archives made by hand, header by header: as hostile, or as odd, as no tar program would make them."""

from __future__ import annotations

import io
import os
from pathlib import Path

from corral.image.layers import Applied, Limits, apply

FIELDS = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12)}
FIELDS |= {"type": (156, 1), "link": (157, 100), "magic": (257, 8), "major": (329, 8), "minor": (337, 8)}
FIELDS |= {"prefix": (345, 155)}
DEFAULTS: dict[str, bytes] = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "magic": b"ustar\x0000"}


def octal(value: int, width: int = 12) -> bytes:
    """A number field."""
    return b"%0*o\0" % (width - 1, value)


def entry(name: bytes, content: bytes = b"", **fields: bytes) -> bytes:
    """A header with its checksum, the content and its padding. ``fields`` replace whole fields by their name."""
    block = bytearray(512)
    values = {**DEFAULTS, "name": name, "type": b"0", "mtime": octal(1), "size": octal(len(content)), **fields}
    for key, value in values.items():
        at, width = FIELDS[key]
        assert len(value) <= width
        block[at : at + len(value)] = value
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def folder(name: bytes) -> bytes:
    """A directory."""
    return entry(name, type=b"5", mode=b"0000755\0")


def link(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return entry(name, type=b"2", link=target)


def hard(name: bytes, target: bytes) -> bytes:
    """A hard link."""
    return entry(name, type=b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record."""
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size, key, value)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """A PAX header."""
    return entry(b"pax", b"".join(record(*item) for item in records), type=kind)


def archive(*entries: bytes) -> bytes:
    """All of them, and the end."""
    return b"".join(entries) + bytes(1024)


class Slow:
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._inner = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._inner.read(min(size, self._step))


def unpack(data: bytes, target: Path, *, limits: Limits | None = None, step: int = 1 << 20) -> Applied:
    """Apply a layer without any privilege: every file belongs to the caller."""
    target.mkdir(exist_ok=True)
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return apply(Slow(data, step), fd, marks="user", owners=False, limits=limits)
    finally:
        os.close(fd)


def listing(target: Path) -> list[str]:
    """All paths below, sorted."""
    return sorted(str(path.relative_to(target)) for path in target.rglob("*"))
