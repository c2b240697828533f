"""Lists on stdout: a table for people, JSON or a template for programs; and how times and sizes read.

A row that is shown has two faces: ``raw``, what the verb answered, which is what ``--format json`` prints, and
``shown``, texts under the names that Docker's and Podman's templates use.
"""

from __future__ import annotations

import sys
import time

from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from corral.cli.flags import Line

    Raw = dict[str, object]
    Shown = dict[str, object]
    Column = tuple[str, str]  # heading, name in Shown

_GAP = "  "
_STEPS = ((60.0, "second"), (60.0, "minute"), (24.0, "hour"), (7.0, "day"), (52.0, "week"))


def print_list(
    line: Line,
    rows: Sequence[tuple[Raw, Shown]],
    columns: Sequence[Column],
    *,
    quiet: str = "ID",
    blank: Mapping[str, object] | None = None,
) -> None:
    """Print rows as the command line asks: ``--quiet``, ``--format``, or the table of ``columns``.

    ``quiet``: what --quiet prints of each row. ``blank``: a row's face, by which a template is checked where there are
    no rows: a script must not learn only later that a field is misspelt.
    """
    template = line.text("format")
    if blank and not rows and template not in ("", "json", "table"):
        _check_fields(template, blank)
    if line.has("quiet") and not template:
        _write(f"{row[quiet]}\n" for _, row in rows)
    elif template == "json":
        _write([dumps([raw for raw, _ in rows], indent=2), "\n"])
    elif template and not template.startswith("table"):
        print_template(template, [{**raw, **row} for raw, row in rows])
    elif template and template != "table":
        _print_template_table(template, rows)
    else:
        heading = () if line.has("noheading") else tuple(head for head, _ in columns)
        print_table(heading, [[_text(row.get(name)) for _, name in columns] for _, row in rows])


class Blank(dict[str, "Any"]):
    """A row of which nothing is known."""

    def __missing__(self, key: str) -> str:
        return ""


def _check_fields(text: str, blank: Mapping[str, object]) -> None:
    from corral.cli.template import Template, look_up, no_field

    for name in Template(text.removeprefix("table").lstrip()).roots():
        # The names of the library's rows are written small, and not known here.
        if name[:1].isupper():
            try:
                look_up(blank, name)
            except KeyError:
                raise no_field(name, blank) from None


def print_template(text: str, values: Iterable[object]) -> None:
    """Print each value by a template, a line each unless the template ends its lines itself."""
    from corral.cli.template import Template

    template = Template(text.replace("\\t", "\t").replace("\\n", "\n"))
    for value in values:
        rendered = template.render(value)
        _write([rendered if rendered.endswith("\n") else f"{rendered}\n"])


def _print_template_table(text: str, rows: Sequence[tuple[Raw, Shown]]) -> None:
    from corral.cli.template import Template

    template = Template(text.removeprefix("table").lstrip().replace("\\t", "\t"))
    heading = [_heading(name) for name in template.fields()]
    print_table(heading, [template.render({**raw, **row}).split("\t") for raw, row in rows])


def _heading(name: str) -> str:
    """``RunningFor`` -> ``RUNNING FOR``; ``ID`` stays."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in name).split()
    return name.upper() if all(len(word) == 1 for word in words) else " ".join(words).upper()


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell, two spaces between; no trailing blanks. ``heading`` may be empty."""
    lines = [list(heading), *rows] if heading else list(rows)
    if not lines:
        return
    count = max(len(cells) for cells in lines)
    widths = [max((len(cells[index]) for cells in lines if index < len(cells)), default=0) for index in range(count)]
    _write(
        _GAP.join(f"{printable(cell):<{widths[index]}}" for index, cell in enumerate(cells)).rstrip() + "\n"
        for cells in lines
    )


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    _write([dumps(value, indent=2), "\n"])


def _write(parts: Iterable[str]) -> None:
    for part in parts:
        sys.stdout.write(part)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor: names and labels come from strangers."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def short_id(full: str, line: Line | None = None) -> str:
    """The first 12 digits, or all of them with --no-trunc."""
    digits = full.removeprefix("sha256:")
    return digits if line is not None and line.has("no-trunc") else digits[:12]


def size(count: float) -> str:
    """Bytes as people read them: ``1.21MB``, powers of 1000 as Docker and Podman have them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.4g}{unit}" if unit != "B" else f"{int(count)}B"


def size_binary(count: float) -> str:
    """Bytes in powers of 1024: ``64MiB``; for memory."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.4g}{unit}" if unit != "B" else f"{int(count)}B"


def span(seconds: float) -> str:
    """A length of time in words: ``5 minutes``, ``About an hour``."""
    amount = max(0.0, seconds)
    steps = list(_STEPS)
    length, unit = steps.pop(0)
    while amount >= length:
        amount /= length
        length, unit = steps.pop(0) if steps else (float("inf"), "year")
    count = int(amount)
    if unit == "second" and count < 1:
        return "Less than a second"
    return f"{count} {unit}{'' if count == 1 else 's'}"


def ago(then_ns: int) -> str:
    """``5 minutes ago``; empty for no time."""
    return f"{span(time.time() - then_ns / 1e9)} ago" if then_ns else ""


def moment(then_ns: int) -> str:
    """A time as ISO 8601 with the local zone's offset; empty for no time."""
    if not then_ns:
        return ""
    parts = time.localtime(then_ns // 10**9)
    zone = time.strftime("%z", parts)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', parts)}.{then_ns % 10**9 // 1000:06d}{zone[:3]}:{zone[3:]}"


def port_text(port: dict[str, object]) -> str:
    """``0.0.0.0:8080->80/tcp``."""
    address = str(port.get("host_ip") or "0.0.0.0")
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{port['host_port']}->{port['container_port']}/{port['protocol']}"
