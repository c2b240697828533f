"""Help texts, from the tables of commands and flags."""

from __future__ import annotations

from corral.cli.flags import BOOL, GLOBAL
from corral.cli.index import GROUPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.cli.flags import Command, Flag

_WIDTH = 100
_COLUMN = 34


def overview() -> str:
    """``corral --help``."""
    lines = ["Usage: corral [OPTIONS] COMMAND", "", "Containers that cannot get lost.", ""]
    for heading, commands in GROUPS:
        lines.append(f"{heading}:")
        lines += [f"  {name:<20}{summary}" for name, _, summary in commands]
        lines.append("")
    lines += ["Options:", *flag_lines(GLOBAL), "", "`corral COMMAND --help` tells more about a command."]
    return "\n".join(lines) + "\n"


def group_help(word: str) -> str:
    """``corral pod --help``: the commands of a group."""
    lines = [f"Usage: corral {word} COMMAND", "", "Commands:"]
    for _, commands in GROUPS:
        lines += [f"  {name:<20}{summary}" for name, _, summary in commands if name.startswith(word + " ")]
    return "\n".join(lines) + "\n"


def summary_of(name: str) -> str:
    """The line of a command in the index."""
    return next((text for _, commands in GROUPS for known, _, text in commands if known == name), "")


def synopsis(command: Command) -> str:
    """``corral run [OPTIONS] IMAGE ...``."""
    return f"corral {command.name} [OPTIONS] {command.arguments}".rstrip()


def command_help(command: Command) -> str:
    """``corral COMMAND --help``."""
    lines = [f"Usage: {synopsis(command)}", ""]
    summary = summary_of(command.name)
    if summary:
        lines += [f"{summary[0].upper()}{summary[1:]}.", ""]
    if command.text:
        lines += [*wrap(command.text, _WIDTH), ""]
    lines += ["Options:", *flag_lines(command.flags)]
    if command.examples:
        lines += ["", "Examples:"]
        lines += [f"  corral {example:<44}  # {what}" for example, what in command.examples]
    return "\n".join(lines) + "\n"


def flag_lines(flags: Iterable[Flag]) -> list[str]:
    """One entry a flag, sorted by name, the help wrapped beside it."""
    lines = []
    for flag in sorted(flags, key=lambda item: item.name):
        short = f"-{flag.short}, " if flag.short else "    "
        left = f"  {short}--{flag.name}" + ("" if flag.kind == BOOL else f" {flag.meta}")
        text = wrap(flag_text(flag), _WIDTH - _COLUMN)
        if len(left) >= _COLUMN:
            lines.append(left)
            left = ""
        lines.append(f"{left:<{_COLUMN}}{text[0]}")
        lines += [" " * _COLUMN + line for line in text[1:]]
    return lines


def flag_text(flag: Flag) -> str:
    """What a flag is for, with the words that it takes, where its text does not name them itself."""
    words = [word for word in flag.complete.split("|") if not word.endswith(":")] if "|" in flag.complete else []
    if not words or words[0] in flag.help:
        return flag.help
    return f"{flag.help}: {', '.join(words)}"


def wrap(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` characters; blank lines part paragraphs."""
    lines: list[str] = []
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            lines.append("")
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".lstrip()
        lines.append(line)
    return lines
