"""Reads tar archives as a stream: ustar, PAX, GNU and V7, sparse files and long names included. Knows no file system.

Everything in an archive is untrusted. Numbers are bounded before they are used, text is kept as bytes, and whatever
two readers could understand in two ways is refused. Where the formats leave a choice, it is made as Go's archive/tar
makes it, since registries and builders use that.

Source: POSIX pax(1) "ustar Interchange Format", "pax Interchange Format"; GNU tar manual, "Basic Tar Format",
"Sparse Formats".
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Protocol

from corral.image.tarfields import (
    MAX_SIZE,
    broken,
    check_sum,
    decimal,
    number,
    parse_pax,
    show,
    signed,
    text_value,
    time_ns,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BLOCK",
    "CHAR",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "LINK",
    "SYMLINK",
    "Member",
    "TarReader",
]

RECORD = 512
CHUNK = 1 << 20
FILE, LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO = range(7)

# Of one PAX header: paths and attributes of a file; of a GNU long name: what the kernel could ever open.
MAX_PAX_BYTES = 1 << 20
MAX_NAME_BYTES = 1 << 16
MAX_SPARSE_ENTRIES = 1 << 17
MAX_ID = 0xFFFFFFFE

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZEROS = bytes(RECORD)
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": LINK, b"2": SYMLINK, b"3": CHAR, b"4": BLOCK}
_KINDS.update({b"5": DIRECTORY, b"6": FIFO})
_HEADER_ONLY = frozenset((LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."


class Source(Protocol):
    """Anything with bytes to read one after the other."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class Member:
    """One entry. ``stored``: bytes of content in the archive; ``size``: of the file (they differ if it is sparse).

    ``name``, ``link`` and the attributes are bytes as they stand in the archive. ``sparse``: (offset, length) of the
    pieces that are stored, in order; None for an ordinary file.
    """

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size", "sparse", "stored", "uid", "xattrs"
    )  # fmt: skip

    def __init__(self, name: bytes, kind: int, size: int) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.stored = size
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.mtime_ns = 0
        self.link = b""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Iterate over it; between two members, ``copy_to`` or ``read_content`` give the content of the last one.

    Reads ahead of the archive's end; does not own ``source``. Raises: InvalidArgument, naming what is wrong.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data = b""
        self._at = 0
        self._left = 0  # bytes of content of the current member that nobody has read
        self._padding = 0
        self._globals: list[tuple[bytes, bytes]] = []

    # ---- bytes ------------------------------------------------------------------------------------

    def _refill(self) -> bool:
        """Get more when all is used; False at the end."""
        self._data = self._source.read(CHUNK)
        self._at = 0
        return bool(self._data)

    def _take(self, size: int, what: str) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._at + size
        if end <= len(self._data):
            piece = self._data[self._at : end]
            self._at = end
            return piece
        pieces = [self._data[self._at :]]
        missing = size - len(pieces[0])
        self._at = len(self._data)
        while missing:
            if not self._refill():
                raise broken(f"it ends within {what}")
            piece = self._data[:missing]
            self._at = len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        while size:
            if self._at == len(self._data) and not self._refill():
                raise broken("it ends within a file's content")
            step = min(size, len(self._data) - self._at)
            self._at += step
            size -= step

    def pieces(self) -> Iterator[memoryview]:
        """The content of the current member, as it is stored, in bounded pieces."""
        while self._left:
            if self._at == len(self._data) and not self._refill():
                raise broken("it ends within a file's content")
            step = min(self._left, len(self._data) - self._at)
            piece = memoryview(self._data)[self._at : self._at + step]
            self._at += step
            self._left -= step
            yield piece

    def read_content(self) -> bytes:
        """All of the current member's content as it is stored: for callers that have bounded ``stored``."""
        return b"".join(self.pieces())

    def copy_to(self, fd: int, member: Member) -> None:
        """Write the current member's content to ``fd``, a fresh file positioned at 0; holes stay holes."""
        if member.sparse is None:
            end = self._at + self._left
            if end <= len(self._data):
                # Nearly every file: one piece, one call.
                if self._left:
                    _write_all(fd, memoryview(self._data)[self._at : end])
                self._at = end
                self._left = 0
                return
            for piece in self.pieces():
                _write_all(fd, piece)
            return
        self._copy_sparse(fd, member.sparse)
        os.ftruncate(fd, member.size)

    def _copy_sparse(self, fd: int, sparse: list[tuple[int, int]]) -> None:
        entries = iter(sparse)
        offset, length = 0, 0
        for piece in self.pieces():
            while piece:
                while not length:
                    entry = next(entries, None)
                    if entry is None:
                        return
                    offset, length = entry
                    os.lseek(fd, offset, os.SEEK_SET)
                step = min(length, len(piece))
                _write_all(fd, piece[:step])
                piece = piece[step:]
                length -= step

    # ---- members ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member

    def _begin(self, size: int) -> None:
        self._left = size
        self._padding = -size % RECORD

    def _finish(self) -> None:
        left = self._left + self._padding
        self._left = self._padding = 0
        if left:
            self._skip(left)

    def _read_block(self) -> bytes | None:
        """The next header; None at the end of the archive: zeros, or nothing at all."""
        if self._at == len(self._data) and not self._refill():
            return None
        block = self._take(RECORD, "a header")
        if block != _ZEROS:
            return block
        if self._at == len(self._data) and not self._refill():
            return None
        if self._take(RECORD, "a header") != _ZEROS:
            raise broken("a header follows a block of zeros")
        return None

    def _next(self) -> Member | None:
        self._finish()
        records: list[tuple[bytes, bytes]] = []
        name = link = None
        while (block := self._read_block()) is not None:
            fields = _HEADER.unpack(block)
            kind = fields[7]
            if kind not in b"xgLKV":
                return self._make(block, fields, records, (name, link))
            check_sum(block, fields[6])
            size = number(fields[4], "size")
            if kind in b"xg":
                found = parse_pax(self._extension(size, MAX_PAX_BYTES, "a PAX header"))
                if kind == b"g":
                    self._globals = _merged(self._globals, found)
                else:
                    records = found
            elif kind == b"V":
                self._begin(size)  # the label of a volume
                self._finish()
            else:
                text = self._extension(size, MAX_NAME_BYTES, "a long name").partition(b"\0")[0]
                if kind == b"L":
                    name = text
                else:
                    link = text
        if records or name is not None or link is not None:
            raise broken("it ends after an extended header")
        return None

    def _extension(self, size: int, limit: int, what: str) -> bytes:
        if size > limit:
            raise broken(f"{what} has {size} bytes, more than {limit}")
        text = self._take(size, what)
        self._skip(-size % RECORD)
        return text

    def _make(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        records: list[tuple[bytes, bytes]],
        long: tuple[bytes | None, bytes | None],
    ) -> Member:
        check_sum(block, fields[6])
        kind = _KINDS.get(fields[7], -1)
        name = fields[0].partition(b"\0")[0]
        magic = fields[9]
        if magic[:6] == b"ustar\0" and block[345] != 0:
            # star keeps times where the end of the prefix would be.
            prefix = fields[14][:131] if block[508:] == b"tar\0" else fields[14]
            name = prefix.partition(b"\0")[0] + b"/" + name
        size = number(fields[4], "size")
        member = Member(name, kind, size)
        member.mode = number(fields[1], "mode") & 0o7777
        member.uid = number(fields[2], "uid")
        member.gid = number(fields[3], "gid")
        member.mtime_ns = signed(fields[5], "mtime") * 1_000_000_000
        if kind in (LINK, SYMLINK):
            member.link = fields[8].partition(b"\0")[0]
        elif kind in (CHAR, BLOCK):
            member.major = number(fields[12], "device number")
            member.minor = number(fields[13], "device number")
        details = _Sparse()
        if records or self._globals:
            _apply_pax(member, [*self._globals, *records], details)
        if long[0] is not None:
            member.name = long[0]
        if long[1] is not None and kind in (LINK, SYMLINK):
            member.link = long[1]
        if kind < 0:
            raise broken(f"{show(member.name)} is of the unknown type {fields[7]!r}")
        if member.uid > MAX_ID or member.gid > MAX_ID:
            raise broken(f"the owner of {show(member.name)} is out of range")
        if kind in _HEADER_ONLY:
            member.size = member.stored = 0
        elif fields[7] == b"\0" and member.name.endswith(b"/"):
            member.kind = DIRECTORY  # as tar programs before POSIX marked them
            member.size = member.stored = 0
        self._begin(member.stored)
        if fields[7] == b"S":
            self._read_old_sparse(block, member)
        elif details.is_any and member.kind == FILE:
            self._read_pax_sparse(member, details)
        return member

    # ---- sparse files -----------------------------------------------------------------------------

    def _read_old_sparse(self, block: bytes, member: Member) -> None:
        """GNU's own type: four pieces in the header, more in blocks that follow it."""
        pieces: list[tuple[int, int]] = []
        size = number(block[483:495], "size")
        _collect_old(block[386:482], pieces)
        is_more = block[482] != 0
        while is_more:
            extra = self._take(RECORD, "a sparse map")
            _collect_old(extra[:504], pieces)
            is_more = extra[504] != 0
            if len(pieces) > MAX_SPARSE_ENTRIES:
                raise broken(f"{show(member.name)} has a sparse map of more than {MAX_SPARSE_ENTRIES} pieces")
        _set_sparse(member, pieces, size, self._left)

    def _read_pax_sparse(self, member: Member, details: _Sparse) -> None:
        if details.name:
            member.name = details.name
        pieces = details.pieces
        if details.is_in_content:
            pieces = self._read_map(member)
        _set_sparse(member, pieces, details.size if details.size >= 0 else member.size, self._left)

    def _read_map(self, member: Member) -> list[tuple[int, int]]:
        """Version 1.0: the number of pieces and the pieces, a decimal number a line, in whole blocks."""
        text = b""
        numbers: list[int] = []
        wanted = 1
        while len(numbers) < wanted:
            if self._left < RECORD:
                raise broken(f"{show(member.name)} has a sparse map longer than its content")
            self._left -= RECORD
            text += self._take(RECORD, "a sparse map")
            *lines, text = text.split(b"\n")
            numbers += [decimal(line, "sparse map") for line in lines]
            wanted = 1 + 2 * numbers[0] if numbers else 1
            if wanted > 2 * MAX_SPARSE_ENTRIES:
                raise broken(f"{show(member.name)} has a sparse map of more than {MAX_SPARSE_ENTRIES} pieces")
            if len(numbers) < wanted and len(text) > 20:
                raise broken(f"{show(member.name)} has a sparse map that is none")
        return list(zip(numbers[1:wanted:2], numbers[2:wanted:2], strict=True))


