"""corral.engine.index: made from files, kept up to date, thrown away when it is no good."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from corral.engine import index, journal, ledger
from corral.engine.index import Index
from corral.engine.places import Places
from unit.engine.containers import ID, OTHER, make


def numbers(places: Places) -> list[int]:
    with Index(places) as made:
        made.refresh()
        return [event["n"] for event in made.events()]


def test_events_are_taken_in_as_they_come(places: Places) -> None:
    """Each refresh takes what is new."""
    journal.append(places, "container", "create", ID)
    assert numbers(places) == [1]
    journal.append(places, "container", "start", ID)
    assert numbers(places) == [1, 2]


def test_it_comes_back_when_it_was_deleted(places: Places) -> None:
    """Nothing is in it that is not in the files."""
    for _ in range(3):
        journal.append(places, "container", "create", ID)
    before = numbers(places)
    for path in Path(places.store).glob("index.db*"):
        path.unlink()
    assert numbers(places) == before == [1, 2, 3]


@pytest.mark.parametrize("content", [b"not a database" * 100, b""])
def test_it_is_made_anew_when_it_is_no_database(places: Places, content: bytes) -> None:
    """Cut off, overwritten, empty."""
    journal.append(places, "container", "create", ID)
    Path(places.index).write_bytes(content)
    assert numbers(places) == [1]


def test_it_is_made_anew_when_a_later_version_made_it(places: Places) -> None:
    """The files are the truth; an index is no reason to refuse work."""
    journal.append(places, "container", "create", ID)
    db = sqlite3.connect(places.index)
    db.execute("PRAGMA user_version = 999")
    db.close()
    assert numbers(places) == [1]


def test_an_older_one_is_migrated(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, keeping what it has."""
    journal.append(places, "container", "create", ID)
    monkeypatch.setattr(index, "MIGRATIONS", index.MIGRATIONS[:1])
    Index(places).close()
    monkeypatch.undo()
    make(places)
    with Index(places) as made:
        made.refresh()
        assert made.containers_with([]) == [ID]


def test_events_that_the_journal_dropped_are_dropped(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is bounded as the journal is."""
    monkeypatch.setattr(journal, "MAX_BYTES", 600)
    for _ in range(30):
        journal.append(places, "container", "create", ID)
    numbers(places)
    for _ in range(30):
        journal.append(places, "container", "create", ID)
    assert numbers(places) == [event["n"] for event in journal.read(places)]


def test_numbers_begin_again_when_the_journal_was_taken_away(places: Places) -> None:
    """What the old one said is gone with it."""
    for _ in range(3):
        journal.append(places, "container", "create", ID)
    numbers(places)
    os.unlink(f"{places.events}/journal")
    journal.append(places, "container", "create", OTHER)
    assert numbers(places) == [1]


def test_containers_are_found_by_their_labels(places: Places) -> None:
    """All labels must hold; changed and removed containers are noticed."""
    make(places, labels={"tier": "web", "zone": "a"}, created_ns=1)
    make(places, OTHER, labels={"tier": "web"}, created_ns=2)
    with Index(places) as made:
        made.refresh()
        assert made.containers_with(["tier=web"]) == [OTHER, ID]
        assert made.containers_with(["tier", "zone=a"]) == [ID]
        definition = {**ledger.read_definition(places, OTHER), "labels": {"zone": "a"}}
        ledger.write_definition(places, OTHER, definition)
        os.utime(f"{places.container(OTHER)}/definition.json", ns=(1, 1))
        made.refresh()
        assert made.containers_with(["zone=a"]) == [OTHER, ID]
        os.rename(places.container(ID), f"{places.containers}/.dead-x")
        made.refresh()
        assert made.containers_with([]) == [OTHER]


def test_several_at_once_agree(places: Places) -> None:
    """Threads and processes may refresh at the same time."""
    for _ in range(50):
        journal.append(places, "container", "create", ID)
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(numbers(places))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(1, 51))] * 4
