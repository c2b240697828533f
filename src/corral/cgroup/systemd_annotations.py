"""Annotations ``org.systemd.property.NAME`` as unit properties: values in GVariant's text form. Pure.

Which annotations count at all is the caller's decision, from an allow-list: whoever may set any property of a unit
can do as root what he likes (CVE-2024-3154). Names that end in ``Sec`` take seconds, as in unit files.

Source: runc docs/systemd.md "Auxiliary properties"; GLib "GVariant Text Format".
"""

from __future__ import annotations

from corral.cgroup.systemd_properties import UnitProperty
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Typed = tuple[str, Any]

__all__ = ["PREFIX", "annotation_property", "parse_variant"]

PREFIX = "org.systemd.property."

_TYPES = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_BITS = {"y": (8, False), "n": (16, True), "q": (16, False), "i": (32, True)}
_BITS.update({"u": (32, False), "x": (64, True), "t": (64, False)})
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_MAX_DEPTH = 16
_USEC_MAX = (1 << 64) - 1


def annotation_property(key: str, text: str) -> UnitProperty:
    """The property that annotation ``key`` (with ``PREFIX``) asks for; it can only be given at the start of a unit.

    Raises: InvalidArgument, with the annotation as pointer, for a name or a value of the wrong form.
    """
    pointer = f'annotations["{key}"]'
    name = key.removeprefix(PREFIX)
    try:
        if name == key or not (name.isascii() and name.isalpha() and name[:1].isupper() and len(name) > 2):
            raise ValueError(f"{name!r} is not a property's name")
        signature, value = parse_variant(text)
        if name.endswith("Sec") and not name.endswith("USec"):
            name, signature, value = f"{name[:-3]}USec", "t", _microseconds(signature, value)
    except ValueError as exc:
        raise InvalidArgument(
            f"read annotation {key!r}: {exc}",
            hint="write the value as GVariant text, such as 'uint64 5', true or ['a', 'b']",
            pointer=pointer,
            phase="cgroup",
        ) from exc
    return UnitProperty(name, signature, value, pointer=pointer, is_fixed=True)


def parse_variant(text: str) -> Typed:
    """Type and value of a GVariant text: strings, booleans, numbers, arrays and tuples of them, and type prefixes.

    A number without a type is an int32, or a double if it has a point. Raises: ValueError.
    """
    reader = _Reader(text)
    found = reader.value(0)
    if reader.peek():
        raise ValueError(f"{reader.rest()!r} is left over")
    return found


class _Reader:
    """Goes through one text once."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def peek(self) -> str:
        """The next character that is no blank; "" at the end."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def rest(self) -> str:
        return self._text[self._at : self._at + 20]

    def value(self, depth: int, expected: str = "") -> Typed:
        char = self.peek()
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deep")
        if char == "@":
            self._at += 1
            return self.value(depth + 1, self._word("abcdefghijklmnopqrstuvwxyz()"))
        if char in ("'", '"'):
            return _typed("s", self._string(char), expected)
        if char == "[":
            return self._array(depth, expected)
        if char == "(":
            return self._tuple(depth)
        word = self._word("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.")
        if word in ("true", "false"):
            return _typed("b", word == "true", expected)
        if word in _TYPES:
            return self.value(depth + 1, _TYPES[word])
        return _number(word, expected)

    def _word(self, letters: str) -> str:
        start = self._at
        while self._text[self._at : self._at + 1] and self._text[self._at] in letters:
            self._at += 1
        if start == self._at:
            raise ValueError(f"{self.rest()!r} is not a value" if self.peek() else "a value is missing")
        return self._text[start : self._at]

    def _string(self, quote: str) -> str:
        parts = []
        self._at += 1
        while (char := self._text[self._at : self._at + 1]) != quote:
            if char == "\\":
                self._at += 1
                char = _ESCAPES.get(self._text[self._at : self._at + 1], "")
            if not char or char == "\0":
                raise ValueError("a string does not end, or has an unknown escape")
            parts.append(char)
            self._at += 1
        self._at += 1
        return "".join(parts)

    def _array(self, depth: int, expected: str) -> Typed:
        inner = expected[1:] if expected.startswith("a") else ""
        items = self._items("]", depth, inner)
        kinds = {kind for kind, _ in items} or {inner}
        if len(kinds) > 1 or kinds == {""}:
            raise ValueError("an array's type is not plain: give it, such as @as []")
        kind = kinds.pop()
        if kind == "y":
            return "ay", bytes(item for _, item in items)
        return f"a{kind}", [item for _, item in items]

    def _tuple(self, depth: int) -> Typed:
        items = self._items(")", depth, "")
        if not items:
            raise ValueError("an empty tuple is no value")
        return f"({''.join(kind for kind, _ in items)})", tuple(item for _, item in items)

    def _items(self, end: str, depth: int, inner: str) -> list[Typed]:
        items: list[Typed] = []
        self._at += 1
        while self.peek() != end:
            if items:
                if self.peek() != ",":
                    raise ValueError(f"{self.rest()!r}: a comma or {end!r} is missing")
                self._at += 1
                if self.peek() == end:
                    break
            # Elements after the first take its type: [uint64 1, 2].
            items.append(self.value(depth + 1, inner or (items[0][0] if items and end == "]" else "")))
        self._at += 1
        return items


def _typed(kind: str, value: object, expected: str) -> Typed:
    if kind == "s" and expected in ("o", "g"):
        return expected, value
    if expected not in ("", kind):
        raise ValueError(f"{value!r} is not of type {expected!r}")
    return kind, value


def _number(word: str, expected: str) -> Typed:
    try:
        # Base 0 takes 0x; a leading zero is decimal for people.
        number = int(word, 0) if word.lower().lstrip("+-").startswith("0x") else int(word)
    except ValueError:
        if expected not in ("", "d"):
            raise ValueError(f"{word!r} is not of type {expected!r}") from None
        if not word.lstrip("+-")[:1].isdigit():
            raise ValueError(f"{word!r} is not a value: strings stand in quotes") from None
        return "d", float(word)
    if expected == "d":
        return "d", float(number)
    kind = expected or "i"
    if kind not in _BITS:
        raise ValueError(f"{word!r} is not of type {kind!r}")
    bits, is_signed = _BITS[kind]
    low = -(1 << bits - 1) if is_signed else 0
    if not low <= number < low + (1 << bits):
        raise ValueError(f"{word} does not fit type {kind!r}: write its type before it, such as uint64 {word}")
    return kind, number


def _microseconds(signature: str, value: object) -> int:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or signature not in (*_BITS, "d"):
        raise ValueError("seconds are a number")
    if not 0 <= value * 1_000_000 < _USEC_MAX:
        raise ValueError(f"{value} seconds are out of range")
    return int(value * 1_000_000)
