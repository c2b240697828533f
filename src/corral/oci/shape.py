"""A small checker of JSON shapes: types, ranges and allowed words, driven by tables.

Owns ``Problem`` and the rules; knows no member of config.json. A rule is a tuple whose first item is its kind; the
constructors below make them. ``conform`` records every departure from a rule and returns what is left of the value, so
that the checks of meaning that follow can rely on its types: members that are null or wrong are absent, items of a list
of objects keep their index (a wrong one becomes an empty object).

Nothing is copied while nothing is wrong. A realistic document takes a few hundred microseconds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import TypeAlias

    # (kind, first parameter, second parameter)
    Rule: TypeAlias = tuple[int, object, object]
    Shape: TypeAlias = Mapping[str, Rule]

_TEXT, _STRING, _LINE, _BOOLEAN, _INTEGER, _WORD, _LIST, _MAP, _OBJECT = range(9)

TEXT: Rule = (_TEXT, None, None)  # any string; it never reaches the kernel
STRING: Rule = (_STRING, None, None)  # a string without NUL
LINE: Rule = (_LINE, None, None)  # a string without NUL and without a line break
BOOLEAN: Rule = (_BOOLEAN, None, None)

INT64_MAX = 0x7FFFFFFFFFFFFFFF
UINT64_MAX = 0xFFFFFFFFFFFFFFFF


def integer(low: int, high: int) -> Rule:
    """A whole number, both bounds included."""
    return (_INTEGER, low, high)


INT32 = integer(-0x80000000, 0x7FFFFFFF)
INT64 = integer(-INT64_MAX - 1, INT64_MAX)
UINT32 = integer(0, 0xFFFFFFFF)
UINT64 = integer(0, UINT64_MAX)
# -1 (as unsigned) is no id: the kernel takes it for "leave unchanged".
ID = integer(0, 0xFFFFFFFE)


def word(allowed: Iterable[str]) -> Rule:
    """One of a set of words. The message lists them in the order given."""
    return (_WORD, allowed, None)


def list_of(rule: Rule) -> Rule:
    """An array whose items follow ``rule``."""
    return (_LIST, rule, None)


def map_of(rule: Rule) -> Rule:
    """An object with free keys whose values follow ``rule``."""
    return (_MAP, rule, None)


def object_of(shape: Shape, required: tuple[str, ...] = ()) -> Rule:
    """An object with known members; others are ignored, as runtime-spec config.md "Extensibility" demands."""
    return (_OBJECT, shape, required)


class Problem:
    """One thing wrong with a document.

    ``pointer`` says where, as ``mounts[3].options[0]`` (empty: the whole document); ``message`` is the cause alone;
    ``hint`` is what to do about it. A warning does not stand in the way of running the container.
    """

    __slots__ = ("hint", "is_warning", "message", "pointer")

    def __init__(self, pointer: str, message: str, hint: str = "", *, is_warning: bool = False) -> None:
        self.pointer = pointer
        self.message = message
        self.hint = hint
        self.is_warning = is_warning

    def __str__(self) -> str:
        return f"{self.pointer}: {self.message}" if self.pointer else self.message

    def __repr__(self) -> str:
        return f"Problem({self.pointer!r}, {self.message!r}, {self.hint!r}, is_warning={self.is_warning})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return (self.pointer, self.message, self.hint, self.is_warning) == (
            other.pointer,
            other.message,
            other.hint,
            other.is_warning,
        )

    __hash__ = None  # type: ignore[assignment]


def quote(value: object) -> str:
    """``value`` as a message shows it: like ``repr``, but never longer than a line."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else repr(value[:77]) + "..."
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    return repr(value)


def member_of(pointer: str, name: str) -> str:
    """The pointer to a member with a free name, ``linux.sysctl["net.x"]``; on one line, whatever the name."""
    if len(name) <= 80 and name.isprintable():
        return f'{pointer}["{name}"]'
    return f"{pointer}[{quote(name)}]"


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return f"the string {quote(value)}"
    return quote(value)


