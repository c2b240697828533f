"""``corral gc``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import FORMAT, Command
from corral.cli.render import print_json, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "gc",
        flags=(FORMAT,),
        most=0,
        text="Finishes operations whose process died, follows up ends that nobody saw, removes what belongs to "
        "nothing. Running containers are not touched.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Collect garbage. The exit code is 1 if something could not be done."""
    found = context.verb("gc")
    if line.text("format") == "json":
        print_json(found)
    else:
        for item in found:
            why = f": {item['why']}" if item.get("why") else ""
            write(f"{item['what']} {item['id']}{printable(why)}\n")
    return 1 if any(item.get("why") for item in found) else 0
