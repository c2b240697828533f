"""What ``run`` and ``create`` share: from the command line to a definition, with the image fetched."""

from __future__ import annotations

import posix

from corral.engine.names import make_id
from corral.engine.options import definition_from
from corral.engine.places import is_rootless
from corral.errors import AlreadyExists, CorralError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.engine.definition import Definition


def definition_of(line: Line, context: Context) -> Definition:
    """The definition that the command line asks for, with an id. Pulls the image by the policy of ``--pull``."""
    cidfile = line.text("cidfile")
    if cidfile and _exists(cidfile):
        raise AlreadyExists(f"--cidfile {cidfile!r}: the file exists", hint="remove it, or choose another")
    definition = definition_from(
        line.values,
        line.args[0],
        line.args[1:],
        environ=context.environ,
        cwd=context.cwd,
        is_rootless=is_rootless(),
    )
    definition["id"] = make_id()
    if definition["root"]["kind"] == "image":
        from corral.cli.pulling import ensure_image

        ensure_image(line, context, definition["root"]["image"])
    return definition


def _exists(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def make_room(line: Line, context: Context) -> None:
    """``--replace``: remove the container that has the name."""
    name = line.text("name")
    if line.has("replace") and name:
        try:
            context.verb("rm", name, force=True)
        except NotFound:
            return


def write_cidfile(line: Line, container_id: str) -> None:
    """Write the id to ``--cidfile``."""
    path = line.text("cidfile")
    if not path:
        return
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise CorralError(f"write --cidfile {path!r}: {(exc.strerror or '').lower()}") from exc
    posix.write(fd, container_id.encode())
    posix.close(fd)
