"""``corral volume create|ls|inspect|rm|prune``."""

from __future__ import annotations

from corral.cli.context import complain, write
from corral.cli.each import for_each
from corral.cli.flags import ALL, FILTER, FORMAT, NO_HEADING, QUIET, SHORT_FORMAT, Command, many, switch
from corral.cli.render import Blank, print_json, print_list, print_template, size
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Shown

COMMANDS = (
    Command(
        "volume create",
        "[NAME]",
        (
            many("label", "NAME=VALUE", "a label", "l"),
            many("opt", "NAME=VALUE", "type, device or o, as of mount(8): what the volume is mounted from", "o"),
            switch("ignore", "one that exists is no error"),
        ),
        most=1,
        text="Prints its name; without NAME it gets one of 64 digits.",
    ),
    Command("volume ls", flags=(FILTER, FORMAT, NO_HEADING, QUIET), most=0),
    Command("volume inspect", "VOLUME...", (SHORT_FORMAT,), least=1, operands="volume"),
    Command(
        "volume rm", "VOLUME...", (ALL, switch("force", "one that is not there is no error", "f")), operands="volume"
    ),
    Command(
        "volume prune",
        flags=(
            switch("all", "those with a name too", "a"),
            switch("force", "kept for scripts: nothing is asked", "f"),
        ),
        most=0,
    ),
)
_COLUMNS = (("DRIVER", "Driver"), ("VOLUME NAME", "Name"))


def run(line: Line, context: Context) -> int:
    """Work on volumes."""
    word = line.command.partition(" ")[2]
    if word == "create":
        return _create(line, context)
    if word == "ls":
        rows = context.verb("volume_ls", filters=line.texts("filter"))
        print_list(line, [(row, _shown(row)) for row in rows], _COLUMNS, quiet="Name", blank=_shown(Blank()))
        return 0
    if word == "inspect":
        found = [context.verb("volume_inspect", name) for name in line.args]
        if line.text("format") and line.text("format") != "json":
            print_template(line.text("format"), [{**row, **_shown(row)} for row in found])
        else:
            print_json(found)
        return 0
    if word == "prune":
        removed = context.verb("volume_prune", everything=line.has("all"))
        for row in removed["volumes"]:
            write(f"{row}\n")
        if removed.get("freed_bytes"):
            complain(f"{size(removed['freed_bytes'])} freed\n")
        return 0
    names = list(line.args)
    if line.has("all"):
        names = [row["name"] for row in context.verb("volume_ls")]
    elif not names:
        raise InvalidArgument("volume rm: no volume named", hint="name volumes, or give --all")
    return for_each(line, names, lambda name: context.verb("volume_rm", name), ignore_missing=line.has("force"))


def _create(line: Line, context: Context) -> int:
    from corral.engine.option_values import parse_pairs

    made = context.verb(
        "volume_create",
        line.args[0] if line.args else "",
        labels=parse_pairs("label", line.texts("label"), needs_value=False),
        options=parse_pairs("opt", line.texts("opt"), needs_value=False),
        exists_ok=line.has("ignore"),
    )
    write(f"{made['name']}\n")
    return 0


def _shown(row: dict[str, Any]) -> Shown:
    return {
        "Driver": "local",
        "Name": row["name"],
        "Mountpoint": row.get("path", ""),
        "Labels": ",".join(f"{key}={value}" for key, value in (row.get("labels") or {}).items()),
    }