def conform(value: object, rule: Rule, pointer: str, out: list[Problem]) -> object:
    """What is left of ``value`` under ``rule``: itself if all is well, a trimmed copy, or None for nothing."""
    kind, first, second = rule
    if kind == _OBJECT:
        return conform_object(value, first, second, pointer, out)  # type: ignore[arg-type]
    if kind == _LIST:
        return _conform_list(value, first, pointer, out)  # type: ignore[arg-type]
    if kind == _MAP:
        return _conform_map(value, first, pointer, out)  # type: ignore[arg-type]
    if kind == _INTEGER:
        return _conform_integer(value, first, second, pointer, out)  # type: ignore[arg-type]
    if kind == _BOOLEAN:
        if type(value) is bool:
            return value
        out.append(Problem(pointer, f"want true or false, got {_describe(value)}"))
        return None
    if type(value) is not str:
        out.append(Problem(pointer, f"want a string, got {_describe(value)}"))
        return None
    if kind == _WORD:
        return _conform_word(value, first, pointer, out)  # type: ignore[arg-type]
    if kind != _TEXT and "\0" in value:
        out.append(Problem(pointer, f"NUL character in {quote(value)}"))
        return None
    if kind == _LINE and "\n" in value:
        out.append(Problem(pointer, f"line break in {quote(value)}"))
        return None
    return value


def conform_object(
    value: object, shape: Shape, required: tuple[str, ...], pointer: str, out: list[Problem]
) -> dict[str, object]:
    """Like ``conform`` for an object, but never None: nothing left is an empty object."""
    if type(value) is not dict:
        out.append(Problem(pointer, f"want an object, got {_describe(value)}"))
        return {}
    clean = value
    prefix = pointer + "." if pointer else ""
    for key, member in value.items():
        rule = shape.get(key)
        if rule is None:
            continue
        kept = None if member is None else conform(member, rule, prefix + key, out)
        if kept is member and member is not None:
            continue
        if clean is value:
            clean = dict(value)
        if kept is None:
            del clean[key]
        else:
            clean[key] = kept
    for key in required:
        if value.get(key) is None:
            _report_missing(prefix + key, out)
    return clean


def _report_missing(pointer: str, out: list[Problem]) -> None:
    out.append(Problem(pointer, "missing", "the runtime specification requires it"))


def _conform_list(value: object, rule: Rule, pointer: str, out: list[Problem]) -> list[object] | None:
    if type(value) is not list:
        out.append(Problem(pointer, f"want an array, got {_describe(value)}"))
        return None
    kind = rule[0]
    if kind == _STRING:
        # Environments and system calls come by the hundred: one look at all of them first.
        try:
            if "\0" not in "".join(value):
                return value
        except TypeError:
            pass
    clean: list[object] | None = value
    for index, item in enumerate(value):
        kept = conform(item, rule, f"{pointer}[{index}]", out)
        if kept is item and item is not None:
            continue
        if kind != _OBJECT:
            clean = None
        elif clean is not None:
            if clean is value:
                clean = list(value)
            clean[index] = kept
    return clean


def _conform_map(value: object, rule: Rule, pointer: str, out: list[Problem]) -> dict[str, object] | None:
    if type(value) is not dict:
        out.append(Problem(pointer, f"want an object, got {_describe(value)}"))
        return None
    clean = value
    for key, member in value.items():
        kept = None
        if "\0" in key:
            out.append(Problem(pointer, f"NUL character in the name {quote(key)}"))
        elif member is not None:
            kept = conform(member, rule, member_of(pointer, key), out)
        if kept is not None and kept is member:
            continue
        if clean is value:
            clean = dict(value)
        if kept is None:
            del clean[key]
        else:
            clean[key] = kept
    return clean


def _conform_integer(value: object, low: int, high: int, pointer: str, out: list[Problem]) -> int | None:
    if type(value) is not int:
        out.append(Problem(pointer, f"want an integer, got {_describe(value)}"))
        return None
    if low <= value <= high:
        return value
    out.append(Problem(pointer, f"{quote(value)} is not between {low} and {high}"))
    return None


def _conform_word(value: str, allowed: Container[str], pointer: str, out: list[Problem]) -> str | None:
    if value in allowed:
        return value
    names = ", ".join(name for name in allowed if name)  # type: ignore[attr-defined]
    out.append(Problem(pointer, f"{quote(value)} is none of {names}"))
    return None
