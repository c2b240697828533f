"""``corral restart``."""

from __future__ import annotations

from corral.cli.each import chosen, for_each
from corral.cli.flags import ALL, FILTER, Command, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "restart",
        "CONTAINER...",
        (
            ALL,
            FILTER,
            value("time", "SECONDS", "how long to wait before SIGKILL (default: the container's, 10)", "t"),
            switch("running", "all containers that run"),
            switch("latest", "the container that was made last", "l"),
        ),
        operands="container",
    ),
)


def run(line: Line, context: Context) -> int:
    """Stop and start containers."""
    grace = float(line.number("time", 10)) if line.text("time") else None
    if line.has("running"):
        names = [row["id"] for row in context.verb("ps", filters=["status=running"])]
    else:
        names = chosen(line, context)
    return for_each(line, names, lambda name: context.verb("restart", name, timeout_s=grace))
