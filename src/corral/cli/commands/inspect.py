"""``corral inspect``."""

from __future__ import annotations

from corral.cli.flags import SHORT_FORMAT, Command, switch, value
from corral.cli.render import print_json, print_template
from corral.errors import CorralError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line

KINDS = ("container", "image", "volume", "network", "pod")

COMMANDS = (
    Command(
        "inspect",
        "NAME...",
        (
            SHORT_FORMAT,
            value("type", "KIND", "what to look for (default: whatever has the name)", complete="|".join(KINDS)),
            switch("effective", "for each limit: what was asked for, what the kernel has, and which group binds"),
            switch("size", "count what the writable layer holds", "s"),
        ),
        least=1,
        operands="any",
        text="Prints a JSON list. In templates Docker's names work too: {{.State.Status}}, {{.Config.Image}}.",
        examples=(
            ("inspect web", "everything"),
            ("inspect --effective web", "with the limits as they are in the kernel"),
            ("inspect --format '{{.State.ExitCode}}' web", "one thing"),
        ),
    ),
)


def run(line: Line, context: Context) -> int:
    """Show objects."""
    from corral.engine.option_values import parse_choice

    kind = line.text("type")
    kinds = (parse_choice("type", kind, KINDS),) if kind else KINDS
    found: list[Any] = []
    code = 0
    for name in line.args:
        try:
            found.append(_find(name, kinds, line, context))
        except NotFound as exc:
            from corral.cli.main import report

            report(exc)
            code = 1
    if line.text("format") and line.text("format") != "json":
        print_template(line.text("format"), [_with_docker_names(item) for item in found])
    else:
        print_json(found)
    return code


def _find(name: str, kinds: tuple[str, ...], line: Line, context: Context) -> dict[str, Any]:
    error: CorralError | None = None
    for kind in kinds:
        try:
            found: dict[str, Any]
            if kind == "container":
                found = context.verb("inspect", name, effective=line.has("effective"), size=line.has("size"))
            elif kind == "image":
                from corral.image.store import ImageStore

                found = ImageStore(context.places.images).resolve(name).to_json()
            else:
                found = context.verb(f"{kind}_inspect", name)
        except CorralError as exc:
            # A name that cannot be one of this kind is not one of this kind.
            if exc.kind not in ("not-found", "invalid-argument") or len(kinds) == 1:
                raise
            error = error or exc
        else:
            return found
    hint = "`corral ps -a`, `corral images`, `corral volume ls` list what there is"
    raise NotFound(f"inspect {name!r}: there is no {' or '.join(kinds)} of this name", hint=hint) from error


def _with_docker_names(item: dict[str, Any]) -> dict[str, Any]:
    """Also what Docker's templates ask for most."""
    from corral.cli.docker_names import container_names, image_names

    if "process" in item:
        return {**item, **container_names(item)}
    if "layers" in item:
        return {**item, **image_names(item)}
    return item
