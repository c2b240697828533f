"""``corral create``."""

from __future__ import annotations

from corral.cli.container_flags import CONTAINER
from corral.cli.context import write
from corral.cli.flags import Command
from corral.cli.making import definition_of, make_room, write_cidfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "create",
        "IMAGE [COMMAND [ARG...]]",
        CONTAINER,
        least=1,
        passes_rest=1,
        operands="image",
        text="As `run`, without starting it. Prints the id.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Create a container."""
    definition = definition_of(line, context)
    make_room(line, context)
    made = context.verb("create", definition)
    write_cidfile(line, made["id"])
    write(f"{made['id']}\n")
    return 0
