"""Commands that do one thing to several objects: go on past one that does not work, and tell by the exit code."""

from __future__ import annotations

from corral.cli.context import write
from corral.cli.main import exit_code, report
from corral.errors import CorralError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.cli.context import Context
    from corral.cli.flags import Line


def for_each(line: Line, names: Sequence[str], act: Callable[[str], object], *, ignore_missing: bool = False) -> int:
    """Do ``act`` to each name and print the name when it is done; the exit code of the first error, else 0."""
    code = 0
    for name in names:
        try:
            act(name)
        except CorralError as exc:
            if ignore_missing and exc.kind == "not-found":
                continue
            report(exc)
            code = code or exit_code(exc, line.command)
            continue
        write(f"{name}\n")
    return code


def chosen(line: Line, context: Context, statuses: Sequence[str] = ()) -> list[str]:
    """The containers that a command names, by argument, ``--all``, ``--filter``, ``--cidfile`` or ``--latest``.

    ``statuses``: what --all means; empty: every container. Raises: InvalidArgument if nothing is named.
    """
    names = list(line.args)
    for path in line.texts("cidfile"):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            names.append(file.read().strip())
    filters = line.texts("filter")
    if line.has("all") or filters:
        rows = context.verb("ps", is_all=True, filters=filters)
        names += [row["id"] for row in rows if filters or not statuses or row["status"] in statuses]
    elif line.has("latest"):
        names += [row["id"] for row in context.verb("ps", is_all=True, last=1)]
    elif not names:
        raise InvalidArgument(f"{line.command}: no container named", hint="name containers, or give --all")
    return names
