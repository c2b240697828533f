"""The tar reader: what GNU tar, tarfile and bsdtar's formats say, and what no archive may say."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import CorralError, InvalidArgument
from corral.image.tarfields import parse_pax
from corral.image.tarstream import CHAR, DIRECTORY, FILE, LINK, SYMLINK, Member, TarReader
from unit.image.tars import Slow, archive, entry, octal, pax


def read(data: bytes, step: int = 1 << 20) -> list[tuple[Member, bytes]]:
    """Members with their content."""
    reader = TarReader(Slow(data, step))
    return [(member, reader.read_content()) for member in reader]


def refusal(data: bytes) -> str:
    """Why the archive is refused."""
    with pytest.raises(InvalidArgument) as caught:
        read(data)
    return caught.value.message.removeprefix("read the tar archive: ")


def test_plain_archive_is_read_in_any_pieces() -> None:
    """The source's pieces are of no meaning."""
    data = archive(entry(b"a", b"x" * 700), entry(b"b"), entry(b"dir/", type=b"5"))
    for step in (1, 7, 511, 512, 513, 4096):
        assert [(member.name, content) for member, content in read(data, step)] == [
            (b"a", b"x" * 700),
            (b"b", b""),
            (b"dir/", b""),
        ]


def test_content_that_is_not_read_is_skipped() -> None:
    """The next header is found all the same."""
    reader = TarReader(Slow(archive(entry(b"a", b"x" * 2000), entry(b"b")), 100))
    assert [member.name for member in reader] == [b"a", b"b"]


def test_archive_may_end_without_zeros() -> None:
    """Some programs leave the end out; the data behind the end is nobody's."""
    assert [member.name for member, _ in read(entry(b"a"))] == [b"a"]
    assert [member.name for member, _ in read(archive(entry(b"a")) + b"rubbish")] == [b"a"]
    assert read(b"") == []
    assert read(bytes(512)) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (entry(b"a", b"x" * 600)[:-100], "it ends within a file's content"),
        (entry(b"a")[:300], "it ends within a header"),
        (bytes(512) + entry(b"a"), "a header follows a block of zeros"),
        (entry(b"a")[:10] + b"!" + entry(b"a")[11:], "a header's checksum is wrong"),
        (archive(entry(b"a", size=b"-0000000001\0")), "the size of an entry is '-0000000001', not an octal number"),
        (archive(entry(b"a", size=b"\xff" * 12)), "the size of an entry is negative"),
        (archive(entry(b"a", size=b"\x80" + b"\xff" * 11)), "the size of an entry is out of range"),
        (archive(entry(b"a", uid=b"\xff" * 8)), "the uid of an entry is negative"),
        (archive(entry(b"a", uid=b"\x80\0\0\0\xff\xff\xff\xff")), "the owner of 'a' is out of range"),
        (archive(entry(b"a", type=b"Q")), "'a' is of the unknown type b'Q'"),
        (archive(pax((b"size", b"-1")), entry(b"a")), "the size of an entry is '-1', not a number of its range"),
        (archive(pax((b"size", b"9" * 25)), entry(b"a")), "the size of an entry is '9999999999999999999999999', "
         "not a number of its range"),
        (archive(pax((b"path", b"a\0b")), entry(b"a")), "the path of an entry has a zero byte in it"),
        (archive(pax((b"mtime", b"x")), entry(b"a")), "the mtime of an entry is 'x', not a number of its range"),
        (archive(pax((b"path", b"b"))), "it ends after an extended header"),
        (archive(entry(b"x", type=b"x", size=octal(1 << 30))), "a PAX header has 1073741824 bytes, more than 1048576"),
        (archive(entry(b"x", type=b"L", size=octal(1 << 30))), "a long name has 1073741824 bytes, more than 65536"),
    ],
    ids=[
        "content", "header", "lone-zeros", "checksum", "minus", "negative", "huge", "negative-uid", "uid", "type",
        "pax-minus", "pax-huge", "zero-byte", "mtime", "no-entry", "pax-bomb", "name-bomb",
    ],
)  # fmt: skip
def test_damaged_archive_is_refused(data: bytes, why: str) -> None:
    """Each in words."""
    assert refusal(data) == why


