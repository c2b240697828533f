"""The command line of ``corral-runtime``: runc's commands and flags, parsed by hand.

argparse costs more to import than a plan costs to compile. Flags may stand before or after positional arguments, as
``--name value`` or ``--name=value``; a single dash works too, since runc's callers use both.
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG = "flag"  # --name
VALUE = "value"  # --name X
NUMBER = "number"  # --name N
REPEAT = "repeat"  # --name X --name Y

GLOBAL_FLAGS: dict[str, str] = {
    "root": VALUE,
    "log": VALUE,
    "log-format": VALUE,
    "debug": FLAG,
    "systemd-cgroup": FLAG,
    "rootless": VALUE,
    "cgroup-manager": VALUE,
    "criu": VALUE,
    "help": FLAG,
    "version": FLAG,
}

# What a plan depends on, beside the host.
_PLANNED: dict[str, str] = {
    "bundle": VALUE,
    "cgroup-layout": VALUE,
    "cgroup-writable": FLAG,
    "config": VALUE,
}
_CREATE: dict[str, str] = {
    **_PLANNED,
    "console-socket": VALUE,
    "pid-file": VALUE,
    "pidfd-socket": VALUE,
    "no-pivot": FLAG,
    "no-new-keyring": FLAG,
    "preserve-fds": NUMBER,
}
_UPDATE: dict[str, str] = {
    "resources": VALUE,
    "blkio-weight": NUMBER,
    "cpu-period": NUMBER,
    "cpu-quota": NUMBER,
    "cpu-burst": NUMBER,
    "cpu-share": NUMBER,
    "cpu-rt-period": NUMBER,
    "cpu-rt-runtime": NUMBER,
    "cpuset-cpus": VALUE,
    "cpuset-mems": VALUE,
    "cpu-idle": NUMBER,
    "kernel-memory": VALUE,
    "kernel-memory-tcp": VALUE,
    "memory": VALUE,
    "memory-reservation": VALUE,
    "memory-swap": VALUE,
    "pids-limit": NUMBER,
    "l3-cache-schema": VALUE,
    "mem-bw-schema": VALUE,
}

COMMAND_FLAGS: dict[str, dict[str, str]] = {
    "checkpoint": {},
    "check": {**_PLANNED, "json": FLAG},
    "create": _CREATE,
    "delete": {"force": FLAG, "regex": FLAG},
    "doctor": {"json": FLAG},
    "events": {"stats": FLAG, "interval": VALUE},
    "exec": {
        "console-socket": VALUE,
        "pidfd-socket": VALUE,
        "cwd": VALUE,
        "env": REPEAT,
        "tty": FLAG,
        "user": VALUE,
        "additional-gids": REPEAT,
        "process": VALUE,
        "detach": FLAG,
        "pid-file": VALUE,
        "process-label": VALUE,
        "apparmor": VALUE,
        "no-new-privs": FLAG,
        "cap": REPEAT,
        "preserve-fds": NUMBER,
        "cgroup": REPEAT,
        "ignore-paused": FLAG,
        "no-subreaper": FLAG,
    },
    "explain": {**_PLANNED, "json": FLAG, "id": VALUE},
    "features": {},
    "gc": {"json": FLAG},
    "kill": {"all": FLAG},
    "list": {"format": VALUE, "quiet": FLAG},
    "mounts": {},
    "pause": {},
    "planner": {"socket": VALUE, "stop-fd": VALUE},
    "ps": {"format": VALUE},
    "restore": {},
    "resume": {},
    "run": {**_CREATE, "detach": FLAG, "keep": FLAG, "no-subreaper": FLAG},
    "spec": {"bundle": VALUE, "rootless": FLAG},
    "start": {},
    "state": {"effective": FLAG, "json": FLAG},
    "update": _UPDATE,
}

SHORT: dict[str, dict[str, str]] = {
    "": {"h": "help", "v": "version"},
    "check": {"b": "bundle", "f": "config"},
    "create": {"b": "bundle", "f": "config"},
    "delete": {"f": "force"},
    "exec": {"e": "env", "t": "tty", "u": "user", "g": "additional-gids", "p": "process", "d": "detach", "c": "cap"},
    "explain": {"b": "bundle", "f": "config"},
    "kill": {"a": "all"},
    "list": {"f": "format", "q": "quiet"},
    "ps": {"f": "format"},
    "run": {"b": "bundle", "f": "config", "d": "detach"},
    "spec": {"b": "bundle"},
    "update": {"r": "resources"},
}

# After the container's id, everything belongs to the container's program.
_PASS_REST = {"exec": 1, "ps": 1}

_ONE_ARGUMENT = ("create", "run", "pause", "resume", "update", "events")


class CommandLine:
    """A parsed command line. ``values`` holds global and command flags by their long name, ``args`` the rest."""

    __slots__ = ("args", "command", "values")

    def __init__(self, command: str, values: dict[str, str | bool | int | list[str]], args: list[str]) -> None:
        self.command = command
        self.values = values
        self.args = args

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag that takes one, ``default`` if it was not given."""
        value = self.values.get(name, default)
        return value if isinstance(value, str) else default

    def flag(self, name: str) -> bool:
        """Whether a flag without value was given."""
        return self.values.get(name) is True

    def number(self, name: str, default: int = 0) -> int:
        """The value of a numeric flag."""
        value = self.values.get(name, default)
        return value if isinstance(value, int) else default

    def texts(self, name: str) -> list[str]:
        """All values of a repeatable flag, in order."""
        value = self.values.get(name, [])
        return value if isinstance(value, list) else []

    def root(self) -> str:
        """The state root. The front always gives one: which it is when nobody does, is decided there alone.

        Raises: InvalidArgument without it.
        """
        given = self.text("root")
        if not given:
            raise InvalidArgument(
                f"{self.command}: flag --root is missing", hint="corral-runtime finds it: call that, not corral-planner"
            )
        return given

    def container_id(self) -> str:
        """The one positional argument that names the container. Raises: InvalidArgument if it is missing or odd."""
        if not self.args or not self.args[0]:
            raise InvalidArgument(f"{self.command}: the container's id is missing", hint=f"usage: {self.command} ID")
        if len(self.args) > 1 and self.command in _ONE_ARGUMENT:
            raise InvalidArgument(
                f"{self.command}: unexpected argument {self.args[1]!r}",
                hint=f"`corral-runtime {self.command} --help` tells its arguments",
            )
        return check_id(self.args[0])