class _Sparse:
    """What PAX records say of a sparse file."""

    __slots__ = ("is_any", "is_in_content", "name", "offset", "pieces", "size")

    def __init__(self) -> None:
        self.is_any = False
        self.is_in_content = False
        self.name = b""
        self.size = -1
        self.offset = -1
        self.pieces: list[tuple[int, int]] = []

    def take(self, key: bytes, value: bytes) -> None:
        """One ``GNU.sparse.`` record."""
        self.is_any = True
        if key == b"name":
            self.name = text_value(value, "path")
        elif key in (b"size", b"realsize"):
            self.size = decimal(value, "sparse size")
        elif key == b"major":
            self.is_in_content = decimal(value, "sparse version") == 1
        elif key == b"offset":
            self.offset = decimal(value, "sparse offset")
        elif key == b"numbytes":
            if self.offset < 0 or len(self.pieces) >= MAX_SPARSE_ENTRIES:
                raise broken("a sparse map has a length without its offset, or too many")
            self.pieces.append((self.offset, decimal(value, "sparse length")))
            self.offset = -1
        elif key == b"map":
            numbers = [decimal(item, "sparse map") for item in value.split(b",")] if value else []
            if len(numbers) % 2:
                raise broken("a sparse map has an offset without its length")
            self.pieces = list(zip(numbers[::2], numbers[1::2], strict=True))


