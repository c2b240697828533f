"""corral.engine.logs: both formats, tails, rotation, following."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine.logs import Entry, Reader, parse_line, parse_stamp


def cri(text: str, *, stream: str = "stdout", tag: str = "F", second: int = 0) -> bytes:
    return f"2026-01-01T00:00:{second:02d}.000000000Z {stream} {tag} {text}\n".encode()


def texts(entries: object) -> list[bytes]:
    return [entry.data for entry in entries]  # type: ignore[attr-defined]


def shown(entry: Entry | None) -> tuple[str, bytes, bool] | None:
    return (entry.stream, entry.data, entry.is_partial) if entry is not None else None


def test_lines_are_read_in_both_formats() -> None:
    """CRI text and JSON lines say the same."""
    assert shown(parse_line(b"2026-01-01T00:00:00.5Z stderr P a b")) == ("stderr", b"a b", True)
    assert shown(parse_line(b'{"log":"a b\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}')) == (
        "stdout",
        b"a b",
        False,
    )


@pytest.mark.parametrize("line", [b"", b"x", b"{", b'{"log":1}', b"2026-01-01T00:00:00Z nowhere F x", b"no stdout F x"])
def test_a_line_is_left_out_when_it_is_none(line: bytes) -> None:
    """A log that was cut, or written to by others, still reads."""
    assert parse_line(line) is None


def test_stamps_are_exact() -> None:
    """Nanoseconds, with a zone, over leap days."""
    assert parse_stamp("1970-01-01T00:00:00.000000001Z") == 1
    assert parse_stamp("2024-02-29T12:00:00+01:00") == 1709204400 * 10**9
    assert parse_stamp("2026-01-01T00:00:00.25Z") == 1767225600 * 10**9 + 250_000_000
    assert parse_stamp("2026-01-01") is None


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    """log.2, log.1, log."""
    for name, text in (("log.2", "a"), ("log.1", "b"), ("log", "c")):
        (tmp_path / name).write_bytes(cri(text))
    assert texts(Reader(str(tmp_path / "log")).read()) == [b"a", b"b", b"c"]


def test_a_tail_reaches_into_older_files(tmp_path: Path) -> None:
    """The last lines, wherever they are; parts of one line are one line."""
    (tmp_path / "log.1").write_bytes(b"".join(cri(str(n)) for n in range(50)))
    (tmp_path / "log").write_bytes(cri("x", tag="P") + cri("y"))
    path = str(tmp_path / "log")
    assert texts(Reader(path, tail=2).read()) == [b"49", b"x", b"y"]
    assert texts(Reader(path, tail=0).read()) == []
    assert len(texts(Reader(path, tail=1000).read())) == 52


def test_a_tail_is_right_when_the_file_is_large(tmp_path: Path) -> None:
    """Read from the end, in blocks."""
    (tmp_path / "log").write_bytes(b"".join(cri(f"{n} {'x' * 200}") for n in range(5000)))
    found = texts(Reader(str(tmp_path / "log"), tail=900).read())
    assert [int(text.split()[0]) for text in found] == list(range(4100, 5000))


def test_since_and_until_bound_what_is_read(tmp_path: Path) -> None:
    """Both ends belong to it."""
    (tmp_path / "log").write_bytes(b"".join(cri(str(n), second=n) for n in range(10)))
    start = 1767225600 * 10**9
    reader = Reader(str(tmp_path / "log"), since_ns=start + 3 * 10**9, until_ns=start + 5 * 10**9)
    assert texts(reader.read()) == [b"3", b"4", b"5"]


def test_following_gives_every_line_once_over_a_rotation(tmp_path: Path) -> None:
    """Lines before, between and after; a file that was replaced is read to its end first."""
    log = tmp_path / "log"
    log.write_bytes(cri("a") + cri("b"))
    steps = iter(["append", "rotate", "cut", "end"])

    def is_over() -> bool:
        step = next(steps)
        if step == "append":
            with log.open("ab") as file:
                file.write(cri("c"))
        elif step == "rotate":
            with log.open("ab") as file:
                file.write(cri("d"))
            os.rename(log, tmp_path / "log.1")
            log.write_bytes(cri("e") + b"2026-01-01T00:00:00.0Z stdout F ha")
        elif step == "cut":
            with log.open("ab") as file:
                file.write(b"lf\n")
        return step == "end"

    reader = Reader(str(log))
    assert texts(reader.follow(is_over, timeout_s=0.01)) == [b"a", b"b", b"c", b"d", b"e", b"half"]


def test_following_a_tail_leaves_out_what_came_before(tmp_path: Path) -> None:
    """The last line there is, then what comes."""
    log = tmp_path / "log"
    log.write_bytes(cri("a") + cri("b"))
    steps = iter([False, True])

    def is_over() -> bool:
        with log.open("ab") as file:
            file.write(cri("c"))
        return next(steps)

    assert texts(Reader(str(log), tail=1).follow(is_over, timeout_s=0.01)) == [b"b", b"c", b"c"]


def test_following_begins_before_the_file_is_there(tmp_path: Path) -> None:
    """A container that has not written anything yet."""
    log = tmp_path / "log"
    steps = iter([False, True])

    def is_over() -> bool:
        log.write_bytes(cri("a"))
        return next(steps)

    assert texts(Reader(str(log)).follow(is_over, timeout_s=0.01)) == [b"a"]
