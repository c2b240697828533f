"""The tar writer: what it writes, every reader reads, and it always writes the same."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from corral.image.tarstream import DIRECTORY, FILE, LINK, SYMLINK, Member, TarReader
from corral.image.tarwrite import Ids, IterReader, TreeWriter, end_of_archive, header, tree_stream
from unit.image.tars import listing, unpack


def members() -> st.SearchStrategy[Member]:
    """Any member that a file system could have."""
    name = st.binary(min_size=1, max_size=400).filter(lambda text: b"\0" not in text)

    def build(values: tuple[bytes, int, int, int, int, int, dict[bytes, bytes], bytes]) -> Member:
        member = Member(values[0], values[1], 0)
        member.mode, member.uid, member.gid, member.mtime_ns = values[2], values[3], values[4], values[5]
        member.xattrs = values[6]
        if member.kind in (LINK, SYMLINK):
            member.link = values[7]
        return member

    ids = st.integers(0, 0xFFFFFFFE)
    xattrs = st.dictionaries(st.sampled_from([b"user.a", b"security.capability"]), st.binary(max_size=50), max_size=2)
    kinds = st.sampled_from([FILE, LINK, SYMLINK, DIRECTORY])
    times = st.integers(-(10**18), 10**19)
    return st.tuples(name, kinds, st.integers(0, 0o7777), ids, ids, times, xattrs, name).map(build)


def described(member: Member) -> tuple[object, ...]:
    """All fields."""
    return tuple(getattr(member, name) for name in Member.__slots__)


@given(st.lists(members(), max_size=4))
def test_headers_are_read_as_they_were_written(written: list[Member]) -> None:
    """Names of any bytes and length, large ids, early and late times, attributes."""
    data = b"".join(header(member, is_precise=True) for member in written) + end_of_archive()
    assert [described(member) for member in TarReader(io.BytesIO(data))] == [described(item) for item in written]


@given(members())
def test_headers_are_read_by_tarfile(member: Member) -> None:
    """Another reader sees the same name, owner and mode."""
    data = header(member) + end_of_archive()
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as made:
        info = made.getmembers()[0]
    name = os.fsencode(info.name)
    assert (name.rstrip(b"/"), info.mode) == (member.name.rstrip(b"/"), member.mode)
    assert (info.uid, info.gid, int(info.mtime)) == (member.uid, member.gid, member.mtime_ns // 10**9)


def make_tree(path: Path) -> Path:
    """Files of every kind that needs no privilege."""
    (path / "d" / "inner").mkdir(parents=True)
    (path / "d" / "inner" / ("n" * 200)).write_text("long")
    (path / "a").write_bytes(b"x" * 1000)
    os.link(path / "a", path / "z-same")
    (path / "link").symlink_to("/nowhere/" + "t" * 200)
    os.mkfifo(path / "fifo")
    (path / "empty").touch()
    os.setxattr(path / "empty", "user.colour", b"blue")
    for name in ("a", "empty", "d"):
        os.utime(path / name, ns=(5_000_000_001, 5_000_000_001))
    return path


def stream(path: Path) -> bytes:
    """The archive of a tree."""
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = tree_stream(fd)
        return b"".join(iter(lambda: reader.read(700), b""))
    finally:
        os.close(fd)


def test_tree_is_written_whole_and_in_order(tmp_path: Path) -> None:
    """Sorted by name; the second name of a file is a hard link to the first."""
    data = stream(make_tree(tmp_path / "tree"))
    found = list(TarReader(io.BytesIO(data)))
    long = b"d/inner/" + b"n" * 200
    assert [member.name for member in found] == [
        b"a", b"d/", b"d/inner/", long, b"empty", b"fifo", b"link", b"z-same"
    ]  # fmt: skip
    same = found[-1]
    assert (same.kind, same.link, same.size) == (LINK, b"a", 0)
    assert found[4].xattrs == {b"user.colour": b"blue"}
    assert (found[0].mtime_ns, found[0].uid) == (5_000_000_000, os.getuid())
    assert stream(tmp_path / "tree") == data


def test_archive_is_unpacked_to_the_same_tree(tmp_path: Path) -> None:
    """By ourselves and by GNU tar."""
    data = stream(make_tree(tmp_path / "tree"))
    unpack(data, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    subprocess.run(["tar", "-C", str(tmp_path / "theirs"), "-xf", "-"], input=data, check=True)
    for name in ("ours", "theirs"):
        assert listing(tmp_path / name) == listing(tmp_path / "tree")
        assert (tmp_path / name / "z-same").stat().st_ino == (tmp_path / name / "a").stat().st_ino


def test_owners_are_those_inside(tmp_path: Path) -> None:
    """By the maps of a user namespace; root's for what it does not map."""
    ids = Ids([(0, os.getuid(), 1), (1, 100_000, 10)], [(0, os.getgid(), 1)])
    assert [ids.uid(os.getuid()), ids.uid(100_003), ids.uid(55), ids.gid(77)] == [0, 4, 0, 0]
    assert [ids.to_disk(0, 0), ids.to_disk(4, 5)] == [(os.getuid(), os.getgid()), (100_003, os.getgid())]
    assert (Ids().uid(5), Ids().to_disk(3, 4)) == (5, (3, 4))
    (tmp_path / "f").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    piece = b"".join(TreeWriter(ids).entry(fd, b"f", b"f"))
    os.close(fd)
    assert next(iter(TarReader(io.BytesIO(piece)))).uid == 0


def test_capabilities_of_one_user_namespace_become_plain() -> None:
    """Version 3, which names its root, as version 2, which counts everywhere."""
    from corral.image.tarwrite import _plain_capability

    plain = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)
    assert _plain_capability(struct.pack("<IIIIII", 0x03000001, 0x400, 0, 0, 0, 100_000)) == plain
    assert _plain_capability(plain) == plain


def test_reader_of_pieces_gives_any_sizes() -> None:
    """Empty pieces are no end."""
    reader = IterReader(iter([b"abc", b"", b"defg"]))
    assert [reader.read(2) for _ in range(5)] == [b"ab", b"c", b"de", b"fg", b""]
