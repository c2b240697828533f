"""What the keeper runs: ``corral _exited ID`` after a container's end, ``corral _due ID`` at a time it asked for."""

from __future__ import annotations

from corral.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (Command("_exited", "ID", least=1, most=2), Command("_due", "ID", least=1, most=1))


def run(line: Line, context: Context) -> int:
    """Settle what ended, or do what is due."""
    context.verb(line.command[1:], *line.args)
    return 0
