"""``corral pull``."""

from __future__ import annotations

from corral.cli.container_flags import REGISTRY
from corral.cli.context import write
from corral.cli.flags import Command, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "pull",
        "IMAGE...",
        (
            *REGISTRY,
            value("platform", "OS/ARCH", "which image of a list, as in linux/arm64"),
            value("policy", "POLICY", "when to fetch (default always)", complete="always|missing|never|newer"),
            switch("quiet", "print nothing but ids", "q"),
        ),
        least=1,
        operands="image",
        text="Layers are fetched in parallel and checked while they come; a broken transfer goes on where it was.",
        examples=(("pull alpine:3.20", "from the registry that short names mean"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Fetch images."""
    from corral.cli.pulling import fetch

    for name in line.args:
        image = fetch(line, context, name, line.text("policy", "always"))
        write(f"{image.id.removeprefix('sha256:')}\n")
    return 0
