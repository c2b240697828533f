"""``corral logs``."""

from __future__ import annotations

import sys

from corral.cli.flags import Command, switch, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from corral.cli.context import Context
    from corral.cli.flags import Line
    from corral.engine.logs import Entry

COMMANDS = (
    Command(
        "logs",
        "CONTAINER",
        (
            switch("follow", "go on with what is written, until the container ends", "f"),
            value("tail", "N", "the last N lines alone (default all)", "n"),
            value("since", "TIME", "from this time on: 10m, 2026-01-02T15:04:05, or seconds since 1970"),
            value("until", "TIME", "up to this time"),
            switch("timestamps", "begin each line with its time", "t"),
            switch("names", "begin each line with the container's name"),
        ),
        least=1,
        most=1,
        operands="container",
        text="What went to stdout comes on stdout, what went to stderr on stderr.",
        examples=(("logs -f --tail 20 web", "the last 20 lines, and what follows"),),
    ),
)


def run(line: Line, context: Context) -> int:
    """Show output."""
    tail = line.text("tail")
    entries = context.verb(
        "logs",
        line.args[0],
        follow=line.has("follow"),
        tail=None if tail in ("", "all", "-1") else line.number("tail", 0),
        **times(line),
    )
    from corral.cli.render import moment

    streams: dict[str, BinaryIO] = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    begun = dict.fromkeys(streams, True)
    last = ""
    for entry in entries:
        prefix = f"{line.args[0]} " if line.has("names") else ""
        prefix += f"{moment(entry.time_ns)} " if line.has("timestamps") else ""
        if last and last != entry.stream:
            streams[last].flush()
        last = entry.stream
        _write(entry, prefix if begun[last] else "", streams[last], flush=line.has("follow"))
        begun[last] = not entry.is_partial
    return 0


def _write(entry: Entry, prefix: str, stream: BinaryIO, *, flush: bool) -> None:
    stream.write(prefix.encode("utf-8", "surrogateescape") + entry.data + (b"" if entry.is_partial else b"\n"))
    if flush:
        stream.flush()


def times(line: Line) -> dict[str, int | None]:
    """``--since`` and ``--until`` as nanoseconds since 1970, for a verb."""
    from corral.engine.times import parse_time

    found: dict[str, int | None] = {}
    if line.text("since"):
        found["since_ns"] = parse_time(line.text("since"))
    if line.text("until"):
        found["until_ns"] = parse_time(line.text("until"))
    return found
