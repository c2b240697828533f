"""``corral push``."""

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
        "push",
        "IMAGE [DESTINATION]",
        (
            *REGISTRY,
            value("digestfile", "FILE", "write the manifest's digest to a file", complete="file"),
            switch("quiet", "print nothing but the digest", "q"),
        ),
        least=1,
        most=2,
        operands="image",
        text="Prints the digest of the manifest at the registry.",
        examples=(("push myimage registry.example.org/team/myimage:1", "under another name"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Send an image."""
    from corral.cli.progress import Bars
    from corral.cli.pulling import access_of
    from corral.image.push import push
    from corral.image.store import ImageStore

    destination = line.args[1] if len(line.args) > 1 else ""
    with Bars(f"pushing {line.args[0]}", is_quiet=line.has("quiet")) as bars:
        store = ImageStore(context.places.images)
        digest = push(
            store,
            line.args[0],
            destination.removeprefix("docker://"),
            access=access_of(line),
            on_progress=bars.update,
        )
    if line.text("digestfile"):
        with open(line.text("digestfile"), "w", encoding="utf-8") as file:
            file.write(digest)
    write(f"{digest}\n")
    return 0
