"""``events``: what happened in a store, and what happens."""

from __future__ import annotations

import time

from corral.engine import journal
from corral.engine.rowfilters import check_word, split_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral.engine.places import Places

    Event = dict[str, Any]

__all__ = ["events", "follow", "parse_filters"]

_WAIT_S = 5.0
TYPES = ("container", "pod", "volume", "network")
ACTIONS = (
    "cleanup", "cleanup-pending", "commit", "connect", "create", "died", "disconnect", "exec", "exec_died", "export",
    "health_status", "kill", "oom", "pause", "remove", "rename", "restart", "start", "stop", "unpause", "update",
)  # fmt: skip
# Docker's words for the same.
_OTHERS = {"die": "died", "destroy": "remove", "exec_die": "exec_died", "exec_create": "exec", "exec_start": "exec"}
_KEYS = ("type", "event", "action", "container", "id", "image", "label", "name", "pod", "volume", "network")


def events(
    places: Places,
    *,
    after: int = 0,
    since_ns: int = 0,
    until_ns: int | None = None,
    filters: list[str] | None = None,
) -> list[Event]:
    """Events on file with a number above ``after``, oldest first; a lost span is ``{"type": "gap", "from", "to"}``.

    ``filters``: ``key=value``; values of one key are alternatives. Raises: InvalidArgument.
    """
    wanted = parse_filters(filters or [])
    places.prepare()
    if since_ns and not after and _is_large(places):
        found = _indexed(places, since_ns, until_ns)
    else:
        found = list(journal.read(places, after=after))
    return [event for event in found if event["type"] == "gap" or _matches(event, wanted, since_ns, until_ns)]


def _is_large(places: Places) -> bool:
    """Whether reading all of the journal takes longer than bringing the index up to date."""
    import posix

    try:
        return posix.stat(f"{places.events}/journal.1").st_size > 0
    except FileNotFoundError:
        return False


def _indexed(places: Places, since_ns: int, until_ns: int | None) -> list[Event]:
    from corral.engine.index import Index

    with Index(places) as index:
        index.refresh()
        return index.events(since_ns=since_ns, until_ns=until_ns)


def batch(places: Places, after: int, filters: list[str]) -> tuple[int, list[Event]]:
    """(the number of the last event on file, those above ``after`` that are wanted): one step of following."""
    wanted = parse_filters(filters)
    seen, found = after, []
    for event in journal.read(places, after=after):
        seen = event["to"] if event["type"] == "gap" else event["n"]
        if event["type"] == "gap" or _matches(event, wanted, 0, None):
            found.append(event)
    return seen, found


def follow(
    places: Places,
    *,
    after: int | None = None,
    since_ns: int = 0,
    until_ns: int | None = None,
    filters: list[str] | None = None,
    is_over: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """As ``events``, and then those to come, until ``until_ns`` or ``is_over``. ``after`` None: only those to come.

    Never holds anybody up: it reads the file as fast as it is read itself. Raises: InvalidArgument.
    """
    from corral.linux.inotify import DirectoryWatch

    wanted = parse_filters(filters or [])
    places.prepare()
    seen = (0 if since_ns else journal.last_number(places)) if after is None else after
    with DirectoryWatch(places.events) as watch:
        while True:
            for event in journal.read(places, after=seen):
                seen = event["to"] if event["type"] == "gap" else event["n"]
                if event["type"] == "gap" or _matches(event, wanted, since_ns, until_ns):
                    yield event
            if (is_over is not None and is_over()) or (until_ns is not None and time.time_ns() > until_ns):
                return
            left = _WAIT_S if until_ns is None else (until_ns - time.time_ns()) / 1e9
            watch.wait(max(0.001, min(_WAIT_S, left)))


def parse_filters(texts: list[str]) -> dict[str, list[str]]:
    """``key=value`` texts by key. Raises: InvalidArgument."""
    wanted: dict[str, list[str]] = {}
    for text in texts:
        key, value = split_filter(text, _KEYS)
        if key == "type":
            check_word(text, value, TYPES)
        elif key in ("event", "action"):
            key, value = "action", _OTHERS.get(value, value)
            check_word(text, value, ACTIONS)
        wanted.setdefault(key, []).append(value)
    return wanted


def _matches(event: Event, wanted: dict[str, list[str]], since_ns: int, until_ns: int | None) -> bool:
    if event["time_ns"] < since_ns or (until_ns is not None and event["time_ns"] > until_ns):
        return False
    return all(any(_has(event, key, value) for value in values) for key, values in wanted.items())


def _has(event: Event, key: str, value: str) -> bool:
    attributes = event.get("attributes", {})
    if key in ("type", "action"):
        return bool(event[key] == value)
    if key == "label":
        labels = attributes.get("labels", {})
        name, equals, content = value.partition("=")
        return name in labels and (not equals or labels[name] == content)
    if key == "image":
        return value in (attributes.get("image"), event["id"]) or attributes.get("image", "").startswith(f"{value}:")
    if key == "pod":
        return value in (attributes.get("pod"), event["id"], event.get("name"))
    # The rest name an object, some of them its kind too.
    is_kind = key in ("id", "name") or event["type"] == key
    return is_kind and (event.get("name") == value or (bool(value) and str(event["id"]).startswith(value)))
