"""``corral update``."""

from __future__ import annotations

from corral.cli.container_flags import LIMITS
from corral.cli.context import write
from corral.cli.flags import Command, value
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "update",
        "CONTAINER",
        (
            *LIMITS,
            value("restart", "POLICY", "the restart policy", complete="no|always|unless-stopped|on-failure"),
            value("health-cmd", "COMMAND", "another health check"),
            value("health-interval", "DURATION", "time between two checks"),
            value("health-timeout", "DURATION", "how long a check may take"),
            value("health-start-period", "DURATION", "how long a bad check does not count after the start"),
            value("health-retries", "N", "bad checks in a row until it is unhealthy"),
            value("health-on-failure", "ACTION", "what to do then", complete="none|kill|restart|stop"),
        ),
        least=1,
        most=1,
        operands="container",
        text="A running container has new limits at once, all of them or none.",
        examples=(("update --memory 256m --cpus 0.5 web", "other limits"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Change limits."""
    from corral.engine.option_process import parse_health, parse_restart
    from corral.engine.options import parse_resources

    found = {
        "resources": parse_resources(line.values, is_update=True),
        "restart": parse_restart(line.text("restart")),
        "health": parse_health(line.values),
    }
    changes = {name: what for name, what in found.items() if what}
    if not changes:
        raise InvalidArgument("update: nothing to change", hint="give a limit, as in --memory 256m, or --restart")
    result = context.verb("update", line.args[0], changes)
    write(f"{result['id']}\n")
    return 0
