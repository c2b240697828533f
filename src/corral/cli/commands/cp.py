"""``corral cp``."""

from __future__ import annotations

from corral.cli.flags import Command, switch
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "cp",
        "[CONTAINER:]SOURCE [CONTAINER:]TARGET",
        (
            switch("archive", "keep owners (default true)", "a"),
            switch("follow-link", "a link as SOURCE means what it points to", "L"),
        ),
        least=2,
        most=2,
        operands="container",
        text="`-` as SOURCE reads a tar from stdin, `-` as TARGET writes one to stdout. SOURCE/. copies the content of "
        "a directory. Works whether the container runs or not; links are followed inside the container only.",
        examples=(
            ("cp web:/etc/nginx.conf .", "out of a container"),
            ("cp site/. web:/srv", "into one"),
            ("cp web:/srv - | tar t", "as a tar"),
        ),
    ),
)


def run(line: Line, context: Context) -> int:
    """Copy files."""
    from corral.engine.verbs import cp

    source, target = (_end(word) for word in line.args)
    is_archive = line.values.get("archive") is not False
    if source == {"path": "-"} and "container" in target:
        cp.cp_from_tar(context.places, 0, target["container"], target["path"], is_archive=is_archive)
    elif target == {"path": "-"} and "container" in source:
        cp.cp_to_tar(context.places, source["container"], source["path"], 1, is_followed=line.has("follow-link"))
    elif "container" in source or "container" in target:
        cp.cp(context.places, source, target, is_followed=line.has("follow-link"), is_archive=is_archive)
    else:
        raise InvalidArgument(
            f"cp {line.args[0]!r} {line.args[1]!r}: neither is in a container", hint="write CONTAINER:PATH for one"
        )
    return 0


def _end(word: str) -> dict[str, str]:
    """``CONTAINER:PATH``, or a path of this host; ``./a:b`` and ``/a:b`` are paths."""
    name, colon, path = word.partition(":")
    if not colon or not name or "/" in name or name.startswith("."):
        return {"path": word}
    return {"container": name, "path": path}
