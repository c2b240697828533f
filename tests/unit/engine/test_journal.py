"""corral.engine.journal: numbered, whole, bounded, with visible gaps."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from corral.engine import journal
from corral.engine.places import Places


def append(places: Places, action: str = "x") -> int:
    return journal.append(places, "container", action, "id")


def numbers(places: Places, after: int = 0) -> list[int]:
    return [event["n"] for event in journal.read(places, after=after)]


def test_numbers_grow_by_one_when_events_are_appended(places: Places) -> None:
    """From 1 on, in order."""
    assert [append(places) for _ in range(3)] == [1, 2, 3]
    assert numbers(places) == [1, 2, 3]
    assert numbers(places, after=2) == [3]


def test_numbers_are_unique_when_many_append_at_once(places: Places) -> None:
    """Threads and processes share one count."""
    threads = [threading.Thread(target=lambda: [append(places) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(places) == list(range(1, 101))


def test_a_torn_line_is_dropped_when_the_writer_died(places: Places) -> None:
    """What was not complete was told to nobody, so its number is used again."""
    append(places)
    with open(f"{places.events}/journal", "ab") as file:
        file.write(b'{"n":2,"time_ns":')
    assert numbers(places) == [1]
    assert append(places) == 2
    assert numbers(places) == [1, 2]


def test_a_gap_is_told_when_files_were_dropped(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded in size: who comes too late is told what is missing."""
    monkeypatch.setattr(journal, "MAX_BYTES", 600)
    for _ in range(60):
        append(places)
    found = list(journal.read(places, after=1))
    assert found[0]["type"] == "gap"
    assert (found[0]["from"], found[0]["to"]) == (2, found[1]["n"] - 1)
    assert found[-1]["n"] == 60
    assert len(os.listdir(places.events)) == journal.FILES + 1


def test_numbers_go_on_when_the_journal_was_just_rotated(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file continues the count of the old one, also when it is still empty."""
    append(places)
    os.rename(f"{places.events}/journal", f"{places.events}/journal.1")
    Path(f"{places.events}/journal").touch()
    assert append(places) == 2


def test_numbers_skip_when_the_host_was_restarted(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power may have cost events: a number never means two of them, and the gap shows."""
    append(places)
    monkeypatch.setattr(journal, "read_boot_id", lambda: "another-boot")
    assert append(places) == 2 + journal.BOOT_SKIP
    assert next(journal.read(places, after=1))["type"] == "gap"


def test_an_event_is_told_once_when_its_key_is_there(places: Places) -> None:
    """An operation that is resumed repeats nothing."""
    since = journal.last_number(places)
    first = journal.append_once(places, "k", since, "container", "died", subject="id")
    append(places)
    assert journal.append_once(places, "k", since, "container", "died", subject="id") == first
    assert numbers(places) == [1, 2]


def test_nothing_is_left_when_the_disc_is_full(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that breaks off leaves no half line; emit goes on without."""
    append(places)
    before = Path(f"{places.events}/journal").read_bytes()
    real = os.pwrite

    def short(fd: int, data: bytes, offset: int) -> int:
        if len(data) > 20:
            return real(fd, data[:20], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("corral.engine.journal.posix.pwrite", short)
    with pytest.raises(OSError, match="No space left"):
        append(places)
    assert Path(f"{places.events}/journal").read_bytes() == before
    assert journal.emit(places, "container", "x", "id") == 0


def test_a_reader_sees_whole_events_when_one_is_being_written(places: Places) -> None:
    """A line without its end is not there yet."""
    append(places)
    with open(f"{places.events}/journal", "ab") as file:
        file.write(b'{"n":2')
    assert numbers(places) == [1]


def test_what_is_new_is_all_that_is_read_when_the_journal_is_long(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower pays for what it has not seen: each number gives just what comes after it, with few lines parsed."""
    monkeypatch.setattr(journal, "MAX_BYTES", 60_000)
    total = 1500
    for _ in range(total):
        append(places)
    parsed: list[bytes] = []
    parse = journal._parse

    def counting(line: bytes) -> dict[str, object] | None:
        parsed.append(line)
        return parse(line)

    monkeypatch.setattr(journal, "_parse", counting)
    for after in (1, 2, 399, 700, 1111, total - 1, total):
        parsed.clear()
        assert numbers(places, after=after) == list(range(after + 1, total + 1))
        assert len(parsed) == total - after


def test_no_event_is_skipped_when_lines_in_between_cannot_be_read(places: Places) -> None:
    """Damage hides the lines that it hit, and no others."""
    for _ in range(400):
        append(places)
    path = f"{places.events}/journal"
    lines = Path(path).read_bytes().splitlines(keepends=True)
    for at in range(100, 300):
        lines[at] = b"#" * (len(lines[at]) - 1) + b"\n"
    Path(path).write_bytes(b"".join(lines))
    assert [event["n"] for event in journal.read(places, after=50) if event["type"] != "gap"] == [
        *range(51, 101),
        *range(301, 401),
    ]
    assert numbers(places, after=398) == [399, 400]
