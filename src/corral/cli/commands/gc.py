"""``corral gc``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import FORMAT, Command
from corral.cli.render import print_json

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
    """Collect garbage."""
    found = context.verb("gc")
    if line.text("format") == "json":
        print_json(found)
        return 0
    for key, value in found.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if value:
            write(f"{key.replace('_', ' ')}: {shown}\n")
    return 0