_ID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")


def check_id(name: str) -> str:
    """``name`` if it may be a container's id. Raises: InvalidArgument.

    The words are runc's, and so is the alphabet: the id becomes a directory's name.
    """
    if not name or name.startswith(".") or len(name) > 255 or not _ID_CHARS.issuperset(name):
        raise InvalidArgument(
            f"container {name!r}: invalid container id format",
            hint="an id is made of letters, digits and '_', '+', '-', '.', and does not begin with '.'",
        )
    return name


def parse_globals(argv: Sequence[str]) -> CommandLine:
    """The global flags, as far as they can be read: how to report what is wrong with the rest."""
    line = CommandLine("", {}, [])
    try:
        _take_flags(list(argv), "", GLOBAL_FLAGS, line.values, until_positional=True)
    except InvalidArgument:
        pass  # It is about to be reported.
    return line


def parse(argv: Sequence[str]) -> CommandLine:
    """Parse what follows the program's name. Raises: InvalidArgument naming the flag and the command."""
    values: dict[str, str | bool | int | list[str]] = {}
    rest = _take_flags(list(argv), "", GLOBAL_FLAGS, values, until_positional=True)
    command = rest.pop(0) if rest else ""
    if command == "help" or (not command and "version" not in values):
        values["help"] = True
    if command and command not in COMMAND_FLAGS:
        if command == "help":
            return CommandLine(rest[0] if rest else "", values, [])
        raise InvalidArgument(f"unknown command {command!r}", hint="`corral-runtime --help` lists the commands")
    flags = {**COMMAND_FLAGS.get(command, {}), "help": FLAG}
    args = _take_flags(rest, command, flags, values, until_positional=False)
    return CommandLine(command, values, args)


def _take_flags(
    words: list[str],
    command: str,
    flags: dict[str, str],
    values: dict[str, str | bool | int | list[str]],
    *,
    until_positional: bool,
) -> list[str]:
    """Move flags from ``words`` into ``values`` and return the positional arguments."""
    args: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return args + words
        if not word.startswith("-") or word == "-":
            args.append(word)
            if until_positional or len(args) == _PASS_REST.get(command):
                return args + words
            continue
        _take_one(word, words, command, flags, values)
    return args


def _take_one(
    word: str,
    words: list[str],
    command: str,
    flags: dict[str, str],
    values: dict[str, str | bool | int | list[str]],
) -> None:
    name, equals, value = word.lstrip("-").partition("=")
    name = SHORT.get(command, {}).get(name, name) if len(name) == 1 else name
    if name == "h":
        name = "help"
    where = f"{command}: " if command else ""
    kind = flags.get(name)
    if kind is None:
        usage = f"corral-runtime {command} --help" if command else "corral-runtime --help"
        raise InvalidArgument(f"{where}unknown flag {word!r}", hint=f"`{usage}` lists the flags")
    if kind == FLAG:
        if equals and value not in ("true", "false", "1", "0"):
            raise InvalidArgument(f"{where}flag --{name}: {value!r} is neither true nor false")
        values[name] = value not in ("false", "0")
        return
    if not equals:
        if not words:
            raise InvalidArgument(f"{where}flag --{name} needs a value")
        value = words.pop(0)
    if kind == REPEAT:
        known = values.setdefault(name, [])
        if isinstance(known, list):
            known.append(value)
    elif kind == NUMBER:
        values[name] = _number(where, name, value)
    else:
        values[name] = value


def _number(where: str, name: str, value: str) -> int:
    try:
        return int(value, 10)
    except ValueError:
        raise InvalidArgument(f"{where}flag --{name}: {value!r} is not a number") from None
