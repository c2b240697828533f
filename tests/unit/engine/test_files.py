"""corral.engine.files: whole files, and trees that somebody hostile may have made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine import files
from corral.errors import ResourceExhausted


def _make_deep(top: Path) -> None:
    """Deeper than the stack, and than a path may be long."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=here)
        with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w"):
            pass
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    """By its path, and by a descriptor, as a process in a user's namespace does."""
    top = tmp_path / "top"
    _make_deep(top)
    assert files.remove_tree(str(top)) == []
    assert not top.exists()
    _make_deep(top)
    held = os.open(top, os.O_RDONLY)
    assert files.empty_tree(held, "top") == []
    os.close(held)
    assert list(top.iterdir()) == []


def test_a_deep_tree_is_counted_as_far_as_paths_reach(tmp_path: Path) -> None:
    """One workload with such a tree does not keep `system df` from an answer; a file with two names counts once."""
    top = tmp_path / "top"
    _make_deep(top)
    (top / "big").write_bytes(b"x" * 100_000)
    os.link(top / "big", top / "again")
    assert 100_000 <= files.tree_bytes(str(top)) < 100_000 + 1300 * 65536
    assert files.tree_bytes(str(top / "big")) < 200_000
    assert files.remove_tree(str(top)) == []


def test_a_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    """What a link leads to is not ours."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "link").symlink_to(outside)
    (top / "loop").symlink_to(top)
    assert files.remove_tree(str(top)) == []
    assert (outside / "kept").read_text() == "x"


def test_a_tree_with_odd_names_is_removed(tmp_path: Path) -> None:
    """Names that are no text, and modes that forbid."""
    top = tmp_path / "top"
    (top / "closed").mkdir(parents=True)
    os.mkdir(os.fsencode(top / "closed") + b"/\xff\xfe")
    os.chmod(top / "closed", 0o000)
    assert files.remove_tree(str(top)) == []
    assert files.remove_tree(str(top)) == []


def test_a_link_in_its_place_is_all_that_goes(tmp_path: Path) -> None:
    """Somebody put a link where the directory was."""
    (tmp_path / "real").mkdir()
    (tmp_path / "top").symlink_to(tmp_path / "real")
    assert files.remove_tree(str(tmp_path / "top")) == []
    assert (tmp_path / "real").is_dir()


def test_replacing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error leaves the old file, and nothing beside it."""
    path = tmp_path / "f"
    files.replace(str(path), b"old")

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("corral.engine.files.posix.write", full)
    with pytest.raises(ResourceExhausted, match=f"write {path}: no space left on device") as caught:
        files.replace(str(path), b"new")
    assert caught.value.hint == "free some space in the store"
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["f"])


def test_an_object_is_none_when_it_was_cut_off(tmp_path: Path) -> None:
    """Neither half an object nor another kind of value."""
    path = tmp_path / "f"
    assert files.read_object_or_none(str(path)) is None
    for text in ("", "{", "[1]", '{"a":1'):
        path.write_text(text)
        assert files.read_object_or_none(str(path)) is None
    path.write_text('{"a":1}')
    assert files.read_object_or_none(str(path)) == {"a": 1}


@pytest.mark.parametrize(("content", "is_fine"), [(b"[1]\n", True), (b"x" * 4096, True), (b"x" * 4097, False)])
def test_a_file_is_written_over_when_its_block_has_room(tmp_path: Path, content: bytes, is_fine: bool) -> None:
    """In place, for a store without any; blanks fill up what was longer."""
    path = tmp_path / "state.json"
    path.write_bytes(b'{"a": 12345}\n')
    os.sync()
    inode = path.stat().st_ino
    assert files.overwrite(str(path), content) == is_fine
    assert path.read_bytes().rstrip() == (content.rstrip() if is_fine else b'{"a": 12345}')
    assert path.stat().st_ino == inode
    assert not files.overwrite(str(tmp_path / "missing"), content)
