"""``corral stats``."""

from __future__ import annotations

import sys
import time

from corral.cli.context import complain
from corral.cli.flags import FORMAT, NO_HEADING, NO_TRUNC, Command, switch, value
from corral.cli.render import print_list, short_id, size, size_binary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Shown

COMMANDS = (
    Command(
        "stats",
        "[CONTAINER...]",
        (
            FORMAT,
            NO_HEADING,
            NO_TRUNC,
            switch("no-stream", "one sample, then end (default where stdout is no terminal)"),
            value("interval", "DURATION", "time between two samples (default 1s)", "i"),
        ),
        operands="running",
        examples=(("stats --no-stream --format json", "one sample for a program"),),
    ),
)
_COLUMNS = (
    ("ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET IO", "NetIO"),
    ("BLOCK IO", "BlockIO"),
    ("PIDS", "PIDs"),
)
_CLEAR = "\x1b[H\x1b[J"
_FIRST_S = 0.2


def run(line: Line, context: Context) -> int:
    """Show what containers use."""
    is_stream = sys.stdout.isatty() and not line.has("no-stream")
    interval = line.seconds("interval", 1.0)
    # A rate needs two looks at the CPU time; the first two are close together, so that nobody waits for a number.
    now = sample(line.args, context, window_s=_FIRST_S)
    rows = list(now.values())
    if not rows and context.verb("ps"):
        from corral.engine.verbs.stats import NO_GROUP_HINT

        complain(f"stats: no running container has a control group to measure\nhint: {NO_GROUP_HINT}\n")
    while True:
        if is_stream:
            sys.stdout.write(_CLEAR)
        print_list(line, [(row, shown(row, line)) for row in rows], _COLUMNS)
        if not is_stream:
            return 0
        sys.stdout.flush()
        time.sleep(interval)
        before, now = now, sample(line.args, context)
        rows = with_rates(now, before)


def sample(names: list[str], context: Context, *, window_s: float = 0.0) -> dict[str, dict[str, Any]]:
    """One sample of each container, by id; with rates over ``window_s``."""
    return {str(row["id"]): row for row in context.verb("stats", names or None, window_s=window_s)}


def with_rates(now: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples with what they come to since those before."""
    from corral.engine.stats import add_rates

    return [add_rates(row, before.get(key)) for key, row in now.items()]


def shown(row: dict[str, Any], line: Line) -> Shown:
    """A sample as texts."""
    limit = row["memory_limit_bytes"]
    return {
        "ID": short_id(row["id"], line),
        "Container": short_id(row["id"], line),
        "Name": row["name"],
        "CPUPerc": f"{row['cpu_percent']:.2f}%",
        "MemUsage": f"{size_binary(row['memory_bytes'])} / {size_binary(limit) if limit else 'none'}",
        "MemPerc": f"{row['memory_percent']:.2f}%" if limit else "--",
        "NetIO": f"{size(row['net_received_bytes'])} / {size(row['net_sent_bytes'])}",
        "BlockIO": f"{size(row['io_read_bytes'])} / {size(row['io_write_bytes'])}",
        "PIDs": row["pids"],
    }
