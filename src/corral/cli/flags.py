"""What a command takes, as data, and the parser that reads a command line by it.

Help, completion and man pages are made from the same data. Parsed by hand: argparse costs more to import (24 ms) than
a container costs to start. The rules are those of Podman's and Docker's parser: ``--name value`` and ``--name=value``,
``-v value`` and ``-vvalue``, clusters as ``-itd``, ``--`` ends the flags, and flags may stand between arguments, except
where everything after the first argument belongs to the container's program.
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOOL, VALUE, MANY = "bool", "value", "many"
_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")


class Flag:
    """One flag: ``kind`` (BOOL, VALUE, MANY), ``meta`` (the value's name in help), ``complete`` (what may stand there).

    ``complete``: words joined by ``|``, or a kind that ``cli/complete.py`` knows (``container``, ``file`` ...).
    """

    __slots__ = ("complete", "help", "kind", "meta", "name", "short")

    def __init__(
        self, name: str, kind: str, help_: str, *, short: str = "", meta: str = "", complete: str = ""
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help_
        self.short = short
        self.meta = meta
        self.complete = complete


def switch(name: str, help_: str, short: str = "") -> Flag:
    """A flag without value; ``--name=false`` turns it off."""
    return Flag(name, BOOL, help_, short=short)


def value(name: str, meta: str, help_: str, short: str = "", complete: str = "") -> Flag:
    """A flag with one value; the last one counts."""
    return Flag(name, VALUE, help_, short=short, meta=meta, complete=complete)


def many(name: str, meta: str, help_: str, short: str = "", complete: str = "") -> Flag:
    """A flag that may be given more than once."""
    return Flag(name, MANY, help_, short=short, meta=meta, complete=complete)


FORMAT = value("format", "json|TEMPLATE", "print JSON, or each item by a template such as '{{.ID}} {{.Names}}'")
# Where nothing is filtered, -f is --format.
SHORT_FORMAT = Flag("format", VALUE, FORMAT.help, short="f", meta=FORMAT.meta)
FILTER = many("filter", "KEY=VALUE", "show only what matches; may be given more than once", "f")
# Where -f is --force, or --follow.
LONG_FILTER = Flag("filter", MANY, FILTER.help, meta=FILTER.meta)
QUIET = switch("quiet", "print ids alone", "q")
NO_TRUNC = switch("no-trunc", "do not shorten ids and commands")
NO_HEADING = switch("noheading", "leave out the table's first line", "n")
ALL = switch("all", "all of them", "a")
HELP = switch("help", "this text", "h")

GLOBAL = (
    value("store", "DIR", "where containers and images are kept ($CORRAL_STORE)", complete="dir"),
    value("run-dir", "DIR", "where what runs keeps its sockets ($CORRAL_RUN_DIR)", complete="dir"),
    switch("no-service", "do the work here, also if a service of this store answers"),
    switch("debug", "show where in Corral an error came from"),
    switch("version", "print the version", "v"),
    HELP,
)


class Command:
    """One command: its full name (``pod create``), arguments as shown, what they are, and its flags.

    ``operands``: kinds for completion, the last one for all that follow. ``passes_rest``: from this many arguments on,
    everything belongs to the container's program. ``least`` and ``most`` (-1: any number) bound the arguments.
    ``examples``: command lines without the leading ``corral``, each with what it does.
    """

    __slots__ = ("arguments", "examples", "flags", "least", "most", "name", "operands", "passes_rest", "text")

    def __init__(
        self,
        name: str,
        arguments: str = "",
        flags: Iterable[Flag] = (),
        *,
        least: int = 0,
        most: int = -1,
        passes_rest: int = 0,
        operands: str = "",
        text: str = "",
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.flags = (*flags, HELP)
        self.least = least
        self.most = most
        self.passes_rest = passes_rest
        self.operands = operands.split()
        self.text = text
        self.examples = examples


class Line:
    """A parsed command line. ``values``: flags that were given, by long name."""

    __slots__ = ("args", "command", "values")

    def __init__(self, command: str, values: dict[str, str | bool | list[str]], args: list[str]) -> None:
        self.command = command
        self.values = values
        self.args = args

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag that takes one."""
        found = self.values.get(name, default)
        return found if isinstance(found, str) else default

    def has(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """All values of a flag that may be given more than once."""
        found = self.values.get(name, [])
        return found if isinstance(found, list) else []

    def number(self, name: str, default: int) -> int:
        """The value of a flag as a whole number. Raises: InvalidArgument."""
        text = self.text(name)
        if not text:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
            raise InvalidArgument(f"--{name} {text!r}: not a number", hint="give a whole number")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        """The value of a flag as a duration. Raises: InvalidArgument."""
        from corral.engine.option_values import parse_duration

        text = self.text(name)
        return parse_duration(name, text) if text else default


def parse(words: Sequence[str], command: Command) -> Line:
    """Read what follows the command's name. Raises: InvalidArgument naming the flag and the command."""
    line = Line(command.name, {}, [])
    _Reader(list(words), command.name, command.flags).read(line, command.passes_rest)
    if not line.has("help"):
        _check_count(line, command)
    return line


def split_globals(words: Sequence[str]) -> tuple[Line, list[str]]:
    """The flags before the command, and the words from the command on. Raises: InvalidArgument."""
    line = Line("", {}, [])
    reader = _Reader(list(words), "", GLOBAL)
    reader.read(line, 1)
    return line, line.args


def _check_count(line: Line, command: Command) -> None:
    usage = f"usage: corral {command.name} {command.arguments}".rstrip()
    if len(line.args) < command.least:
        names = [word for word in command.arguments.split() if word != "[OPTIONS]"]
        missing = names[len(line.args)].strip("[].") if len(line.args) < len(names) else "an argument"
        raise InvalidArgument(f"{command.name}: {missing} is missing", hint=usage)
    if 0 <= command.most < len(line.args):
        raise InvalidArgument(f"{command.name}: unexpected argument {line.args[command.most]!r}", hint=usage)


class _Reader:
    """Moves words into a line."""

    __slots__ = ("command", "long", "short", "words")

    def __init__(self, words: list[str], command: str, flags: Sequence[Flag]) -> None:
        self.words = words[::-1]
        self.command = command
        self.long = {flag.name: flag for flag in flags}
        self.short: dict[str, Flag] = {}
        for flag in flags:
            # The first one has the letter: in `run`, -h is --hostname, as everywhere.
            self.short.setdefault(flag.short, flag)
        self.short.pop("", None)

    def read(self, line: Line, passes_rest: int) -> None:
        while self.words:
            word = self.words.pop()
            if word == "--":
                line.args += reversed(self.words)
                return
            if word.startswith("--"):
                self._long(line, word)
            elif word.startswith("-") and word != "-":
                self._cluster(line, word)
            else:
                line.args.append(word)
                if len(line.args) == passes_rest:
                    if self.words and self.words[-1] == "--":
                        self.words.pop()
                    line.args += reversed(self.words)
                    return

    def _long(self, line: Line, word: str) -> None:
        name, equals, text = word[2:].partition("=")
        flag = self.long.get(name)
        if flag is None:
            raise self._unknown(f"--{name}")
        if flag.kind == BOOL:
            self._put(line, flag, text if equals else "true")
        else:
            self._put(line, flag, text if equals else self._next(f"--{name}", flag))

    def _cluster(self, line: Line, word: str) -> None:
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            flag = self.short.get(letter)
            if flag is None:
                raise self._unknown(f"-{letter}")
            if flag.kind == BOOL:
                if rest.startswith("="):
                    self._put(line, flag, rest[1:])
                    return
                self._put(line, flag, "true")
                continue
            self._put(line, flag, rest.removeprefix("=") if rest else self._next(f"-{letter}", flag))
            return

    def _next(self, shown: str, flag: Flag) -> str:
        if not self.words:
            raise InvalidArgument(
                f"{self._where()}flag {shown} needs a value", hint=f"--{flag.name} {flag.meta}: {flag.help}"
            )
        return self.words.pop()

    def _put(self, line: Line, flag: Flag, text: str) -> None:
        if flag.kind == BOOL:
            lower = text.lower()
            if lower not in _TRUE and lower not in _FALSE:
                raise InvalidArgument(f"{self._where()}flag --{flag.name}: {text!r} is neither true nor false")
            line.values[flag.name] = lower in _TRUE
        elif flag.kind == MANY:
            known = line.values.setdefault(flag.name, [])
            assert isinstance(known, list)
            known.append(text)
        else:
            line.values[flag.name] = text

    def _where(self) -> str:
        return f"{self.command}: " if self.command else ""

    def _unknown(self, shown: str) -> InvalidArgument:
        from difflib import get_close_matches

        close = get_close_matches(shown.lstrip("-"), self.long, 1, 0.6) if len(shown) > 2 else []
        help_ = f"`corral {self.command} --help` lists the flags".replace("  ", " ")
        hint = f"did you mean --{close[0]}? {help_}" if close else help_
        return InvalidArgument(f"{self._where()}unknown flag {shown!r}", hint=hint)
