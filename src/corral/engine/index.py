"""STORE/index.db: events and containers in SQLite, for questions that reading every file would answer slowly.

Made from the journal and the definitions, and from nothing else: delete it and it comes back. Whoever asks brings it
up to date first; a database that cannot be read, or that a later version made, is thrown away and made anew.
"""

from __future__ import annotations

import os
import sqlite3

from corral.engine import journal, ledger, names
from corral.errors import CorralError
from corral.linux.closing import Closing
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.engine.places import Places

__all__ = ["Index"]

# One step each; the position of the last one done is the database's user_version. Never changed, only added to.
MIGRATIONS = (
    """
    CREATE TABLE events (n INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
                         subject TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX events_by_time ON events (time_ns);
    CREATE INDEX events_by_subject ON events (subject);
    """,
    """
    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL, image TEXT NOT NULL, pod TEXT NOT NULL,
                             created_ns INTEGER NOT NULL, stamp INTEGER NOT NULL);
    CREATE TABLE labels (id TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (id, key));
    CREATE INDEX labels_by_key ON labels (key, value);
    """,
)
_BUSY_MS = 10_000


class Index(Closing):
    """The open database. A context manager, for one thread. Raises: sqlite3.Error when not even a new one works."""

    __slots__ = ("_db", "_places")

    def __init__(self, places: Places) -> None:
        self._places = places
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            self._discard()
            self._db = self._open()

    def close(self) -> None:
        """Close it. Idempotent."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._places.index, isolation_level=None, timeout=_BUSY_MS / 1000)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # What is lost with the power is read from the files again.
            db.execute("PRAGMA synchronous = OFF")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(MIGRATIONS):
                raise sqlite3.DatabaseError(f"schema {version} is newer than {len(MIGRATIONS)}")
            if version < len(MIGRATIONS):
                self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN EXCLUSIVE")
        # Another process may have done it while we waited.
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        for number in range(version, len(MIGRATIONS)):
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            try:
                os.unlink(self._places.index + suffix)
            except FileNotFoundError:
                continue

    def refresh(self) -> None:
        """Take in what was written since the last time, and drop what the files do not have any more."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._take_events()
            self._take_containers()
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _take_events(self) -> None:
        last = self._db.execute("SELECT max(n) FROM events").fetchone()[0] or 0
        if last > journal.last_number(self._places):
            # The journal was taken away: numbers begin again.
            self._db.execute("DELETE FROM events")
            last = 0
        rows = [
            (e["n"], e["time_ns"], e["type"], e["action"], e["id"], e.get("name", ""), dumps(e))
            for e in journal.read(self._places, after=last)
            if e["type"] != "gap"
        ]
        self._db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        first = next((e["n"] for e in journal.read(self._places) if e["type"] != "gap"), 0)
        self._db.execute("DELETE FROM events WHERE n < ?", (first,))

    def _take_containers(self) -> None:
        known = dict(self._db.execute("SELECT id, stamp FROM containers"))
        found = set()
        for container_id in names.list_ids(self._places):
            try:
                stamp = os.stat(f"{self._places.container(container_id)}/definition.json").st_mtime_ns
                found.add(container_id)
                if known.get(container_id) != stamp:
                    self._take_container(container_id, stamp)
            except (OSError, CorralError):
                continue
        for container_id in known.keys() - found:
            self._db.execute("DELETE FROM containers WHERE id = ?", (container_id,))
            self._db.execute("DELETE FROM labels WHERE id = ?", (container_id,))

    def _take_container(self, container_id: str, stamp: int) -> None:
        definition = ledger.read_definition(self._places, container_id)
        image = definition["root"].get("image", "")
        row = (container_id, definition["name"], image, definition.get("pod", ""), definition["created_ns"], stamp)
        self._db.execute("INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?, ?, ?)", row)
        self._db.execute("DELETE FROM labels WHERE id = ?", (container_id,))
        labels = [(container_id, key, value) for key, value in definition.get("labels", {}).items()]
        self._db.executemany("INSERT INTO labels VALUES (?, ?, ?)", labels)

    def events(self, *, after: int = 0, since_ns: int = 0, until_ns: int | None = None) -> list[dict[str, Any]]:
        """Events in order, without gaps shown."""
        question = "SELECT body FROM events WHERE n > ? AND time_ns >= ? AND time_ns <= ? ORDER BY n"
        rows = self._db.execute(question, (after, since_ns, until_ns if until_ns is not None else 2**63 - 1))
        found = []
        for (body,) in rows:
            event = loads(body.encode())
            assert isinstance(event, dict)
            found.append(event)
        return found

    def containers_with(self, labels: Sequence[str]) -> list[str]:
        """Ids of the containers that have all of these labels (``key`` or ``key=value``), newest first."""
        chosen: set[str] | None = None
        for text in labels:
            key, equals, value = text.partition("=")
            question = "SELECT id FROM labels WHERE key = ?" + (" AND value = ?" if equals else "")
            ids = {row[0] for row in self._db.execute(question, (key, value) if equals else (key,))}
            chosen = ids if chosen is None else chosen & ids
        ordered = [row[0] for row in self._db.execute("SELECT id FROM containers ORDER BY created_ns DESC")]
        return [item for item in ordered if chosen is None or item in chosen]