@pytest.mark.parametrize(
    "text", [b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"x a=b\n", b"6 a=bc\n", b"6 abc\n", b"5 =b\n", b" a=b\n"]
)
def test_malformed_pax_records_are_refused(text: bytes) -> None:
    """Lengths, keys and line ends are checked."""
    with pytest.raises(InvalidArgument):
        parse_pax(text)


def test_pax_records_override_the_header() -> None:
    """Names of any bytes, large ids, times with fractions, attributes; the last one wins."""
    records = ((b"path", b"gone"), (b"path", b"n\xff\xfe" * 60), (b"uid", b"3000000"), (b"gid", b"4000000"))
    more = ((b"mtime", b"-1.25"), (b"SCHILY.xattr.user.a", b"\0=\n"), (b"linkpath", b"l" * 300), (b"size", b"3"))
    member, content = read(archive(pax(*records, *more), entry(b"x", b"abc", size=octal(0))))[0]
    assert (member.name, member.uid, member.gid) == (b"n\xff\xfe" * 60, 3000000, 4000000)
    assert (member.mtime_ns, member.xattrs, content) == (-1_250_000_000, {b"user.a": b"\0=\n"}, b"abc")
    link = read(archive(pax(*more[2:3]), entry(b"x", type=b"2", link=b"short")))[0][0]
    assert link.link == b"l" * 300


def test_global_records_last_until_they_are_replaced() -> None:
    """An empty value takes one back; an entry's own records come first."""
    data = archive(
        pax((b"uid", b"7"), (b"comment", b"commit"), kind=b"g"),
        entry(b"a"),
        pax((b"uid", b"8")),
        entry(b"b"),
        pax((b"uid", b""), kind=b"g"),
        entry(b"c"),
    )
    assert [member.uid for member, _ in read(data)] == [7, 8, 0]


def test_numbers_in_base_256() -> None:
    """As GNU tar writes what is too large for octal digits."""
    data = archive(entry(b"a", uid=b"\x80\0\0\0\0\x3d\x09\x00", mtime=b"\xff" * 12))
    member = read(data)[0][0]
    assert (member.uid, member.mtime_ns) == (4_000_000, -1_000_000_000)


def test_links_and_nodes_have_no_content() -> None:
    """Whatever size their header claims: readers that disagree here read different archives."""
    data = archive(*(entry(b"n", type=kind, link=b"t", size=octal(512)) for kind in (b"1", b"2", b"3", b"5", b"6")))
    assert [member.kind for member, _ in read(data)] == [LINK, SYMLINK, CHAR, DIRECTORY, 6]


def test_directory_of_old_archives() -> None:
    """A slash at the end of a name makes one, where the type is the old one."""
    members = [member for member, _ in read(archive(entry(b"d/", type=b"\0"), entry(b"f", b"x", type=b"\0")))]
    assert [member.kind for member in members] == [DIRECTORY, FILE]


def test_prefix_is_part_of_the_name() -> None:
    """In POSIX archives; GNU tar has other things at its place, star times at its end."""
    assert read(archive(entry(b"n", prefix=b"a/b")))[0][0].name == b"a/b/n"
    assert read(archive(entry(b"n", prefix=b"a/b", magic=b"ustar  \0")))[0][0].name == b"n"


def test_long_names_of_gnu_tar() -> None:
    """L and K entries, their ends cut at the zero byte."""
    name, target = b"n/" * 200 + b"f", b"t" * 400
    data = archive(
        entry(b"././@LongLink", name + b"\0", type=b"L"),
        entry(b"././@LongLink", target + b"\0", type=b"K"),
        entry(b"cut", type=b"2", link=b"cut"),
        entry(b"next"),
    )
    members = [member for member, _ in read(data)]
    assert [(member.name, member.link) for member in members] == [(name, target), (b"next", b"")]


