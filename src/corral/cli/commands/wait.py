"""``corral wait``."""

from __future__ import annotations

from corral.cli.context import complain, write
from corral.cli.flags import Command, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "wait",
        "CONTAINER...",
        (
            value(
                "condition",
                "STATE",
                "what to wait for (default exited)",
                complete="exited|running|paused|removed|next-exit|healthy|unhealthy",
            ),
            value("timeout", "DURATION", "how long to wait at most"),
            switch("ignore", "a container that is not there is no error", "i"),
        ),
        least=1,
        operands="container",
        text="Prints the exit code of each container, `unknown` where nobody can know it. A container that its restart "
        "policy starts again has not ended: it is waited for until the policy gives up, or somebody stops it. "
        "`--condition next-exit` waits for one end.",
        examples=(("wait web", "until it has ended"), ("wait --condition healthy web", "until it is healthy")),
    ),
)


def run(line: Line, context: Context) -> int:
    """Wait for containers."""
    from corral.errors import NotFound

    timeout = line.seconds("timeout", 0) if line.text("timeout") else None
    for name in line.args:
        try:
            result = context.verb("wait", name, condition=line.text("condition", "exited"), timeout_s=timeout)
        except NotFound as exc:
            if not line.has("ignore"):
                raise
            complain(f"warning: {exc}\n")
            continue
        end = result.get("exit") or {}
        if "code" in end:
            code = end["code"]
            write(f"{'unknown' if code is None else code}\n")
    return 0
