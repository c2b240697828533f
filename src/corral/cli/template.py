"""Templates of ``--format``: the part of Go's text/template that people use with Docker and Podman.

Fields (``{{.ID}}``, ``{{.State.Status}}``), pipelines, ``if``, ``with``, ``range``, variables, comments, ``{{-`` and
``-}}``, and the usual functions. A field is found by its name whatever the case and underscores: ``.CreatedAt`` is
``created_at``. Never runs anything: the functions are those below.

Source: Go's package text/template; docker and podman documentation "format".
"""

from __future__ import annotations

from corral.cli.template_format import printf, shown
from corral.errors import InvalidArgument
from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HINT = "as in '{{.ID}} {{.Names}}', '{{json .}}' or 'table {{.ID}}\\t{{.Status}}'"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Template:
    """A template, read once. Raises: InvalidArgument naming what is wrong and where."""

    __slots__ = ("_nodes", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = _split(text)
        self._nodes, end = _parse_block(pieces, 0, text, is_top=True)
        assert end == len(pieces)

    def render(self, value: object) -> str:
        """The text for one value. Raises: InvalidArgument for a field that it does not have."""
        out: list[str] = []
        _Renderer(value, out).run(self._nodes, value)
        return "".join(out)

    def fields(self) -> list[str]:
        """The names of the fields printed at the top, for a table's heading."""
        found = []
        for node in self._nodes:
            if node[0] == "print":
                names = [word[1][-1] for command in node[1] for word in command if word[0] == "field" and word[1]]
                found.append(names[-1] if names else "")
        return found

    def roots(self) -> list[str]:
        """The first names of the fields printed at the top: those that each value has to have."""
        printed = [words for node in self._nodes if node[0] == "print" for words in node[1]]
        return [word[1][0] for words in printed for word in words if word[0] == "field" and word[1]]


def normal(name: str) -> str:
    """A field's name as it is compared: ``CreatedAt``, ``created_at`` and ``createdat`` are one."""
    return name.replace("_", "").replace("-", "").lower()


def look_up(value: object, name: str) -> object:
    """A member by its name. Raises: KeyError."""
    if not isinstance(value, dict):
        raise KeyError(name)
    if name in value:
        return value[name]
    wanted = normal(name)
    for key, member in value.items():
        if normal(str(key)) == wanted:
            return member
    raise KeyError(name)


def no_field(name: str, value: object) -> InvalidArgument:
    """The error for a field that ``value`` does not have."""
    known = ", ".join(f".{key}" for key in value) if isinstance(value, dict) else "none"
    return InvalidArgument(f"--format: there is no field {name!r}", hint=f"fields: {known}")


# A piece is (is an action, text).
def _split(text: str) -> list[tuple[bool, str]]:
    pieces: list[tuple[bool, str]] = []
    at = 0
    trim = False
    while at < len(text):
        start = text.find("{{", at)
        literal = text[at:] if start < 0 else text[at:start]
        if trim:
            literal = literal.lstrip()
        if start < 0:
            pieces.append((False, literal))
            break
        end = _action_end(text, start + 2)
        action = text[start + 2 : end]
        if action.startswith("- "):
            literal, action = literal.rstrip(), action[2:]
        trim = action.endswith(" -")
        if trim:
            action = action[:-2]
        if literal:
            pieces.append((False, literal))
        action = action.strip()
        if not action.startswith("/*"):
            pieces.append((True, action))
        at = end + 2
    return pieces


def _action_end(text: str, at: int) -> int:
    quote = ""
    start = at
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\" and quote == '"':
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in '"`':
            quote = letter
        elif text.startswith("}}", at):
            return at
        at += 1
    raise InvalidArgument(f"--format {text!r}: '{{{{' at character {start - 2} is not closed", hint=_HINT)


if TYPE_CHECKING:
    Node = tuple[str, Any, Any, Any]


def _parse_block(pieces: list[tuple[bool, str]], at: int, text: str, *, is_top: bool = False) -> tuple[list[Node], int]:
    """Nodes up to the ``else`` or ``end`` that belongs to this block; its position."""
    nodes: list[Node] = []
    while at < len(pieces):
        is_action, piece = pieces[at]
        word = piece.partition(" ")[0]
        if not is_action:
            nodes.append(("text", piece, None, None))
        elif word in ("end", "else") and not is_top:
            return nodes, at
        elif word in ("if", "with", "range"):
            node, at = _parse_branch(pieces, at, text)
            nodes.append(node)
        elif word in ("end", "else"):
            raise InvalidArgument(f"--format {text!r}: {{{{{piece}}}}} without if, with or range", hint=_HINT)
        else:
            name, pipeline = _assignment(piece)
            nodes.append(("set", name, _parse_pipeline(pipeline, text), None) if name else _print(piece, text))
        at += 1
    if not is_top:
        raise InvalidArgument(f"--format {text!r}: an {{{{end}}}} is missing", hint=_HINT)
    return nodes, at


def _print(piece: str, text: str) -> Node:
    return ("print", _parse_pipeline(piece, text), None, None)


def _parse_branch(pieces: list[tuple[bool, str]], at: int, text: str) -> tuple[Node, int]:
    word, _, rest = pieces[at][1].partition(" ")
    variables: list[str] = []
    name, pipeline = _assignment(rest)
    if name:
        variables = [part.strip() for part in name.split(",")]
    body, end = _parse_block(pieces, at + 1, text)
    other: list[Node] = []
    closing = pieces[end][1]
    if closing.startswith("else"):
        rest_of = closing[len("else") :].strip()
        if rest_of:
            # `else if X` is an if inside the else; its own end closes both.
            chained = [*pieces[:end], (True, rest_of), *pieces[end + 1 :]]
            node, end = _parse_branch(chained, end, text)
            other = [node]
        else:
            other, end = _parse_block(pieces, end + 1, text)
    return (word, (variables, _parse_pipeline(pipeline, text)), body, other), end


def _assignment(piece: str) -> tuple[str, str]:
    """``$x := pipeline`` -> (``$x``, ``pipeline``); no assignment: ("", piece)."""
    name, sign, pipeline = piece.partition(":=")
    if not sign:
        name, sign, pipeline = piece.partition(" = ")
    if sign and name.strip().startswith("$") and '"' not in name:
        return name.strip(), pipeline.strip()
    return "", piece


# A word: ("field", names), ("variable", name, names), ("value", constant), ("call", name), ("group", pipeline, names).
def _parse_pipeline(piece: str, text: str) -> list[list[Any]]:
    words = _Words(piece, text)
    pipeline = words.pipeline()
    if words.at < len(piece):
        raise words.fail(f"unexpected {piece[words.at :]!r}")
    return pipeline


class _Words:
    """Reads the words of one action."""

    __slots__ = ("at", "piece", "text")

    def __init__(self, piece: str, text: str) -> None:
        self.piece = piece
        self.text = text
        self.at = 0

    def fail(self, cause: str) -> InvalidArgument:
        return InvalidArgument(f"--format {self.text!r}: {cause} in {{{{{self.piece}}}}}", hint=_HINT)

    def pipeline(self) -> list[list[Any]]:
        commands: list[list[Any]] = [[]]
        while True:
            while self.at < len(self.piece) and self.piece[self.at] in " \t\n":
                self.at += 1
            if self.at >= len(self.piece) or self.piece[self.at] == ")":
                break
            if self.piece[self.at] == "|":
                commands.append([])
                self.at += 1
            else:
                commands[-1].append(self.word())
        if not all(commands):
            raise self.fail("an empty command")
        return commands

    def word(self) -> Any:  # noqa: ANN401 -- a word, see above
        letter = self.piece[self.at]
        if letter == "(":
            self.at += 1
            inner = self.pipeline()
            if self.at >= len(self.piece):
                raise self.fail("a parenthesis is not closed")
            self.at += 1
            return ("group", inner, self.fields())
        if letter in '"`':
            return ("value", self.quoted(letter))
        if letter == ".":
            return ("field", self.fields() or self.dot())
        if letter == "$":
            self.at += 1
            name = self.name()
            return ("variable", name, self.fields())
        if letter.isdecimal() or (letter == "-" and self.piece[self.at + 1 : self.at + 2].isdecimal()):
            start = self.at
            self.at += 1
            while self.at < len(self.piece) and (self.piece[self.at].isdecimal() or self.piece[self.at] == "."):
                self.at += 1
            number = self.piece[start : self.at]
            return ("value", float(number) if "." in number else int(number))
        name = self.name()
        if not name:
            raise self.fail(f"unexpected {letter!r}")
        constants = {"true": True, "false": False, "nil": None}
        if name in constants:
            return ("value", constants[name])
        if name not in FUNCTIONS and name not in ("and", "or"):
            raise self.fail(f"unknown function {name!r}")
        return ("call", name)

    def dot(self) -> list[str]:
        self.at += 1
        return []

    def name(self) -> str:
        start = self.at
        while self.at < len(self.piece) and self.piece[self.at] in _NAME:
            self.at += 1
        return self.piece[start : self.at]

    def fields(self) -> list[str]:
        found = []
        while self.piece[self.at : self.at + 1] == "." and self.piece[self.at + 1 : self.at + 2] in _NAME:
            if self.at + 1 >= len(self.piece):
                break
            self.at += 1
            found.append(self.name())
        return found

    def quoted(self, quote: str) -> str:
        self.at += 1
        out: list[str] = []
        while self.at < len(self.piece):
            letter = self.piece[self.at]
            self.at += 1
            if letter == quote:
                return "".join(out)
            if letter == "\\" and quote == '"' and self.at < len(self.piece):
                letter = _ESCAPES.get(self.piece[self.at], self.piece[self.at])
                self.at += 1
            out.append(letter)
        raise self.fail("a string is not closed")


class _Renderer:
    """Runs nodes over a value."""

    __slots__ = ("out", "variables")

    def __init__(self, root: object, out: list[str]) -> None:
        self.out = out
        self.variables: dict[str, object] = {"": root}

    def run(self, nodes: list[Node], dot: object) -> None:
        for kind, what, body, other in nodes:
            if kind == "text":
                self.out.append(what)
            elif kind == "print":
                self.out.append(shown(self.pipeline(what, dot)))
            elif kind == "set":
                self.variables[what.removeprefix("$")] = self.pipeline(body, dot)
            else:
                self.branch(kind, what, (body, other), dot)

    def branch(
        self, kind: str, what: tuple[list[str], Any], bodies: tuple[list[Node], list[Node]], dot: object
    ) -> None:
        names, pipeline = what
        value = self.pipeline(pipeline, dot)
        if not is_true(value):
            self.run(bodies[1], dot)
            return
        if kind != "range":
            if names:
                self.variables[names[0].removeprefix("$")] = value
            self.run(bodies[0], value if kind == "with" else dot)
            return
        pairs = sorted(value.items()) if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
        for key, item in pairs:
            if names:
                self.variables[names[-1].removeprefix("$")] = item
            if len(names) == 2:
                self.variables[names[0].removeprefix("$")] = key
            self.run(bodies[0], item)

    def pipeline(self, commands: list[list[Any]], dot: object) -> object:
        value: object = None
        for number, words in enumerate(commands):
            first = words[0]
            more = [value] if number else []
            if first[0] == "call":
                value = self.call(first[1], words[1:], more, dot)
            elif len(words) > 1 or more:
                raise InvalidArgument("--format: a value takes no arguments", hint=_HINT)
            else:
                value = self.word(first, dot)
        return value

    def call(self, name: str, words: list[Any], more: list[object], dot: object) -> object:
        arguments = [self.word(word, dot) for word in words] + more
        if name in ("and", "or"):
            result: object = name == "and"
            for result in arguments:
                if is_true(result) != (name == "and"):
                    break
            return result
        try:
            return FUNCTIONS[name](*arguments)
        except (TypeError, ValueError, LookupError, AttributeError) as exc:
            raise InvalidArgument(f"--format: {name}: {exc}", hint=_HINT) from exc

    def word(self, word: Any, dot: object) -> object:  # noqa: ANN401 -- a word, see _parse_pipeline
        kind = word[0]
        if kind == "value":
            value: object = word[1]
            return value
        if kind == "call":
            return self.call(word[1], [], [], dot)
        if kind == "field":
            value, names = dot, word[1]
        elif kind == "variable":
            if word[1] not in self.variables:
                raise InvalidArgument(f"--format: no variable ${word[1]}", hint=_HINT)
            value, names = self.variables[word[1]], word[2]
        else:
            value, names = self.pipeline(word[1], dot), word[2]
        for name in names:
            try:
                value = look_up(value, name)
            except KeyError:
                raise no_field(name, value) from None
        return value


def is_true(value: object) -> bool:
    """Go's idea: empty and zero are false."""
    return bool(value)


def _index(value: Any, *keys: object) -> object:  # noqa: ANN401 -- a map or a list
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        else:
            value = value[key]
    return value


def _truncate(*arguments: object) -> str:
    # docker: `truncate .ID 12`; as the end of a pipeline: `.ID | truncate 12`.
    text, length = arguments if isinstance(arguments[1], int) else arguments[::-1]
    return shown(text)[: int(str(length))]


def _equal(first: object, *others: object) -> bool:
    return any(first == other for other in others)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "json": lambda value: dumps(value),
    "upper": lambda value: shown(value).upper(),
    "lower": lambda value: shown(value).lower(),
    "title": lambda value: shown(value).title(),
    "join": lambda values, between: between.join(shown(item) for item in values),
    "split": lambda value, between: shown(value).split(between),
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "print": lambda *values: "".join(map(shown, values)),
    "printf": printf,
    "len": lambda value: len(value),
    "index": _index,
    "slice": lambda value, *ends: value[slice(*ends)],
    "truncate": _truncate,
    "pad": lambda value, before, after: " " * before + shown(value) + " " * after,
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
}
