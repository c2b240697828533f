"""How configurations go wrong: members replaced, lost, doubled or misplaced; bytes lost, changed or put in."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from corral.oci.json import dumps

# Wrong types, ends of ranges, NUL, line breaks, lone surrogates, long and climbing names, deep nesting.
_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32 - 1, 2**63, 2**64, -(2**64), 10**400, 1.5, -0.0, 1e300),
    *("", "\0", "a\nb", "/", ".", "..", "../..", "/proc/self/exe", "a" * 70000, "\U0001f600", "-1", "0-4294967295"),
    *("\udcff", "/proc/self/fd/3", "a\0b", "/" + "x/" * 2100, "{0}", "%s%n", "0x10", "1e3", " "),
    *([], {}, [None], [[]], [{}], {"": None}, {"a": {}}, ["a", 1], [""] * 300, _DEEP),
)
ODD_KEYS = ("", "\0", "a b", "net.x", "../x", "ociVersion", "path", "\udcff")
ODD_BYTES = (
    *(b"\0", b"\xff", b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"1e999", b"-"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"/* */", b"0x1", b"'", b"[" * 3000, b"9" * 5000, b'"a":1,"a":2,'),
)


def holders(value: object) -> list[Any]:
    """All objects and arrays of a document that hold something, in one order."""
    found = []
    stack = [value]
    while stack:
        at = stack.pop()
        if isinstance(at, dict | list) and at:
            found.append(at)
            stack.extend(at.values() if isinstance(at, dict) else at)
    return found


def edit(document: Any, where: int, what: str, value: Any) -> None:
    """One edit of the member number ``where``: replace, drop, double, add or wrap."""
    places = [(at, key) for at in holders(document) for key in (list(at) if isinstance(at, dict) else range(len(at)))]
    if not places:
        return
    at, key = places[where % len(places)]
    if what == "replace":
        at[key] = deepcopy(value)
    elif what == "drop":
        del at[key]
    elif what == "wrap":
        at[key] = [deepcopy(at[key])]
    elif isinstance(at, list):
        at.append(deepcopy(at[key] if what == "double" else value))
    else:
        at[ODD_KEYS[where % len(ODD_KEYS)]] = deepcopy(at[key] if what == "double" else value)


EDITS = ("replace", "replace", "replace", "drop", "drop", "double", "add", "wrap")


def break_members(chance: random.Random, document: Any) -> bytes:
    """The text of a document with a few members replaced, removed, swapped or added; ``document`` is changed."""
    for _ in range(chance.randint(1, 4)):
        there = holders(document)
        if not there:
            break
        value = chance.choice(there) if chance.random() < 0.3 else chance.choice(ODD_VALUES)
        edit(document, chance.randrange(1 << 30), chance.choice(EDITS), value)
    return dumps(document).encode("utf-8", "surrogatepass")


def break_bytes(chance: random.Random, document: Any) -> bytes:
    """The text of a document with a few bytes lost, doubled, changed or put in."""
    text = bytearray(dumps(document).encode())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice((0, 1, 1, 2, 50)))
        text[start:end] = chance.choice((b"", chance.choice(ODD_BYTES), bytes(text[start:end]) * 2))
    return bytes(text[: chance.randrange(len(text))] if chance.random() < 0.1 else text)
