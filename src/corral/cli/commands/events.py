"""``corral events``."""

from __future__ import annotations

import sys

from corral.cli.commands.logs import times
from corral.cli.context import write
from corral.cli.flags import FILTER, FORMAT, Command, switch, value
from corral.cli.render import moment, printable, short_id
from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line

COMMANDS = (
    Command(
        "events",
        flags=(
            FILTER,
            FORMAT,
            value("since", "TIME", "from this time on: 10m, 2026-01-02T15:04:05, or seconds since 1970"),
            value("until", "TIME", "up to this time, and then end"),
            value("from", "NUMBER", "from the event after this number on; none is left out, a gap is shown"),
            switch("stream", "go on with what happens (default true)"),
            switch("no-trunc", "do not shorten ids"),
        ),
        most=0,
        text="Events are numbered and on file: who reads again from a number misses none.",
        examples=(
            ("events --since 10m --stream=false", "the last ten minutes"),
            ("events --filter event=oom --format json", "a line of JSON each"),
        ),
    ),
)


def run(line: Line, context: Context) -> int:
    """Show events."""
    from corral.engine.verbs import events

    options: dict[str, Any] = {"filters": line.texts("filter"), **times(line)}
    if line.text("from"):
        options["after"] = line.number("from", 0)
    found: Iterable[dict[str, Any]]
    if line.values.get("stream") is False or ("until_ns" in options and _is_past(options["until_ns"])):
        found = events.events(context.places, **options)
    else:
        if "since_ns" not in options:
            options.setdefault("after", None)
        found = events.follow(context.places, **options)
    show = _shower(line)
    for event in found:
        write(show(event) + "\n")
        sys.stdout.flush()
    return 0


def _is_past(moment_ns: int) -> bool:
    import time

    return moment_ns <= time.time_ns()


def _shower(line: Line) -> Any:  # noqa: ANN401 -- a function of an event
    template = line.text("format")
    if template == "json":
        return dumps
    if template:
        from corral.cli.template import Template

        compiled = Template(template)
        return lambda event: compiled.render({**event, **_named(event, line)})
    return lambda event: _text(event, line)


def _named(event: dict[str, Any], line: Line) -> dict[str, Any]:
    return {
        "ID": short_id(str(event.get("id", "")), line),
        "Type": event.get("type", ""),
        "Action": event.get("action", ""),
        "Status": event.get("action", ""),
        "Name": event.get("name", ""),
        "Time": moment(event.get("time_ns", 0)),
        "Attributes": event.get("attributes", {}),
        "Actor": {
            "ID": event.get("id", ""),
            "Attributes": {**event.get("attributes", {}), "name": event.get("name", "")},
        },
    }


def _text(event: dict[str, Any], line: Line) -> str:
    if event["type"] == "gap":
        return f"events {event['from']} to {event['to']} are gone"
    parts = {"name": event.get("name", ""), **event.get("attributes", {})}
    shown = ", ".join(f"{key}={_value(value)}" for key, value in parts.items() if value not in ("", {}, None))
    text = f"{moment(event['time_ns'])} {event['type']} {event['action']} {short_id(str(event['id']), line)} ({shown})"
    return printable(text)


def _value(value: object) -> str:
    return dumps(value) if isinstance(value, dict | list) else str(value)
