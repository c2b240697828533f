"""``corral top``: all containers, live; or the processes of one."""

from __future__ import annotations

import sys

from corral.cli.flags import Command, switch, value
from corral.cli.render import print_json, print_list, size_binary, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.cli.render import Shown

COMMANDS = (
    Command(
        "top",
        "[CONTAINER]",
        (
            value("format", "json|TEMPLATE", "with a container: print JSON, or each process by a template"),
            value("interval", "DURATION", "without one: time between two looks (default 1s)", "i"),
            switch("once", "without one: a single look, as where stdout is no terminal"),
            switch("all", "without one: show those too that do not live", "a"),
        ),
        most=1,
        operands="running",
        text="Without a container: a live view of pods and containers, their control groups, CPU, memory, pressure and "
        "OOM kills; q ends it. With one: its processes, and where in the kernel each waits.",
    ),
)
_COLUMNS = (
    ("PID", "Pid"),
    ("INSIDE", "Inside"),
    ("UID", "Uid"),
    ("S", "State"),
    ("CPU", "Cpu"),
    ("MEMORY", "Memory"),
    ("ELAPSED", "Elapsed"),
    ("WAITS IN", "Wchan"),
    ("COMMAND", "Command"),
)


def run(line: Line, context: Context) -> int:
    """Show processes, or the live view."""
    if not line.args:
        from corral.cli.live import Live

        live = Live(line, context, interval_s=line.seconds("interval", 1.0), is_all=line.has("all"))
        if line.has("once") or not sys.stdout.isatty():
            live.print_once()
        else:
            live.run()
        return 0
    rows = context.verb("top", line.args[0])
    if line.text("format") == "json":
        print_json(rows)
    else:
        print_list(line, [(row, _shown(row)) for row in rows], _COLUMNS)
    return 0


def _shown(row: dict[str, Any]) -> Shown:
    return {
        "Pid": row["pid"],
        "Inside": row["pid_inside"],
        "Uid": row["uid"],
        "State": row["state"],
        "Cpu": f"{row['cpu_s']:.1f}s",
        "Memory": size_binary(row["memory_bytes"]),
        "Elapsed": span(row["elapsed_s"]),
        "Wchan": "" if row["wchan"] == "0" else row["wchan"],
        "Command": row["command"],
    }
