"""``corral diff``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import FORMAT, Command
from corral.cli.render import print_json, print_template, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "diff",
        "CONTAINER",
        (FORMAT,),
        least=1,
        most=1,
        operands="container",
        text="A: added, C: changed, D: removed, since the container was made.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Show changes."""
    found = context.verb("diff", line.args[0])
    if line.text("format") == "json":
        print_json(found)
        return 0
    if line.text("format"):
        print_template(line.text("format"), [{**row, "Kind": row["kind"], "Path": row["path"]} for row in found])
        return 0
    for change in found:
        write(f"{change['kind']} {printable(change['path'])}\n")
    return 0
