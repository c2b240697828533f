"""``corral attach``."""

from __future__ import annotations

from corral.cli.flags import Command, switch, value
from corral.errors import FailedPrecondition, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "attach",
        "CONTAINER",
        (
            value("detach-keys", "KEYS", "keys that leave the container running (default ctrl-p,ctrl-q)"),
            switch("no-stdin", "do not connect stdin"),
            switch("sig-proxy", "forward signals to the program (default true)"),
        ),
        least=1,
        most=1,
        operands="running",
        text="Output comes from now on; `logs` has what was before.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Connect with a running container."""
    from corral.cli.foreground import Attached, Detached, Proxy, Streams, follow_end
    from corral.engine.keeper import Monitor

    found = context.verb("inspect", line.args[0])
    status = found["state"]["status"]
    if status not in ("running", "paused", "stopping"):
        raise FailedPrecondition(
            f"attach to container {line.args[0]!r}: it is {status}", hint=f"corral start --attach {line.args[0]}"
        )
    process = found["process"]
    is_terminal = process.get("terminal", False)
    streams = Streams(line, stdin=process.get("stdin", False), terminal=is_terminal)
    try:
        monitor = Monitor.connect(context.places.container_run(found["id"]))
    except OSError as exc:
        raise Unavailable(f"attach to container {line.args[0]!r}: its monitor does not answer") from exc
    with monitor:
        attached = Attached(monitor, streams)
    is_proxy = line.values.get("sig-proxy") is not False and not is_terminal
    proxy = Proxy(context, found["id"], is_on=is_proxy)
    proxy.install()
    proxy.begin()
    try:
        attached.follow()
        return attached.code(follow_end(context, found["id"]))
    except Detached:
        return 0
    finally:
        proxy.remove()
