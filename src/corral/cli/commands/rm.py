"""``corral rm``."""

from __future__ import annotations

from corral.cli.context import complain
from corral.cli.each import chosen, for_each
from corral.cli.flags import ALL, LONG_FILTER, Command, many, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "rm",
        "CONTAINER...",
        (
            ALL,
            LONG_FILTER,
            switch("force", "kill it first if it runs; one that is not there is no error", "f"),
            switch("volumes", "remove its nameless volumes too", "v"),
            switch("ignore", "a container that is not there is no error", "i"),
            value("time", "SECONDS", "with --force: how long to wait before SIGKILL (default 0)", "t"),
            switch("latest", "the container that was made last", "l"),
            many("cidfile", "FILE", "read an id from a file", complete="file"),
        ),
        operands="container",
        examples=(("rm web", "one that has ended"), ("rm -f web", "kill it first"), ("rm -a", "all that do not run")),
    ),
)
_ENDED = ("configured", "exited", "dead", "removing", "unreadable")


def run(line: Line, context: Context) -> int:
    """Remove containers."""
    force = line.has("force")

    def remove(name: str) -> None:
        result = context.verb(
            "rm",
            name,
            force=force,
            volumes=line.has("volumes"),
            timeout_s=float(line.number("time", 0)) if line.text("time") else None,
        )
        for what in result.get("stays") or []:
            complain(f"warning: {name}: {what} stays for now; `corral gc` tries again\n")

    names = chosen(line, context, () if force else _ENDED)
    return for_each(line, names, remove, ignore_missing=force or line.has("ignore"))