@pytest.mark.parametrize("form", ["old", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str) -> None:
    """Every format that GNU tar writes: the same content, with its holes."""
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for piece in range(30):
            file.seek(piece * 200_000)
            file.write(b"%05d" % piece * 1000)
        file.truncate(8_000_000)
    options = ["--format=gnu"] if form == "old" else ["--format=posix", f"--sparse-version={form[4:]}"]
    made = subprocess.run(
        ["tar", "-C", str(tmp_path), "--sparse", *options, "-cf", "-", "sparse"], capture_output=True, check=True
    )
    reader = TarReader(Slow(made.stdout, 1000))
    target = tmp_path / "copy"
    with target.open("wb") as file:
        (member,) = [self_written(reader, item, file.fileno()) for item in reader]
    assert (member.name, member.size) == (b"sparse", 8_000_000)
    assert member.stored < 1_000_000
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 64


def self_written(reader: TarReader, member: Member, fd: int) -> Member:
    """The member, whose content was written."""
    reader.copy_to(fd, member)
    return member


def sparse(numbers: bytes, *, size: bytes = b"100", content: bytes = b"x" * 10) -> bytes:
    """A sparse file of version 0.1 with this map."""
    return archive(pax((b"GNU.sparse.size", size), (b"GNU.sparse.map", numbers)), entry(b"s", content))


@pytest.mark.parametrize(
    ("numbers", "size"),
    [(b"0,5,4,5", b"100"), (b"5,5,0,5", b"100"), (b"0,20", b"100"), (b"0,5", b"100"), (b"95,10", b"100"), (b"0", b"9"),
     (b"0,-1", b"9"), (b"0,10", b"9" * 18)],
    ids=["overlap", "order", "more", "less", "outside", "odd", "minus", "size"],
)  # fmt: skip
def test_impossible_sparse_maps_are_refused(numbers: bytes, size: bytes) -> None:
    """Pieces in order, without overlap, inside of the file, of exactly what is stored."""
    if size == b"9" * 18:
        assert read(sparse(numbers, size=size))[0][0].size == 10**18 - 1
        return
    with pytest.raises(InvalidArgument):
        read(sparse(numbers, size=size))


def test_sparse_map_in_the_content_that_never_ends_is_refused() -> None:
    """Its length is bounded before it is believed."""
    head = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"100"))
    for text in (b"999999999\n", b"1\n5", b"x\n", b"1" * 100):
        with pytest.raises(InvalidArgument):
            read(archive(head, entry(b"s", text.ljust(512, b"\0"))))


def _tarfile(members: list[tuple[str, bytes, dict[str, Any]]], form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        for name, content, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in more.items():
                setattr(info, key, value)
            made.addfile(info, io.BytesIO(content))
    return stream.getvalue()


_NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=120)
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_ATTRIBUTES = st.fixed_dictionaries(
    {"mode": st.integers(0, 0o7777), "uid": st.integers(0, 1 << 31), "gid": st.integers(0, 1 << 31)},
    optional={"mtime": st.integers(0, 1 << 40)},
)


@given(
    st.lists(st.tuples(_PATHS, st.binary(max_size=1500), _ATTRIBUTES), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
def test_archives_of_tarfile_are_read_as_written(
    members: list[tuple[str, bytes, dict[str, Any]]], form: int, step: int
) -> None:
    """Names, contents and attributes, in both of its formats."""
    found = read(_tarfile(members, form), step)
    assert [(m.name, content, m.mode, m.uid, m.gid, m.mtime_ns) for m, content in found] == [
        (name.encode(), content, more["mode"], more["uid"], more["gid"], more.get("mtime", 0) * 10**9)
        for name, content, more in members
    ]


@given(st.binary(max_size=3000), st.integers(0, 1200), st.integers(0, 255))
def test_damaged_archives_end_in_words(tail: bytes, at: int, value: int) -> None:
    """Whatever the bytes: members or a refusal, and no other error."""
    data = bytearray(archive(pax((b"path", b"name")), entry(b"a", b"content")) + tail)
    data[at] = value
    try:
        read(bytes(data))
    except CorralError:
        pass