def _set_sparse(member: Member, pieces: list[tuple[int, int]], size: int, stored: int) -> None:
    end = total = 0
    for offset, length in pieces:
        if offset < end or length > MAX_SIZE or offset + length > size:
            raise broken(f"{show(member.name)} has a sparse map whose pieces overlap or lie outside")
        end = offset + length
        total += length
    if size > MAX_SIZE or total != stored:
        raise broken(f"{show(member.name)} has a sparse map of {total} bytes for {stored}")
    member.sparse = pieces
    member.size = size
    member.stored = stored


def _collect_old(table: bytes, pieces: list[tuple[int, int]]) -> None:
    for at in range(0, len(table), 24):
        if table[at] == 0:
            return
        pieces.append((number(table[at : at + 12], "sparse offset"), number(table[at + 12 : at + 24], "sparse length")))


def _write_all(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def _merged(first: list[tuple[bytes, bytes]], then: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Global records: a later one replaces an earlier one of its key. They stay bounded."""
    merged = dict(first)
    merged.update(then)
    if sum(len(key) + len(value) for key, value in merged.items()) > MAX_PAX_BYTES:
        raise broken(f"its global headers have more than {MAX_PAX_BYTES} bytes")
    return list(merged.items())


def _apply_pax(member: Member, records: list[tuple[bytes, bytes]], sparse: _Sparse) -> None:
    """Let the records override the header. An empty value takes an override of the globals back."""
    for key, value in records:
        if key.startswith(_XATTR):
            member.xattrs[key[len(_XATTR) :]] = value
        elif key.startswith(b"GNU.sparse."):
            sparse.take(key[11:], value)
        elif not value:
            continue
        elif key == b"path":
            member.name = text_value(value, "path")
        elif key == b"linkpath":
            if member.kind in (LINK, SYMLINK):
                member.link = text_value(value, "linkpath")
        elif key == b"size":
            member.size = member.stored = decimal(value, "size")
        elif key == b"uid":
            member.uid = decimal(value, "uid")
        elif key == b"gid":
            member.gid = decimal(value, "gid")
        elif key == b"mtime":
            member.mtime_ns = time_ns(value)
