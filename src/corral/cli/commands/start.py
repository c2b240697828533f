"""``corral start``."""

from __future__ import annotations

from corral.cli.each import chosen, for_each
from corral.cli.flags import FILTER, Command, switch, value
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "start",
        "CONTAINER...",
        (
            switch("all", "all of them"),
            FILTER,
            switch("interactive", "connect stdin, if the container was made with -i", "i"),
            switch("attach", "stay in the foreground, and end with the program's exit code", "a"),
            value("detach-keys", "KEYS", "keys that leave the container running (default ctrl-p,ctrl-q)"),
            switch("sig-proxy", "forward signals to the program (default true)"),
            switch("latest", "the container that was made last", "l"),
        ),
        operands="container",
        examples=(("start web", "in the background"), ("start -a job", "in the foreground")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Start containers."""
    names = chosen(line, context, ("configured", "exited"))
    if not (line.has("attach") or line.has("interactive")):
        return for_each(line, names, lambda name: context.verb("start", name))
    if len(names) != 1:
        raise InvalidArgument("start --attach: more than one container", hint="attach to one at a time")
    from corral.cli.foreground import Session, Streams

    found = context.verb("inspect", names[0])
    process = found["process"]
    is_terminal = process.get("terminal", False)
    streams = Streams(line, stdin=line.has("interactive") and process.get("stdin", False), terminal=is_terminal)
    proxies = line.values.get("sig-proxy") is not False and not is_terminal
    with Session(context, found["id"], streams, proxies=proxies) as session:
        context.verb("start", found["id"], before_release=session.before_release)
        return session.finish()
