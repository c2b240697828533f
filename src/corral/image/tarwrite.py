"""Writes tar archives as a stream: trees, and what a container changed, as layers want it. Always the same bytes.

Names are sorted, times are whole seconds (in layers) and everything that ustar cannot say stands in PAX records. No
link is followed; sockets are left out, as in every layer.

Source: POSIX pax(1); image-spec layer.md "Representing Changes".
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from corral.errors import FailedPrecondition
from corral.image.layers import is_allowed_xattr
from corral.image.tarfields import show
from corral.image.tarstream import BLOCK, CHAR, DIRECTORY, FIFO, FILE, LINK, RECORD, SYMLINK, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    Extent = tuple[int, int, int]

__all__ = ["Ids", "IterReader", "TreeWriter", "check_depth", "end_of_archive", "header", "tree_stream"]

_FLAGS = {FILE: b"0", LINK: b"1", SYMLINK: b"2", CHAR: b"3", BLOCK: b"4", DIRECTORY: b"5", FIFO: b"6"}
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
_CHUNK = 1 << 20
_WALK_DEPTH = 256
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CAPABILITY = "security.capability"


def check_depth(path: bytes) -> None:
    """Trees are walked with a descriptor and a frame for each level: deeper than this they were made to hurt.

    Raises: FailedPrecondition.
    """
    if path.count(b"/") > _WALK_DEPTH:
        raise FailedPrecondition(
            f"read {show(path[:60])}...: its directories are nested deeper than {_WALK_DEPTH}",
            hint="remove them in the container, or leave them out",
        )


class IterReader:
    """What an iterator of pieces yields, to be read in any sizes."""

    __slots__ = ("_data", "_pieces")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._data = b""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._data:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._data = piece
        data, self._data = self._data[:size], self._data[size:]
        return data


class Ids:
    """Owners on disk to owners in a container, by its user namespace's maps (inside, outside, size); none: the same."""

    __slots__ = ("_gids", "_uids")

    def __init__(self, uid_map: Sequence[Extent] = (), gid_map: Sequence[Extent] = ()) -> None:
        self._uids = tuple(uid_map)
        self._gids = tuple(gid_map)

    def uid(self, outside: int) -> int:
        """The uid inside; that of root for one that the container cannot have."""
        return _inside(outside, self._uids)

    def gid(self, outside: int) -> int:
        """The gid inside."""
        return _inside(outside, self._gids)

    def to_disk(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner on disk of what is ``uid:gid`` inside; root's for ids that the container lacks."""
        return _outside(uid, self._uids), _outside(gid, self._gids)


def _inside(outside: int, extents: tuple[Extent, ...]) -> int:
    for first, begin, size in extents:
        if begin <= outside < begin + size:
            return first + outside - begin
    return 0 if extents else outside


def _outside(inside: int, extents: tuple[Extent, ...]) -> int:
    for first, begin, size in extents:
        if first <= inside < first + size:
            return begin + inside - first
    return _outside(0, extents) if extents and inside else (extents[0][1] if extents else inside)


def _octal(value: int, width: int) -> bytes | None:
    """The field, or None if the number does not fit."""
    if not 0 <= value < 8 ** (width - 1):
        return None
    return b"%0*o\0" % (width - 1, value)


def _split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Name and prefix of a ustar header, or None if it is too long for one."""
    if len(name) <= 100:
        return name, b""
    at = name.find(b"/", len(name) - 101)
    if at < 1 or at > 155 or at == len(name) - 1:
        return None
    return name[at + 1 :], name[:at]


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(str(length)) + len(body):
        length = len(str(length)) + len(body)
    return b"%d" % length + body


def _block(member: Member, size: int, flag: bytes, names: tuple[bytes, bytes]) -> bytes:
    parts = [names[0].ljust(100, b"\0"), _octal(member.mode, 8) or b"0000000\0"]
    parts += [_octal(member.uid, 8) or b"0000000\0", _octal(member.gid, 8) or b"0000000\0"]
    parts += [_octal(size, 12) or b"00000000000\0", _octal(member.mtime_ns // 1_000_000_000, 12) or b"00000000000\0"]
    parts += [b"        ", flag, member.link[:100].ljust(100, b"\0"), b"ustar\x0000", bytes(64)]
    parts += [_octal(member.major, 8) or b"0000000\0", _octal(member.minor, 8) or b"0000000\0"]
    parts.append(names[1].ljust(155, b"\0"))
    block = b"".join(parts).ljust(RECORD, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def header(member: Member, *, is_precise: bool = False) -> bytes:
    """The header blocks of an entry: a PAX header where the plain one cannot say it all. ``size`` bytes follow, padded.

    ``is_precise``: with the fraction of the time.
    """
    records: dict[bytes, bytes] = {b"SCHILY.xattr." + key: value for key, value in member.xattrs.items()}
    names = _split_name(member.name)
    seconds, fraction = divmod(member.mtime_ns, 1_000_000_000)
    if names is None:
        records[b"path"] = member.name
        names = member.name[:100], b""
    if len(member.link) > 100:
        records[b"linkpath"] = member.link
    for key, value, width in ((b"uid", member.uid, 8), (b"gid", member.gid, 8), (b"size", member.size, 12)):
        if _octal(value, width) is None:
            records[key] = b"%d" % value
    if _octal(seconds, 12) is None or (is_precise and fraction):
        records[b"mtime"] = _time(member.mtime_ns if is_precise else seconds * 1_000_000_000)
    block = _block(member, member.size, _FLAGS[member.kind], names)
    if not records:
        return block
    text = b"".join(_record(key, value) for key, value in sorted(records.items()))
    extension = Member(b"", FILE, len(text))
    extension.mode = 0o644
    name = b"PaxHeaders.0/" + names[0].rstrip(b"/").rpartition(b"/")[2][:80]
    return _block(extension, len(text), b"x", (name, b"")) + text + bytes(-len(text) % RECORD) + block


def _time(mtime_ns: int) -> bytes:
    sign, rest = (b"-", -mtime_ns) if mtime_ns < 0 else (b"", mtime_ns)
    whole, fraction = divmod(rest, 1_000_000_000)
    return sign + (b"%d" % whole) + (b".%09d" % fraction).rstrip(b"0").rstrip(b".")


def end_of_archive() -> bytes:
    """Two blocks of zeros."""
    return bytes(2 * RECORD)


class TreeWriter:
    """Pieces of an archive of files below descriptors. One for each archive: it remembers hard links.

    ``ids``: owners as the container sees them. ``owner``: all files are theirs instead.
    """

    def __init__(
        self, ids: Ids | None = None, *, is_precise: bool = False, owner: tuple[int, int] | None = None
    ) -> None:
        self._ids = ids or Ids()
        self._is_precise = is_precise
        self._owner = owner
        self._links: dict[tuple[int, int], bytes] = {}

    def entry(self, folder_fd: int, name: bytes, shown: bytes) -> Iterator[bytes]:
        """One file, link or node, but no directory's content, under the path ``shown``. Sockets give nothing."""
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        if kind == FILE:
            yield from self._file(folder_fd, name, shown)
            return
        member = self._member(status, kind, shown)
        if kind == SYMLINK:
            member.link = os.fsencode(os.readlink(name, dir_fd=folder_fd))
        yield header(member, is_precise=self._is_precise)

    def directory(self, fd: int, shown: bytes) -> Iterator[bytes]:
        """The entry of a directory; ``shown`` without a slash at its end."""
        member = self._member(os.fstat(fd), DIRECTORY, shown + b"/")
        member.xattrs = _read_xattrs(fd)
        yield header(member, is_precise=self._is_precise)

    def tree(
        self,
        fd: int,
        shown: bytes,
        *,
        leave_out: Callable[[bytes], bool] | None = None,
        bare: Container[bytes] = (),
        with_top: bool = True,
    ) -> Iterator[bytes]:
        """A directory and everything below it. ``leave_out`` is asked about each path as it would be shown.

        ``bare``: paths where something is mounted: they are shown without what is in them.
        """
        if with_top:
            yield from self.directory(fd, shown)
        for name in sorted(os.fsencode(item) for item in os.listdir(fd)):
            path = shown + b"/" + name if shown else name
            if leave_out is not None and leave_out(path):
                continue
            if path in bare:
                yield from self._bare(fd, name, path)
                continue
            try:
                inner = os.open(name, _DIR_FLAGS, dir_fd=fd)
            except OSError:
                try:
                    yield from self.entry(fd, name, path)
                except FileNotFoundError:
                    pass  # removed meanwhile, as in a live tree may happen
                continue
            try:
                check_depth(path)
                yield from self.tree(inner, path, leave_out=leave_out, bare=bare)
            finally:
                os.close(inner)

    def marker(self, shown: bytes) -> Iterator[bytes]:
        """An empty file that means something by its name."""
        member = Member(shown, FILE, 0)
        yield header(member)

    def _bare(self, folder_fd: int, name: bytes, shown: bytes) -> Iterator[bytes]:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        is_folder = stat.S_ISDIR(status.st_mode)
        member = self._member(status, DIRECTORY if is_folder else FILE, shown + b"/" if is_folder else shown)
        yield header(member, is_precise=self._is_precise)

    def _member(self, status: os.stat_result, kind: int, shown: bytes) -> Member:
        member = Member(shown, kind, 0)
        member.mode = stat.S_IMODE(status.st_mode)
        if self._owner is not None:
            member.uid, member.gid = self._owner
        else:
            member.uid, member.gid = self._ids.uid(status.st_uid), self._ids.gid(status.st_gid)
        member.mtime_ns = status.st_mtime_ns
        if kind in (CHAR, BLOCK):
            member.major, member.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return member

    def _file(self, folder_fd: int, name: bytes, shown: bytes) -> Iterator[bytes]:
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return  # replaced since we looked
            member = self._member(status, FILE, shown)
            key = (status.st_dev, status.st_ino)
            if status.st_nlink > 1:
                if key in self._links:
                    member.kind, member.link = LINK, self._links[key]
                    yield header(member, is_precise=self._is_precise)
                    return
                self._links[key] = shown
            member.size = status.st_size
            member.xattrs = _read_xattrs(fd)
            yield header(member, is_precise=self._is_precise)
            yield from _content(fd, status.st_size, shown)
        finally:
            os.close(fd)


def _content(fd: int, size: int, shown: bytes) -> Iterator[bytes]:
    """Exactly ``size`` bytes, whatever becomes of the file meanwhile, and the padding."""
    left = size
    while left:
        piece = os.read(fd, min(left, _CHUNK))
        if not piece:
            name = shown.decode("utf-8", "replace")
            raise FailedPrecondition(
                f"read {name}: it became shorter while it was read", hint="pause the container, or try again"
            )
        left -= len(piece)
        yield piece
    if size % RECORD:
        yield bytes(-size % RECORD)


def _read_xattrs(fd: int) -> dict[bytes, bytes]:
    found = {}
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}
    for name in names:
        raw = os.fsencode(name)
        if not is_allowed_xattr(raw):
            continue
        try:
            value = os.getxattr(fd, name)
        except OSError:
            continue
        found[raw] = _plain_capability(value) if name == _CAPABILITY else value
    return found


def _plain_capability(value: bytes) -> bytes:
    """Capabilities that count in one user namespace (version 3) as those that count wherever the image is used.

    Source: capabilities(7) "Namespaced file capabilities"; struct vfs_ns_cap_data.
    """
    if len(value) != 24:
        return value
    (magic,) = struct.unpack_from("<I", value)
    return struct.pack("<I", 0x02000000 | magic & 1) + value[4:20]


def tree_stream(fd: int, ids: Ids | None = None) -> IterReader:
    """The archive of what is in the directory ``fd`` (borrowed until it is read): for an image made of a directory."""
    return IterReader(_whole(fd, ids))


def _whole(fd: int, ids: Ids | None) -> Iterator[bytes]:
    yield from TreeWriter(ids).tree(fd, b"", with_top=False)
    yield end_of_archive()
