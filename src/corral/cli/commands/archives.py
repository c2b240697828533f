"""``corral save``, ``load`` and ``import``."""

from __future__ import annotations

import posix

from corral.cli.context import is_terminal, write
from corral.cli.flags import Command, many, switch, value
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.image.store import ImageStore

COMMANDS = (
    Command(
        "save",
        "IMAGE...",
        (
            value("output", "FILE", "where to write (default stdout)", "o", "file"),
            value(
                "format",
                "FORMAT",
                "the archive's form (default docker-archive)",
                "",
                "docker-archive|oci-archive|oci-dir",
            ),
            switch("quiet", "print nothing", "q"),
        ),
        least=1,
        operands="image",
        examples=(("save -o alpine.tar alpine", "for docker load, podman load, corral load"),),
    ),
    Command(
        "load",
        "[FILE]",
        (
            value("input", "FILE", "what to read: an archive or an OCI layout (default stdin)", "i", "file"),
            value("platform", "OS/ARCH", "which image of a list"),
            switch("quiet", "print nothing but names", "q"),
        ),
        most=1,
        operands="file",
        text="Reads docker-archives, OCI archives and layouts, compressed or not; `-` or nothing means stdin.",
    ),
    Command(
        "import",
        "FILE|DIRECTORY|- [NAME]",
        (
            many("change", "INSTRUCTION", "an instruction as in a Dockerfile, as in 'CMD [\"sh\"]'", "c"),
            value("message", "TEXT", "a comment in the image's history", "m"),
            value("platform", "OS/ARCH", "what the image is for (default: this machine)"),
            switch("quiet", "print nothing but the id", "q"),
        ),
        least=1,
        most=2,
        operands="file",
        text="Makes an image of one layer: a root filesystem as a tar or as a directory.",
    ),
)


def run(line: Line, context: Context) -> int:
    """Write or read archives."""
    from corral.image.store import ImageStore

    store = ImageStore(context.places.images)
    if line.command == "save":
        return _save(line, store)
    if line.command == "load":
        return _load(line, store)
    from corral.image.compose import Making, import_image

    making = Making(
        name=line.args[1] if len(line.args) > 1 else "",
        changes=tuple(line.texts("change")),
        message=line.text("message"),
        platform=line.text("platform"),
        created_by="corral import",
    )
    image = import_image(store, _source(line.args[0]), making)
    write(f"{image.id}\n")
    return 0


def _source(path: str) -> str | int:
    return 0 if path == "-" else path


def _save(line: Line, store: ImageStore) -> int:
    from corral.engine.option_values import parse_choice
    from corral.image.save import FORMATS, save

    output = line.text("output")
    form = next(item for item in FORMATS if item == parse_choice("format", line.text("format", FORMATS[0]), FORMATS))
    if not output and is_terminal(1):
        raise InvalidArgument("save: stdout is a terminal", hint="give --output FILE, or send it to a pipe")
    save(store, line.args, output if output and output != "-" else posix.dup(1), archive=form)
    return 0


def _load(line: Line, store: ImageStore) -> int:
    from corral.image.load import load

    path = line.args[0] if line.args else line.text("input", "-")
    if path == "-" and is_terminal(0):
        raise InvalidArgument("load: stdin is a terminal", hint="give --input FILE, or send an archive to stdin")
    for image in load(store, _source(path), platform=line.text("platform")):
        for name in image.names or [image.id]:
            write(f"{name}\n" if line.has("quiet") else f"loaded {name}\n")
    return 0
