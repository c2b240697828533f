"""``corral ps``."""

from __future__ import annotations

from corral.cli.flags import ALL, FILTER, FORMAT, NO_HEADING, NO_TRUNC, QUIET, Command, switch, value
from corral.cli.render import Blank, print_list
from corral.cli.rows import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "ps",
        flags=(
            ALL,
            FILTER,
            FORMAT,
            NO_HEADING,
            NO_TRUNC,
            QUIET,
            value("last", "N", "the N that were made last, whatever their state"),
            switch("latest", "the one that was made last, whatever its state", "l"),
            switch("pod", "show the pod too", "p"),
            value("sort", "FIELD", "sort by this field", complete="created|id|image|names|status|command"),
        ),
        most=0,
        text="Lists the containers that live; with --all those too that have ended or never ran.",
        examples=(
            ("ps -a", "all containers"),
            ("ps -q --filter status=exited", "ids of those that ended"),
            ("ps --format '{{.Names}} {{.Status}}'", "by a template"),
        ),
    ),
)
_COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "Created"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
)
_SORTS = {
    "created": "created_ns",
    "id": "id",
    "image": "image",
    "names": "name",
    "status": "status",
    "command": "command",
}


def run(line: Line, context: Context) -> int:
    """List containers."""
    last = 1 if line.has("latest") else line.number("last", 0)
    rows = context.verb("ps", is_all=line.has("all"), filters=line.texts("filter"), last=last)
    order = line.text("sort")
    if order:
        from corral.engine.option_values import parse_choice

        key = _SORTS[parse_choice("sort", order, tuple(_SORTS))]
        # One that cannot be read has next to nothing to sort by.
        rows.sort(key=lambda row: row["created_ns"] if key == "created_ns" else str(row.get(key, "")))
    columns = (*_COLUMNS, ("POD", "Pod")) if line.has("pod") else _COLUMNS
    print_list(line, [(row, container(row, line)) for row in rows], columns, blank=container(Blank(), line))
    return 0
