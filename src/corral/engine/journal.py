"""Events: numbered lines in STORE/events/journal, appended under a lock, kept through restarts and bounded in size.

An event is on file before anybody hears of it, and a reader asks for what comes after the last number it has seen, so
readers need not be there and cannot hold anything up (S4.10). Where events were dropped (rotation, a reboot that
may have lost the last ones) the reader gets an item that says so.

Lines are not synced: a loss of power may cost the last ones. The first event after another boot therefore skips a
million numbers, lest a number mean two events.
"""

from __future__ import annotations

import posix
import time

from corral.engine.locks import FileLock
from corral.errors import CorralError, NotFound
from corral.linux.procfs import read_boot_id
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corral.engine.places import Places

    Event = dict[str, Any]

__all__ = ["append", "append_once", "last_number", "read"]

MAX_BYTES = 8 << 20
FILES = 4
BOOT_SKIP = 1_000_000
_TAIL = 1 << 14


def append(
    places: Places, kind: str, action: str, subject: str, *, name: str = "", attributes: dict[str, Any] | None = None
) -> int:
    """Write an event down and return its number. ``kind``: container, pod, image, volume, network or system.

    Raises: OSError, and no event is then on file.
    """
    return _append(places, _event(kind, action, subject, name, attributes), since=None)


def append_once(
    places: Places,
    key: str,
    since: int,
    kind: str,
    action: str,
    *,
    subject: str,
    name: str = "",
    attributes: dict[str, Any] | None = None,
) -> int:
    """As ``append``, unless an event with the same ``key`` was written after number ``since``; returns its number.

    So an operation that is resumed after a crash tells of nothing twice.
    """
    event = _event(kind, action, subject, name, attributes)
    event["key"] = key
    return _append(places, event, since=since)


def _event(kind: str, action: str, subject: str, name: str, attributes: dict[str, Any] | None) -> Event:
    event: Event = {"n": 0, "time_ns": time.time_ns(), "boot": "", "type": kind, "action": action, "id": subject}
    if name:
        event["name"] = name
    if attributes:
        event["attributes"] = attributes
    return event


def _append(places: Places, event: Event, since: int | None) -> int:
    path = f"{places.events}/journal"
    with FileLock(f"{places.events}/lock"):
        if since is not None:
            for item in read(places, after=since):
                if item.get("key") == event["key"]:
                    number: int = item["n"]
                    return number
        fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
        try:
            size, last = _repair(fd)
            if last is None and size == 0:
                last = _last_event(f"{path}.1")
            boot = read_boot_id()[:8]
            number = last["n"] + 1 if last is not None else 1
            if last is not None and last.get("boot") != boot:
                number += BOOT_SKIP
            event["n"], event["boot"] = number, boot
            line = dumps(event).encode() + b"\n"
            if size and size + len(line) > MAX_BYTES:
                _rotate(path)
                posix.close(fd)
                fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
                size = 0
            _write_or_undo(fd, line, size)
        finally:
            posix.close(fd)
    return number


def _write_or_undo(fd: int, line: bytes, size: int) -> None:
    try:
        at = 0
        while at < len(line):
            at += posix.pwrite(fd, line[at:], size + at)
    except OSError:
        posix.ftruncate(fd, size)
        raise


def _repair(fd: int) -> tuple[int, Event | None]:
    """(size, last event) of the journal, after what a crash cut off in the middle is gone."""
    size = posix.fstat(fd).st_size
    start = max(0, size - _TAIL)
    tail = posix.pread(fd, size - start, start)
    whole = tail.rfind(b"\n") + 1
    if whole == 0 and start > 0:
        # One line longer than the tail: look at all of it.
        start, tail = 0, posix.pread(fd, size, 0)
        whole = tail.rfind(b"\n") + 1
    if whole != len(tail):
        size = start + whole
        posix.ftruncate(fd, size)
    return size, _last_of(tail[:whole], is_whole=start == 0)


def _last_of(text: bytes, *, is_whole: bool) -> Event | None:
    lines = text.split(b"\n")[:-1]
    for line in reversed(lines if is_whole else lines[1:] or lines):
        event = _parse(line)
        if event is not None:
            return event
    return None


def _parse(line: bytes) -> Event | None:
    try:
        event = loads(line)
    except CorralError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("n"), int) else None


def _rotate(path: str) -> None:
    for number in range(FILES - 1, 0, -1):
        try:
            posix.rename(path if number == 1 else f"{path}.{number - 1}", f"{path}.{number}")
        except FileNotFoundError:
            continue


def _last_event(path: str) -> Event | None:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = posix.fstat(fd).st_size
        start = max(0, size - _TAIL)
        event = _last_of(posix.pread(fd, size - start, start), is_whole=start == 0)
        if event is None and start:
            event = _last_of(posix.pread(fd, size, 0), is_whole=True)
        return event
    finally:
        posix.close(fd)


def last_number(places: Places) -> int:
    """The number of the last event; 0 before the first."""
    path = f"{places.events}/journal"
    event = _last_event(path) or _last_event(f"{path}.1")
    return event["n"] if event is not None else 0


def read(places: Places, *, after: int = 0) -> Iterator[Event]:
    """All events with a number above ``after``, oldest first.

    Where some are missing there comes ``{"type": "gap", "from": first missing, "to": last missing}``. ``after`` 0 asks
    for all there are, and what was dropped before them is no gap.
    """
    seen = after
    opened = _open_all(places, after)
    try:
        for file in opened:
            _skip(file, after)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if 0 < _number_of(line) <= seen:
                    continue
                event = _parse(line)
                if event is None or event["n"] <= seen:
                    continue
                if seen and event["n"] != seen + 1:
                    yield {"type": "gap", "from": seen + 1, "to": event["n"] - 1}
                seen = event["n"]
                yield event
    finally:
        for file in opened:
            file.close()


def _open_all(places: Places, after: int) -> list[Any]:
    """The files that may have numbers above ``after``, oldest first.

    Opened newest first: one that is rotated meanwhile is then seen twice, never missed.
    """
    opened = []
    path = f"{places.events}/journal"
    for number in range(FILES):
        try:
            file = open(path if number == 0 else f"{path}.{number}", "rb")  # noqa: SIM115 -- closed by read
        except FileNotFoundError:
            continue
        opened.append(file)
        first = _number_of(file.readline())
        file.seek(0)
        if 0 < first <= after + 1:
            break
    return opened[::-1]


def _skip(file: Any, after: int) -> None:  # noqa: ANN401 -- a binary file
    """Move near the first line with a number above ``after``, not beyond it: a follower reads what is new, not all."""
    low, high = 0, file.seek(0, 2)
    while high - low > _TAIL and after:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        if 0 < _number_of(file.readline()) <= after:
            low = middle
        else:
            high = middle
    file.seek(low)
    if low:
        file.readline()


def _number_of(line: bytes) -> int:
    """The number that a whole line begins with, as ``dumps`` writes events; 0 if it begins otherwise."""
    head, _, _ = line.partition(b",")
    text = head.removeprefix(b'{"n":')
    return int(text) if text.isdigit() and line.endswith(b"\n") else 0


def emit(
    places: Places, kind: str, action: str, subject: str, *, name: str = "", attributes: dict[str, Any] | None = None
) -> int:
    """``append`` for verbs: what has happened has happened, even if a full disc keeps it from being told. 0 then."""
    try:
        return append(places, kind, action, subject, name=name, attributes=attributes)
    except (OSError, NotFound):
        return 0
