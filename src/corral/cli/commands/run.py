"""``corral run``."""

from __future__ import annotations

from corral.cli.container_flags import ATTACH, CONTAINER
from corral.cli.context import write
from corral.cli.flags import Command
from corral.cli.making import definition_of, make_room, write_cidfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "run",
        "IMAGE [COMMAND [ARG...]]",
        (*CONTAINER, *ATTACH),
        least=1,
        passes_rest=1,
        operands="image",
        text="IMAGE is an image's name, or `host`: this machine's own root filesystem, read-only below a layer of the "
        "container's own. Without -d it stays in the foreground and ends with the program's exit code.",
        examples=(
            ("run --rm host -- echo hello", "no image needed"),
            ("run --rm -it alpine", "a shell, on this terminal"),
            ("run -d --name web -p 8080:80 nginx", "in the background"),
            ("run --rm --memory 64m --network none host -- ./job", "with limits, without a network"),
        ),
    ),
)


def run(line: Line, context: Context) -> int:
    """Create a container and start it."""
    definition = definition_of(line, context)
    container_id = str(definition["id"])
    make_room(line, context)
    if line.has("detach"):
        context.verb("run", definition)
        write_cidfile(line, container_id)
        write(f"{container_id}\n")
        return 0
    from corral.cli.foreground import Session, Streams

    process = definition["process"]
    if process.get("stdin"):
        process["stdin_once"] = True
    streams = Streams(line, stdin=process.get("stdin", False), terminal=process.get("terminal", False))
    proxies = line.values.get("sig-proxy") is not False and not streams.terminal
    with Session(context, container_id, streams, proxies=proxies) as session:
        context.verb("run", definition, before_release=session.before_release)
        write_cidfile(line, container_id)
        return session.finish()
