"""``corral pause`` and ``corral unpause``."""

from __future__ import annotations

from corral.cli.each import chosen, for_each
from corral.cli.flags import ALL, FILTER, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command("pause", "CONTAINER...", (ALL, FILTER), operands="running"),
    Command("unpause", "CONTAINER...", (ALL, FILTER), operands="running"),
)


def run(line: Line, context: Context) -> int:
    """Freeze containers, or let them go on."""
    status = "running" if line.command == "pause" else "paused"
    return for_each(line, chosen(line, context, (status,)), lambda name: context.verb(line.command, name))
