"""``--filter`` for networks and volumes: plain rows, whose members and labels are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["is_wanted"]


def is_wanted(row: dict[str, Any], filters: Iterable[str], keys: Sequence[str]) -> bool:
    """Whether a row has what ``filters`` (``key=value``) ask for: any value of a key, all keys, all labels.

    ``keys``: the members that may be asked for, besides ``label`` and ``label!``; ``name`` means a part of it.
    Raises: InvalidArgument.
    """
    found: dict[str, list[bool]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in (*keys, "label", "label!"):
            known = ", ".join((*keys, "label"))
            raise InvalidArgument(f"read filter {text!r}: not of the form KEY=VALUE", hint=f"keys: {known}")
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
