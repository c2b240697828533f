"""What may come next on a command line, from the tables of commands and flags and from the store.

The shells' scripts (``corral completion bash``) call ``corral _complete`` with the words typed so far, and show what it
prints: one candidate a line, with a description after a tab.
"""

from __future__ import annotations

from corral.cli.flags import BOOL, GLOBAL
from corral.cli.index import GROUPS, find, names_below
from corral.cli.main import commands_of, load
from corral.cli.usage import summary_of
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corral.cli.context import Context
    from corral.cli.flags import Command, Flag

    Candidate = tuple[str, str]

FILES, DIRECTORIES = ":files", ":directories"


def candidates(words: list[str], context: Context) -> list[Candidate]:
    """What may stand in place of the last of ``words``; (FILES, "") leaves it to the shell."""
    before, typed = list(words[:-1]), words[-1] if words else ""
    rest = _skip_globals(before)
    if rest is None:
        return _matching([_of_kind("dir", context)], typed)
    if not rest:
        return _matching([_flag_words(GLOBAL, typed), _top_words()], typed)
    name, module, after = find(rest)
    if not name:
        below = names_below(rest[0])
        if len(rest) == 1 and below:
            return _matching([[(item.partition(" ")[2], summary_of(item)) for item in below]], typed)
        return []
    return _of_command(commands_of(load(module))[name], after, typed, context)


def _skip_globals(words: list[str]) -> list[str] | None:
    """The words from the command on; None while the value of a global flag is being typed."""
    flags = {f"--{flag.name}": flag for flag in GLOBAL}
    while words and words[0].startswith("-"):
        flag = flags.get(words.pop(0))
        if flag is not None and flag.kind != BOOL:
            if not words:
                return None
            words.pop(0)
    return words


def _of_command(command: Command, words: list[str], typed: str, context: Context) -> list[Candidate]:
    long = {f"--{flag.name}": flag for flag in command.flags}
    short = {f"-{flag.short}": flag for flag in reversed(command.flags) if flag.short}
    count = 0
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word.startswith("-") and word not in ("-", "--") and "=" not in word:
            flag = long.get(word) or short.get(word if word.startswith("--") else f"-{word[-1]}")
            if flag is not None and flag.kind != BOOL:
                if position == len(words):
                    return _matching([_values(flag, context)], typed)
                position += 1
        else:
            count += 1
    if command.passes_rest and count >= command.passes_rest and command.name != "exec":
        return [(FILES, "")]
    if typed.startswith("--") and "=" in typed:
        name, _, value = typed.partition("=")
        flag = long.get(name)
        return [(f"{name}={item}", text) for item, text in _matching([_values(flag, context)], value)] if flag else []
    if typed.startswith("-"):
        return _matching([_flag_words(command.flags, typed)], typed)
    kind = command.operands[min(count, len(command.operands) - 1)] if command.operands else ""
    if command.passes_rest and count >= command.passes_rest:
        return [(FILES, "")]
    return _matching([_of_kind(kind, context)], typed)


def _matching(lists: Iterable[Iterable[Candidate]], typed: str) -> list[Candidate]:
    found = [item for items in lists for item in items]
    return [item for item in found if item[0].startswith(typed) or item[0].startswith(":")]


def _top_words() -> list[Candidate]:
    words: dict[str, str] = {}
    for heading, commands in GROUPS:
        for name, _, summary in commands:
            first, _, second = name.partition(" ")
            words.setdefault(first, f"{heading.lower()}: more commands" if second else summary)
    return sorted(words.items())


def _flag_words(flags: Iterable[Flag], typed: str) -> list[Candidate]:
    if not typed.startswith("-"):
        return []
    return sorted((f"--{flag.name}", flag.help) for flag in flags)


def _values(flag: Flag, context: Context) -> list[Candidate]:
    if "|" in flag.complete:
        return [(word, "") for word in flag.complete.split("|")]
    return _of_kind(flag.complete, context)


def _of_kind(kind: str, context: Context) -> list[Candidate]:
    if kind in ("file", "mount"):
        return [(FILES, "")]
    if kind == "dir":
        return [(DIRECTORIES, "")]
    source = _SOURCES.get(kind)
    if source is None:
        return []
    try:
        return source(context)
    except (CorralError, OSError):
        return []  # a completion that cannot be had is none


def _containers(context: Context) -> list[Candidate]:
    return [(row["name"], f"{row['image']}, {row['status']}") for row in context.verb("ps", is_all=True)]


def _running(context: Context) -> list[Candidate]:
    return [(row["name"], str(row["image"])) for row in context.verb("ps")]


def _images(context: Context) -> list[Candidate]:
    from corral.image.store import ImageStore

    return [
        ("host", "this machine's own root"),
        *((n, "") for i in ImageStore(context.places.images).list() for n in i.names),
    ]


def _signals(context: Context) -> list[Candidate]:
    from corral.oci.names import SIGNAL_NAMES

    del context
    return [(name.removeprefix("SIG"), "") for name in SIGNAL_NAMES]


def _capabilities(context: Context) -> list[Candidate]:
    from corral.linux.caps import CAPABILITIES

    del context
    return [("ALL", ""), *((name.removeprefix("CAP_"), "") for name in CAPABILITIES)]


def _names_of(verb: str) -> Callable[[Context], list[Candidate]]:
    return lambda context: [(row["name"], "") for row in context.verb(verb)]


def _networks(context: Context) -> list[Candidate]:
    modes = [(name, "") for name in ("bridge", "none", "host", "pasta")]
    return [*modes, *_names_of("network_ls")(context)]


def _any(context: Context) -> list[Candidate]:
    return [*_containers(context), *_images(context)[1:]]


_SOURCES: dict[str, Callable[[Context], list[Candidate]]] = {
    "any": _any,
    "capability": _capabilities,
    "container": _containers,
    "image": _images,
    "network": _names_of("network_ls"),
    "network-mode": _networks,
    "pod": _names_of("pod_ps"),
    "running": _running,
    "signal": _signals,
    "volume": _names_of("volume_ls"),
}
