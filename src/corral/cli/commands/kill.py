"""``corral kill``."""

from __future__ import annotations

from corral.cli.each import chosen, for_each
from corral.cli.flags import ALL, FILTER, Command, many, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "kill",
        "CONTAINER...",
        (
            ALL,
            FILTER,
            value("signal", "SIGNAL", "the signal (default KILL)", "s", "signal"),
            switch("every-process", "send it to all processes of the container, not to the first alone"),
            switch("latest", "the container that was made last", "l"),
            many("cidfile", "FILE", "read an id from a file", complete="file"),
        ),
        operands="running",
        text="Sends a signal and does not wait for what follows.",
        examples=(("kill web", "SIGKILL"), ("kill -s HUP web", "another signal")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Signal containers."""
    signal = line.text("signal", "KILL")
    return for_each(
        line,
        chosen(line, context, ("running", "paused")),
        lambda name: context.verb("kill", name, signal=signal, is_for_all=line.has("every-process")),
    )
