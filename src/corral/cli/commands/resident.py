"""What the service starts: ``corral _resident --stop-fd=N``."""

from __future__ import annotations

from corral.cli.flags import Command, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command("_resident", flags=(value("stop-fd", "N", "end when this descriptor's other end is closed"),), most=0),
)


def run(line: Line, context: Context) -> int:
    """Run short commands for fronts until the service ends."""
    from corral.cli.resident import serve

    serve(context.places.run, int(line.text("stop-fd", "0")))
    return 0
