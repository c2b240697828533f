"""``corral exec``."""

from __future__ import annotations

import time

from corral.cli.context import write
from corral.cli.flags import Command, many, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.engine.keeper import Monitor

COMMANDS = (
    Command(
        "exec",
        "CONTAINER COMMAND [ARG...]",
        (
            switch("interactive", "connect stdin", "i"),
            switch("tty", "give the program a terminal", "t"),
            switch("detach", "run in the background", "d"),
            value("user", "USER[:GROUP]", "who the program runs as", "u"),
            value("workdir", "DIR", "the working directory", "w"),
            many("env", "NAME=VALUE", "a variable of the environment; NAME alone takes this shell's", "e"),
            many("env-file", "FILE", "a file with one NAME=VALUE a line", complete="file"),
            switch("privileged", "all capabilities"),
            value("detach-keys", "KEYS", "keys that leave the program running (default ctrl-p,ctrl-q)"),
            value("timeout", "DURATION", "end it, and all that it left, after this time; the detach keys are off then"),
        ),
        least=2,
        passes_rest=1,
        operands="running",
        examples=(("exec -it web sh", "a shell"), ("exec -u nobody web id", "as somebody else")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Run a program in a container."""
    from corral.engine.option_values import parse_environment

    request: dict[str, Any] = {
        "command": line.args[1:],
        "env": parse_environment(line.values, context.environ),
        "terminal": line.has("tty"),
        "stdin": line.has("interactive"),
        "privileged": line.has("privileged"),
    }
    for name in ("user", "workdir"):
        if line.text(name):
            request[name] = line.text(name)
    timeout = line.seconds("timeout", 0) if line.text("timeout") else None
    if line.has("detach"):
        found = context.verb("exec", line.args[0], request, is_detached=True, timeout_s=timeout)
        write(f"{found['exec_id']}\n")
        return 0
    from corral.cli.foreground import Attached, Detached, Streams, code_of

    streams = Streams(line, stdin=line.has("interactive"), terminal=line.has("tty"))
    if timeout is not None:
        # Who has left cannot end it.
        streams.keys = b""

    made: list[Attached] = []

    def attach(monitor: Monitor) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        made.append(Attached(monitor, streams))
        made[0].follow(until)

    try:
        found = context.verb("exec", line.args[0], request, attach=attach, timeout_s=timeout)
    except Detached:
        return 0
    return made[0].code(code_of(found["exit"], line.args[0]))
