"""corral.runtime.inputs: the files that a caller names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.errors import InvalidArgument
from corral.runtime import inputs
from corral.runtime.inputs import read_file


@pytest.mark.parametrize("content", [b"", b"x" * 300_000])
def test_regular_file_is_read_as_a_whole(tmp_path: Path, content: bytes) -> None:
    """Also an empty one, and one that takes several reads."""
    (tmp_path / "f").write_bytes(content)

    assert content == read_file(str(tmp_path / "f"))


def test_fifo_and_device_are_refused_without_waiting(tmp_path: Path) -> None:
    """Nobody writes to the one, and the other never ends."""
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero"):
        with pytest.raises(InvalidArgument, match=f"read {path}: not a regular file"):
            read_file(path)


def test_directory_and_missing_file_are_told(tmp_path: Path) -> None:
    """The path is in the error."""
    with pytest.raises(InvalidArgument, match=f"read {tmp_path}: is a directory"):
        read_file(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_file(str(tmp_path / "nothing"))


def test_file_of_absurd_length_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is far above any real config."""
    monkeypatch.setattr(inputs, "LIMIT_BYTES", 10)
    (tmp_path / "f").write_bytes(b"x" * 11)
    with pytest.raises(InvalidArgument, match="longer than 10 bytes"):
        read_file(str(tmp_path / "f"))
