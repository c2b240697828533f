"""``corral doctor``."""

from __future__ import annotations

import posix

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
    """Check the host: this is corral-runtime's work."""
    from corral.engine.programs import find_program

    program = find_program("corral-runtime")
    posix.execv(program, [program, "doctor", *(["--json"] if line.has("json") else [])])
