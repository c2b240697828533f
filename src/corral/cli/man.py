"""Manual pages in roff, from the tables of commands and flags.

Source: man(7), man-pages(7).
"""

from __future__ import annotations

from corral.cli.flags import BOOL, GLOBAL
from corral.cli.index import GROUPS
from corral.cli.main import commands_of, load
from corral.cli.usage import flag_text, summary_of, synopsis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.cli.flags import Command, Flag

_CODES = (
    ("0", "it was done; of run, exec, attach and start --attach: the program ended with 0"),
    ("1", "something that was named does not exist"),
    ("125", "Corral could not do it: the message says why, the hint what to do"),
    ("126, 127", "the program in the container cannot be executed, or is not there"),
    ("other", "the program's own exit code, or 128 and the number of the signal that ended it"),
)
_FILES = (
    ("/var/lib/corral, $XDG_DATA_HOME/corral", "the store, unless --store or CORRAL_STORE say otherwise"),
    ("/run/corral, $XDG_RUNTIME_DIR/corral", "what belongs to running containers"),
    ("/etc/containers/registries.conf", "registries, mirrors, short names"),
)
_ENVIRONMENT = (
    ("CORRAL_STORE", "as --store"),
    ("CORRAL_RUN_DIR", "as --run-dir"),
    ("CORRAL_CGROUP_PARENT", "the control group above all new containers"),
    ("REGISTRY_AUTH_FILE", "where credentials for registries are kept"),
)


def pages(version: str) -> Iterator[tuple[str, str]]:
    """(file name, content) of all pages: corral(1), and one for each command."""
    yield "corral.1", _overview(version)
    for _, commands in GROUPS:
        for name, module, _summary in commands:
            yield f"corral-{name.replace(' ', '-')}.1", page(commands_of(load(module))[name], version)


def page(command: Command, version: str) -> str:
    """The page of one command."""
    name = f"corral-{command.name.replace(' ', '-')}"
    lines = [_title(name, version), ".SH NAME", f"{_text(name)} \\- {_text(summary_of(command.name))}"]
    lines += [".SH SYNOPSIS", f".B {_text(synopsis(command))}"]
    if command.text:
        lines += [".SH DESCRIPTION", _text(command.text)]
    lines += [".SH OPTIONS", *_flags(command.flags)]
    if command.examples:
        lines.append(".SH EXAMPLES")
        for example, what in command.examples:
            lines += [".TP", f".B corral {_text(example)}", _text(what[0].upper() + what[1:] + ".")]
    lines += [".SH SEE ALSO", ".BR corral (1)"]
    return "\n".join(lines) + "\n"


def _overview(version: str) -> str:
    lines = [_title("corral", version), ".SH NAME", "corral \\- containers that cannot get lost"]
    lines += [".SH SYNOPSIS", ".B corral [OPTIONS] COMMAND", ".SH DESCRIPTION"]
    lines.append(
        "Runs containers, without a daemon. Every state is what the kernel says, every resource has an owner on "
        "record, every error says what to do about it."
    )
    for heading, commands in GROUPS:
        lines.append(f".SS {_text(heading)}")
        for name, _, summary in commands:
            lines += [".TP", f".BR corral\\-{_text(name.replace(' ', '-'))} (1)", _text(summary)]
    lines += [".SH OPTIONS", *_flags(GLOBAL)]
    for heading, rows in (("EXIT STATUS", _CODES), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines.append(f".SH {heading}")
        for term, meaning in rows:
            lines += [".TP", f".B {_text(term)}", _text(meaning)]
    return "\n".join(lines) + "\n"


def _title(name: str, version: str) -> str:
    return f'.TH {_text(name).upper()} 1 "" "corral {version}" "Corral"'


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in sorted(flags, key=lambda item: item.name):
        short = f"\\-{flag.short}, " if flag.short else ""
        meta = "" if flag.kind == BOOL else f" {_text(flag.meta)}"
        yield ".TP"
        yield f".B {short}\\-\\-{_text(flag.name)}{meta}"
        more = " May be given more than once." if flag.kind == "many" else ""
        text = flag_text(flag)
        yield _text(f"{text[:1].upper()}{text[1:]}.{more}")


def _text(text: str) -> str:
    """Text that roff takes as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + escaped if escaped.startswith(".") else escaped
