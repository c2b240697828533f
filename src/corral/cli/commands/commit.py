"""``corral commit``."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.flags import Command, many, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "commit",
        "CONTAINER [NAME]",
        (
            many("change", "INSTRUCTION", "an instruction as in a Dockerfile, as in 'CMD [\"sh\"]'", "c"),
            value("author", "NAME", "who made the image", "a"),
            value("message", "TEXT", "a comment in the image's history", "m"),
            switch("pause", "freeze the container meanwhile (default true)", "p"),
            switch("quiet", "print nothing", "q"),
            value("iidfile", "FILE", "write the image's id to a file", complete="file"),
        ),
        least=1,
        most=2,
        operands="container",
        examples=(("commit -c 'CMD [\"/srv/run\"]' web myimage", "with another command"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Make an image of a container."""
    request = {
        "name": line.args[1] if len(line.args) > 1 else "",
        "changes": line.texts("change"),
        "author": line.text("author"),
        "message": line.text("message"),
        "pause": line.values.get("pause") is not False,
    }
    made = context.verb("commit", line.args[0], request)
    if line.text("iidfile"):
        with open(line.text("iidfile"), "w", encoding="utf-8") as file:
            file.write(made["id"])
    if not line.has("quiet"):
        write(f"{made['id']}\n")
    return 0
