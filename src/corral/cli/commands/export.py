"""``corral export``."""

from __future__ import annotations

from corral.cli.context import is_terminal
from corral.cli.flags import Command, value
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "export",
        "CONTAINER",
        (value("output", "FILE", "where to write (default stdout)", "o", "file"),),
        least=1,
        most=1,
        operands="container",
        text="Writes a tar of the root filesystem as it is now, of a container that runs or not. Volumes and what else "
        "is mounted in it are left out. `corral import` makes an image of it, without the image's settings; `corral "
        "commit` keeps them.",
        examples=(("export -o web.tar web", "to a file"), ("export web | tar t", "to a pipe")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Write the archive."""
    output = line.text("output", "-")
    if output == "-":
        if is_terminal(1):
            raise InvalidArgument("export: stdout is a terminal", hint="give --output FILE, or send it to a pipe")
        context.verb("export", line.args[0], 1)
        return 0
    from corral.image.disk import write_complete

    write_complete(output, lambda fd: context.verb("export", line.args[0], fd))
    return 0
