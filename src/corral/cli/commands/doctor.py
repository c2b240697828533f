"""``corral doctor``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import Command, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "doctor",
        flags=(switch("json", "print JSON"),),
        most=0,
        text="Checks what this host can do, by trying it, and says what to do about what it cannot.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Check the host: for the runtime, and for what the engine needs besides."""
    from corral.engine.doctor import report

    text, is_fine = report(context.environ, is_json=line.has("json"))
    write(text)
    return 0 if is_fine else 1
