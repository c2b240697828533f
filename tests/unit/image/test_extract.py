"""Unpacking into a tree that is in use: what exists counts, and nothing leads out of it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound
from corral.image.extract import extract
from corral.image.tarstream import Member
from unit.image.tars import archive, entry, folder, link, listing
from unit.image.trees import Tree, make, opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's tree with a link to a directory, a link out of it, and a neighbour."""
    make(tmp_path / "world" / "outside", {"secret": "secret"})
    tree: Tree = {"etc": {"f": "old"}, "real": {}, "link": "->/real", "out": "->../../../outside", "file": "old"}
    return make(tmp_path / "world" / "root", tree)


def put(root: Path, data: bytes, at: str = "/", *, along_links: bool = True) -> None:
    """Unpack as whoever runs the tests."""
    with opened(root) as fds:
        extract(io.BytesIO(data), fds[0], at, adopt=own, along_links=along_links)


def own(member: Member) -> None:
    """Make it the caller's."""
    member.uid, member.gid = os.getuid(), os.getgid()


def test_files_are_replaced_and_directories_kept(root: Path) -> None:
    """Also their modes."""
    (root / "etc").chmod(0o711)
    put(root, archive(folder(b"etc"), entry(b"etc/f", b"new"), entry(b"etc/.wh.f", b"plain"), entry(b"new")))
    assert (root / "etc").stat().st_mode & 0o777 == 0o711
    assert (root / "etc" / "f").read_text() == "new"
    assert (root / "etc" / ".wh.f").read_text() == "plain"


def test_links_to_directories_lead_on_inside(root: Path) -> None:
    """As entries, as parents, and as the place to unpack at."""
    put(root, archive(folder(b"link"), entry(b"link/a")))
    put(root, archive(entry(b"b")), "/link")
    assert sorted(os.listdir(root / "real")) == ["a", "b"]
    assert (root / "link").is_symlink()


def test_link_is_replaced_by_a_file(root: Path) -> None:
    """What it points to stays as it is."""
    put(root, archive(entry(b"out", b"file")))
    assert (root / "out").read_text() == "file"
    assert listing(root.parent / "outside") == ["secret"]


@pytest.mark.parametrize(
    "entries",
    [(entry(b"out/evil"),), (link(b"l", b"/../../outside"), entry(b"l/evil")), (entry(b"../evil"),)],
    ids=["existing", "brought", "dots"],
)
def test_nothing_is_made_outside(root: Path, entries: tuple[bytes, ...]) -> None:
    """Links out of the tree are links inside it, to nowhere."""
    with pytest.raises(CorralError):
        put(root, archive(*entries))
    assert listing(root.parent / "outside") == ["secret"]
    assert sorted(os.listdir(root.parent)) == ["outside", "root"]


def test_kinds_that_do_not_fit_are_refused(root: Path) -> None:
    """A directory is not replaced by a file, nor the reverse."""
    with pytest.raises(FailedPrecondition):
        put(root, archive(entry(b"etc")))
    with pytest.raises(FailedPrecondition):
        put(root, archive(folder(b"file")))
    assert (root / "etc" / "f").read_text() == "old"


def test_place_that_is_no_directory_is_refused(root: Path) -> None:
    """Missing, a file, or a damaged archive."""
    for at in ("/missing", "/file", "/file/x"):
        with pytest.raises(NotFound):
            put(root, archive(entry(b"a")), at)
    with pytest.raises(InvalidArgument):
        put(root, b"no tar archive" * 100)


@pytest.mark.parametrize("entries", [(folder(b"link"),), (entry(b"link/f"),)], ids=["itself", "parent"])
def test_links_are_refused_where_they_do_not_lead_on(root: Path, entries: tuple[bytes, ...]) -> None:
    """On a host: a link that an earlier copy brought must not lead a later one to where its maker wants."""
    with pytest.raises(FailedPrecondition, match="link"):
        put(root, archive(*entries), along_links=False)
    assert listing(root / "real") == []
    put(root, archive(entry(b"a")), "/link", along_links=False)
    assert listing(root / "real") == ["a"]
