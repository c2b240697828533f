"""What an upper directory says: the list of changes, the layer, and merging layers into one tree."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from corral.errors import FailedPrecondition
from corral.image.changes import changes_reader, list_changes, places_in_the_way
from corral.image.merging import merged_tree
from corral.image.tarstream import TarReader
from corral.image.tarwrite import Ids, tree_stream
from unit.image.tars import listing, unpack
from unit.image.trees import Tree, make, opaque, opened


def changes(tmp_path: Path, *, places: tuple[str, ...] = ()) -> list[str]:
    """The changes of ``upper`` above ``top`` and ``bottom``, as ``diff`` prints them."""
    with opened(tmp_path / "upper", tmp_path / "top", tmp_path / "bottom") as fds:
        found = list_changes(fds[0], fds[1:], places=places_in_the_way(places))
    return [f"{change.kind} {os.fsdecode(change.path)}" for change in found]


def layer(tmp_path: Path, *, places: tuple[str, ...] = ()) -> bytes:
    """The same as a layer."""
    with opened(tmp_path / "upper", tmp_path / "top", tmp_path / "bottom") as fds:
        reader = changes_reader(fds[0], fds[1:], places=places_in_the_way(places))
        return b"".join(iter(lambda: reader.read(500), b""))


def world(tmp_path: Path, upper: Tree, top: Tree, bottom: Tree) -> Path:
    """The three directories."""
    for name, tree in (("upper", upper), ("top", top), ("bottom", bottom)):
        make(tmp_path / name, tree)
    return tmp_path


def test_added_changed_and_deleted(tmp_path: Path) -> None:
    """Against the layer that shows; directories that changes lie in are changed."""
    upper: Tree = {"etc": {"new": "1", "old": "2", "gone": None}, "fresh": {"f": "3"}, "top-gone": None}
    world(tmp_path, upper, {"top-gone": "x"}, {"etc": {"old": "x", "gone": "x", "kept": "x"}})
    assert changes(tmp_path) == [
        "C /etc", "D /etc/gone", "A /etc/new", "C /etc/old", "A /fresh", "A /fresh/f", "D /top-gone"
    ]  # fmt: skip


def test_a_tree_that_is_too_deep_is_refused_in_words(tmp_path: Path) -> None:
    """A workload may nest directories deeper than any stack: diff, commit, cp and export say so."""
    world(tmp_path, {}, {}, {})
    (tmp_path / "upper").joinpath(*["d"] * 400).mkdir(parents=True)
    with pytest.raises(FailedPrecondition, match="nested deeper than 256"):
        changes(tmp_path)
    with opened(tmp_path / "upper") as fds:
        reader = tree_stream(fds[0])
        pieces = iter(lambda: reader.read(1 << 20), b"")
        with pytest.raises(FailedPrecondition, match="nested deeper than 256"):
            list(pieces)


def test_what_layers_hide_is_not_there(tmp_path: Path) -> None:
    """A file that an upper layer removed is new when it comes back; its whiteout again is no change."""
    upper: Tree = {"a": "back", "b": None, "d": {"x": "1"}}
    world(tmp_path, upper, {"a": None, "b": None, "d": {"y": "1"}}, {"a": "x", "b": "x", "d": {"x": "x"}})
    opaque(tmp_path / "top" / "d")
    assert changes(tmp_path) == ["A /a", "C /d", "A /d/x"]


def test_opaque_directory_deletes_what_it_hides(tmp_path: Path) -> None:
    """All names that the layers show there, but for those that are new."""
    world(
        tmp_path, {"d": {"new": "1", "both": "1"}}, {"d": {"t": "1", "w": None}}, {"d": {"b": "", "both": "", "w": ""}}
    )
    opaque(tmp_path / "upper" / "d")
    assert changes(tmp_path) == ["C /d", "D /d/b", "C /d/both", "A /d/new", "D /d/t"]


def test_directory_that_was_only_passed_through_is_no_change(tmp_path: Path) -> None:
    """Unless its mode, or its owner, is another."""
    world(tmp_path, {"same": {}, "other": {}}, {}, {"same": {}, "other": {}})
    (tmp_path / "upper" / "other").chmod(0o700)
    assert changes(tmp_path) == ["C /other"]


def test_replaced_kinds(tmp_path: Path) -> None:
    """A file where a directory was, and the reverse."""
    world(tmp_path, {"d": "file", "f": {"x": "1"}, "l": "->d"}, {}, {"d": {"in": "1"}, "f": "1", "l": "1"})
    assert changes(tmp_path) == ["C /d", "C /f", "A /f/x", "C /l"]


def test_mount_points_are_no_change(tmp_path: Path) -> None:
    """What the runtime made for mounts is empty, and in no layer; what somebody wrote there counts."""
    upper: Tree = {"proc": {}, "etc": {"hosts": "", "resolv.conf": "written"}, "data": {"deep": {"here": {}}}}
    world(tmp_path, upper, {}, {"etc": {}})
    places = ("/proc", "/etc/hosts", "/etc/resolv.conf", "/data/deep/here/")
    assert changes(tmp_path, places=places) == ["C /etc", "A /etc/resolv.conf"]
    assert changes(tmp_path)[:2] == ["A /data", "A /data/deep"]


def test_layer_of_changes_makes_the_same_root(tmp_path: Path) -> None:
    """Unpacked it is the upper directory again: whiteouts, opaque directories, links and all."""
    upper: Tree = {"etc": {"new": "1", "gone": None}, "d": {"n": "1"}, "l": "->/nowhere", "proc": {}}
    world(tmp_path, upper, {}, {"etc": {"gone": "1"}, "d": {"o": "1"}})
    opaque(tmp_path / "upper" / "d")
    data = layer(tmp_path, places=("/proc",))
    names = [member.name for member in TarReader(io.BytesIO(data))]
    assert names == [b"d/", b"d/.wh..wh..opq", b"d/n", b"etc/", b"etc/.wh.gone", b"etc/new", b"l"]
    unpack(data, tmp_path / "again")
    assert listing(tmp_path / "again") == ["d", "d/n", "etc", "etc/gone", "etc/new", "l"]
    assert os.getxattr(tmp_path / "again" / "d", "user.overlay.opaque") == b"y"
    assert layer(tmp_path, places=("/proc",)) == data


def test_directories_above_a_change_are_in_the_layer(tmp_path: Path) -> None:
    """With their attributes; what did not change is not."""
    world(tmp_path, {"a": {"b": {"c": "1"}}, "same": {}}, {}, {"a": {"b": {}}, "same": {}})
    names = [member.name for member in TarReader(io.BytesIO(layer(tmp_path)))]
    assert names == [b"a/", b"a/b/", b"a/b/c"]


def test_owners_of_changes_are_those_inside(tmp_path: Path) -> None:
    """A directory whose owner is the same inside is no change."""
    world(tmp_path, {"d": {}}, {}, {"d": {}})
    ids = Ids([(os.getuid(), os.getuid(), 1)], [(os.getgid(), os.getgid(), 1)])
    with opened(tmp_path / "upper", tmp_path / "bottom") as fds:
        assert list_changes(fds[0], fds[1:], ids=ids) == []


def test_merged_tree_is_what_an_overlay_shows(tmp_path: Path) -> None:
    """Topmost files, merged directories, nothing hidden; hard links, so no bytes are copied."""
    top: Tree = {"a": "top", "gone": None, "d": {"t": "1"}, "opq": {"n": "1"}, "f": "file", "now": {"x": "1"}}
    bottom: Tree = {
        "a": "b",
        "gone": "b",
        "d": {"b": "1"},
        "opq": {"o": "1"},
        "f": {"x": "1"},
        "now": "file",
        "l": "->a",
    }
    make(tmp_path / "top", top)
    make(tmp_path / "bottom", bottom)
    opaque(tmp_path / "top" / "opq")
    (tmp_path / "bottom" / "d").chmod(0o700)
    layers = [str(tmp_path / "top"), str(tmp_path / "bottom")]
    merged = Path(merged_tree(str(tmp_path), "sha256:ab", layers))
    assert listing(merged) == ["a", "d", "d/b", "d/t", "f", "l", "now", "now/x", "opq", "opq/n"]
    assert (merged / "a").read_text() == "top"
    assert (merged / "a").stat().st_ino == (tmp_path / "top" / "a").stat().st_ino
    assert merged_tree(str(tmp_path), "sha256:ab", layers) == str(merged)


def test_marks_of_fuse_overlayfs_are_understood(tmp_path: Path) -> None:
    """A file that says opaque is no file of the container's."""
    world(tmp_path, {"d": {".wh..wh..opq": "", "n": "1"}, "proc": {".wh..wh..opq": ""}}, {}, {"d": {"o": "1"}})
    assert changes(tmp_path, places=("/proc",)) == ["C /d", "A /d/n", "D /d/o"]
    names = [member.name for member in TarReader(io.BytesIO(layer(tmp_path, places=("/proc",))))]
    assert names == [b"d/", b"d/.wh..wh..opq", b"d/n"]
