"""``corral stop``."""

from __future__ import annotations

from corral.cli.each import chosen, for_each
from corral.cli.flags import ALL, FILTER, Command, many, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "stop",
        "CONTAINER...",
        (
            ALL,
            FILTER,
            value("time", "SECONDS", "how long to wait before SIGKILL (default: the container's, 10)", "t"),
            value("signal", "SIGNAL", "the signal to begin with", "s", "signal"),
            switch("ignore", "a container that is not there is no error", "i"),
            switch("latest", "the container that was made last", "l"),
            many("cidfile", "FILE", "read an id from a file", complete="file"),
        ),
        operands="running",
        text="Sends the stop signal, waits, and then kills. Says what is left where even that does not end it.",
        examples=(("stop web", "with the container's own grace"), ("stop -t 0 web", "at once")),
    ),
)
_LIVE = ("running", "paused", "stopping", "created")


def run(line: Line, context: Context) -> int:
    """Stop containers."""
    grace = float(line.number("time", 10)) if line.text("time") else None
    return for_each(
        line,
        chosen(line, context, _LIVE),
        lambda name: context.verb("stop", name, timeout_s=grace, signal=line.text("signal")),
        ignore_missing=line.has("ignore"),
    )
