"""``corral system info|df|prune|start``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import FORMAT, SHORT_FORMAT, Command, switch
from corral.cli.render import print_json, print_table, print_template, printable, short_id, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command("system info", flags=(SHORT_FORMAT,), most=0),
    Command("system df", flags=(FORMAT, switch("verbose", "each object", "v")), most=0),
    Command(
        "system prune",
        flags=(
            switch("all", "images with names too, if no container was made of them", "a"),
            switch("volumes", "volumes that nothing uses too"),
            switch("force", "kept for scripts: nothing is asked", "f"),
        ),
        most=0,
        text="Removes containers that do not live and images that have no name.",
    ),
    Command(
        "system start",
        flags=(FORMAT,),
        most=0,
        text="For the boot of the host: follows up what its end interrupted, and starts what a restart policy wants.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Look after the store."""
    word = line.command.partition(" ")[2]
    if word == "prune":
        found = context.verb("system_prune", is_all=line.has("all"), volumes=line.has("volumes"))
        for kind in ("containers", "images", "volumes"):
            for name in found[kind]:
                write(f"removed {kind[:-1]} {name}\n")
        write(f"{size(found['freed_bytes'])} freed\n")
        return 0
    found = context.verb(f"system_{word}")
    if line.text("format") == "json":
        print_json(found)
    elif line.text("format"):
        print_template(line.text("format"), [found])
    elif word == "info":
        write(_tree(found, ""))
    elif word == "df":
        _print_usage(found, line)
    else:
        for item in found:
            why = f": {item['why']}" if item.get("why") else ""
            write(f"{item['what']} {item['id']}{printable(why)}\n")
    return 0


def _tree(value: dict[str, Any], indent: str) -> str:
    text = ""
    for key, item in value.items():
        name = f"{indent}{str(key).replace('_', ' ')}:"
        if isinstance(item, dict):
            text += f"{name}\n{_tree(item, indent + '  ')}"
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            text += f"{name}\n" + "".join(f"{indent}  - {_one_line(row)}\n" for row in item)
        else:
            text += f"{name} {_plain(item)}\n"
    return text


def _one_line(row: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {_plain(item)}" for key, item in row.items())


def _plain(item: object) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    return " ".join(map(str, item)) if isinstance(item, list) else str(item)


def _print_usage(found: dict[str, Any], line: Line) -> None:
    rows = []
    for kind, used in (("images", "is_used"), ("containers", "is_live"), ("volumes", "is_used")):
        items = found[kind]
        free = sum(item["size_bytes"] for item in items if item.get(used) is False)
        active = sum(bool(item.get(used)) for item in items)
        total = sum(item["size_bytes"] for item in items)
        rows.append([kind.capitalize(), str(len(items)), str(active), size(total), size(free)])
    rows.append(["Layers", "", "", size(found["layers_bytes"]), ""])
    print_table(("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"), rows)
    if line.has("verbose"):
        for kind in ("images", "containers", "volumes"):
            write("\n")
            lines = [
                [
                    str(item.get("name") or " ".join(item.get("names", [])) or item.get("id", "")),
                    short_id(str(item.get("id", "")), line),
                    size(item["size_bytes"]),
                ]
                for item in found[kind]
            ]
            print_table((kind.upper(), "ID", "SIZE"), lines)
