"""``corral serve``."""

from __future__ import annotations

from corral.cli.flags import Command, switch, value
from corral.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "serve",
        flags=(
            value("group", "GROUP", "members of this group may connect as well (name or number)"),
            value("log-format", "FORMAT", "text or json (default text)"),
            switch("quiet", "log warnings only", "q"),
        ),
        most=0,
        text="Serves this store at RUN/serve.sock until SIGTERM: HTTP and JSON, described by /openapi.json, with "
        "/metrics, /healthz and /readyz. Commands of the same user then work through it, which is faster. Containers "
        "do not depend on it.",
        examples=(("serve", "in the foreground, for a service manager"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Serve until a signal."""
    import asyncio

    try:
        from corral.serve.service import Service
    except ModuleNotFoundError as exc:
        raise Unsupported(
            f"serve: the package {exc.name} is not installed", hint="install corral with what it depends on"
        ) from exc
    from corral.serve.logs import set_up

    set_up(line.text("log-format", "text"), is_quiet=line.has("quiet"))
    places = context.places
    service = Service(places.store, places.run, group=_group(line.text("group")))
    asyncio.run(service.run())
    return 0


def _group(text: str) -> int | None:
    if not text or text.isdigit():
        return int(text) if text else None
    import grp

    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise InvalidArgument(f"serve: flag --group: there is no group {text!r}") from None
