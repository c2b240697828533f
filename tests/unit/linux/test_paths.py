"""corral.linux.paths: the standard library's results without its import."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux import paths

# All that the functions look at: slashes, dots, and something else.
TEXTS = st.text(alphabet="/.a", max_size=12)


@given(TEXTS)
def test_text_functions_agree_with_os_path_for_any_text(text: str) -> None:
    """dirname, basename, split and normpath give what os.path gives."""
    expected = (os.path.dirname(text), os.path.basename(text), os.path.split(text), os.path.normpath(text))
    assert expected == (paths.dirname(text), paths.basename(text), paths.split(text), paths.normpath(text))


@given(TEXTS, TEXTS)
def test_join_agrees_with_os_path_for_any_text(base: str, text: str) -> None:
    """join gives what os.path gives."""
    assert os.path.join(base, text) == paths.join(base, text)


@pytest.mark.parametrize(
    "name", ["file", "directory", "to-file", "to-directory", "dangling", "missing", "file/x", "\0"]
)
def test_questions_agree_with_os_path_for_each_kind_of_file(tmp_path: Path, name: str) -> None:
    """exists, isdir, isfile, islink and realpath give what os.path gives, also for what cannot be looked at."""
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "to-directory").symlink_to(tmp_path / "directory")
    (tmp_path / "dangling").symlink_to("nowhere")
    path = f"{tmp_path}/{name}"
    for question in ("exists", "isdir", "isfile", "islink"):
        assert getattr(os.path, question)(path) == getattr(paths, question)(path), question
    if name != "\0":
        assert os.path.realpath(path) == paths.realpath(path)


def test_make_directories_makes_parents_with_the_default_mode(tmp_path: Path) -> None:
    """Only the last directory gets the mode; one that is there already is left as it is."""
    umask = os.umask(0)
    try:
        paths.make_directories(f"{tmp_path}/a/b", 0o711)
        paths.make_directories(f"{tmp_path}/a/b", 0o700)
    finally:
        os.umask(umask)
    assert (0o777, 0o711) == ((tmp_path / "a").stat().st_mode & 0o7777, (tmp_path / "a/b").stat().st_mode & 0o7777)


def test_make_directories_raises_where_nothing_can_be_made() -> None:
    """procfs answers ENOENT although all above is there: that is an end, not a reason to try again."""
    with pytest.raises(FileNotFoundError):
        paths.make_directories("/proc/none/here", 0o700)


def test_make_directories_raises_when_a_file_stands_in_the_way(tmp_path: Path) -> None:
    """What is not a directory is not taken for one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        paths.make_directories(f"{tmp_path}/file", 0o700)
