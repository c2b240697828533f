"""``corral rename``."""

from __future__ import annotations

from corral.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (Command("rename", "CONTAINER NAME", least=2, most=2, operands="container"),)


def run(line: Line, context: Context) -> int:
    """Give a container another name."""
    context.verb("rename", line.args[0], line.args[1])
    return 0
