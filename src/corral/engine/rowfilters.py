"""``--filter`` for networks and volumes: plain rows, whose members and labels are compared."""

from __future__ import annotations

from corral.engine.shape import hint_for
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["check_filters", "check_word", "is_wanted", "split_filter"]


def split_filter(text: str, keys: Sequence[str]) -> tuple[str, str]:
    """Key and value of a ``key=value`` whose key is one of ``keys``. Raises: InvalidArgument."""
    key, equals, value = text.partition("=")
    if equals and key in keys:
        return key, value
    cause = f"no filter is called {key!r}" if equals else "not of the form KEY=VALUE"
    known = ", ".join(name for name in keys if not name.endswith("!"))
    raise InvalidArgument(f"read filter {text!r}: {cause}", hint=f"keys: {known}")


def check_word(text: str, value: str, words: Iterable[str]) -> None:
    """Whether the value of the filter ``text`` is one that can match. Raises: InvalidArgument."""
    if value not in words:
        raise InvalidArgument(
            f"read filter {text!r}: {value!r} is no {text.partition('=')[0]}", hint=hint_for(value, words)
        )


def check_filters(filters: Iterable[str], keys: Sequence[str]) -> None:
    """Whether ``is_wanted`` takes these filters, also where there is no row to ask. Raises: InvalidArgument."""
    for text in filters:
        split_filter(text, (*keys, "label", "label!"))


def is_wanted(row: dict[str, Any], filters: Iterable[str], keys: Sequence[str]) -> bool:
    """Whether a row has what ``filters`` (``key=value``) ask for: any value of a key, all keys, all labels.

    ``keys``: the members that may be asked for, besides ``label`` and ``label!``; ``name`` means a part of it.
    Raises: InvalidArgument.
    """
    found: dict[str, list[bool]] = {}
    for text in filters:
        key, value = split_filter(text, (*keys, "label", "label!"))
        if key in ("label", "label!"):
            name, has_value, wanted = value.partition("=")
            labels = row.get("labels") or {}
            has = name in labels and (not has_value or labels[name] == wanted)
            found[text] = [has == (key == "label")]
        elif key == "name":
            found.setdefault(key, []).append(value in row["name"])
        else:
            found.setdefault(key, []).append(str(row.get(key, "")).lower() == value.lower())
    return all(any(answers) for answers in found.values())
