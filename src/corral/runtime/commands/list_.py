"""``list``: all containers of a state root, as runc prints them."""

from __future__ import annotations

import sys

from corral.errors import CorralError, InvalidArgument
from corral.oci.json import dumps
from corral.runtime.containers import absolute_root
from corral.runtime.log import warn
from corral.runtime.record import Record, list_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
# runc's table: cells at least 12 wide, 3 blanks between them.
_CELL_MIN = 12
_PADDING = 3


def run(line: CommandLine) -> int:
    """Print the table, the JSON array (null when empty, as runc does), or the ids."""
    kind = line.text("format", "table")
    if kind not in ("table", "json"):
        raise InvalidArgument(f"list: flag --format: {kind!r} is neither 'table' nor 'json'")
    root = absolute_root(line)
    if line.flag("quiet"):
        sys.stdout.write("".join(f"{name}\n" for name in list_ids(root)))
        return 0
    entries = _entries(root, line)
    if kind == "json":
        sys.stdout.write(dumps(entries or None) + "\n")
    else:
        sys.stdout.write(_table(entries))
    return 0


def _entries(root: str, line: CommandLine) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for name in list_ids(root):
        try:
            record = Record(root, name)
        except CorralError as exc:
            # Deleted while we looked, or of another version: the others are still worth listing.
            warn(f"skip container {name!r}: {exc}", log=line.text("log"), log_format=line.text("log-format", "text"))
            continue
        state = record.state
        entry: dict[str, object] = {
            "ociVersion": state["ociVersion"],
            "id": name,
            "pid": record.pid,
            "status": record.visible_status,
            "bundle": state["bundle"],
            "rootfs": state["rootfs"],
            "created": state["created"],
        }
        if state.get("annotations"):
            entry["annotations"] = state["annotations"]
        entry["owner"] = state["owner"]
        entries.append(entry)
    return entries


def _table(entries: list[dict[str, object]]) -> str:
    rows = [_COLUMNS, *(tuple(str(entry[name.lower()]) for name in _COLUMNS) for entry in entries)]
    widths = [max(_CELL_MIN, *(len(row[column]) + _PADDING for row in rows)) for column in range(len(_COLUMNS) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1])
    return "\n".join(lines) + "\n"
