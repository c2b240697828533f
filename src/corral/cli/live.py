"""The live view of ``corral top``: pods and containers with CPU, memory, pressure and OOM kills."""

from __future__ import annotations

import posix
import select
import sys
import time

from corral.cli.commands.stats import sample, with_rates
from corral.cli.render import printable, short_id, size_binary
from corral.cli.rows import status_text
from corral.cli.terminal import RawMode, size_or_none
from corral.linux.procfs import read_cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cli.context import Context
    from corral.cli.flags import Line

    Samples = dict[str, dict[str, Any]]

_HEADING = ("NAME", "STATUS", "CPU %", "MEMORY", "LIMIT", "PEAK", "PIDS", "PRESSURE cpu/mem/io", "OOM", "CGROUP")
_RIGHT = frozenset((2, 3, 4, 5, 6, 8))
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_FIRST_S = 0.2
_QUIT = b"qQ\x03\x1b"


class Live:
    """Looks and draws. Nothing but the two looks of a rate is remembered."""

    def __init__(self, line: Line, context: Context, *, interval_s: float, is_all: bool) -> None:
        self._line = line
        self._context = context
        self._interval_s = interval_s
        self._is_all = is_all
        self._before: Samples = {}

    def print_once(self) -> None:
        """One look, as plain text."""
        self._look()
        time.sleep(_FIRST_S)
        for text in self._draw(self._look(), 0):
            sys.stdout.write(f"{text}\n")

    def run(self) -> None:
        """Draw until q is pressed, on a screen of its own."""
        self._look()
        wait = _FIRST_S
        sys.stdout.write(_ENTER)
        try:
            with RawMode(0):
                poll = select.poll()
                poll.register(0, select.POLLIN)
                while not (poll.poll(wait * 1000) and _is_quit()):
                    rows, columns = size_or_none(1) or (24, 80)
                    lines = self._draw(self._look(), columns)[: rows - 1]
                    body = "".join(f"{text}{_CLEAR_LINE}\r\n" for text in lines)
                    sys.stdout.write(f"{_HOME}{body}{_CLEAR_REST}")
                    sys.stdout.flush()
                    wait = self._interval_s
        finally:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()

    def _look(self) -> list[dict[str, Any]]:
        """All containers, each with its sample where it lives."""
        rows: list[dict[str, Any]] = self._context.verb("ps", is_all=self._is_all, pods=True)
        now = sample([], self._context)
        rated = {row["id"]: row for row in with_rates(now, self._before)}
        self._before = now
        for row in rows:
            row["sample"] = rated.get(row["id"], {})
        return rows

    def _draw(self, rows: list[dict[str, Any]], columns: int) -> list[str]:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["status"]] = counts.get(row["status"], 0) + 1
        shown = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "no containers"
        total = sum(row["sample"].get("cpu_percent", 0.0) for row in rows)
        memory = sum(row["sample"].get("memory_bytes", 0) for row in rows)
        title = f"{shown}; CPU {total:.1f}%, memory {size_binary(memory)}; {self._context.places.store}"
        cells = [self._cells(row, indent) for row, indent in _by_pod(rows)]
        lines = [title, *_host_pressure(), "", *_columns([list(_HEADING), *cells])]
        if columns:
            lines = [printable(text)[:columns] for text in lines]
            lines = [f"{_BOLD}{text}{_PLAIN}" if text.startswith("NAME") else text for text in lines]
        return lines

    def _cells(self, row: dict[str, Any], indent: str) -> list[str]:
        used = row["sample"]
        name = f"{indent}{row.get('name') or short_id(row['id'])}"
        if not used:
            return [name, status_text(row), *[""] * 7, ""]
        limit = used["memory_limit_bytes"]
        return [
            name,
            status_text(row),
            f"{used['cpu_percent']:.1f}",
            size_binary(used["memory_bytes"]),
            size_binary(limit) if limit else "-",
            size_binary(used["memory_peak_bytes"]) if used.get("memory_peak_bytes") else "-",
            str(used["pids"]),
            _pressure(used.get("pressure", {})),
            str(used["oom_kills"]),
            self._group(row),
        ]

    def _group(self, row: dict[str, Any]) -> str:
        """The container's control group, as its first process sees it from here."""
        try:
            found = read_cgroups(row["pid"])
        except ProcessLookupError:
            return ""
        return max(found.values(), key=len, default="")


def _is_quit() -> bool:
    return posix.read(0, 16)[:1] in [bytes((key,)) for key in _QUIT] + [b""]


def _by_pod(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Containers of a pod together, below the one that holds it."""
    pods: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        pods.setdefault(row.get("pod", ""), []).append(row)
    ordered = [(row, "") for row in pods.pop("", [])]
    for members in pods.values():
        members.sort(key=lambda row: not row.get("is_infra"))
        ordered += [(row, "  " if number else "") for number, row in enumerate(members)]
    return ordered


def _pressure(found: dict[str, Any]) -> str:
    """The share of the last 10 s in which some process waited, in percent."""
    parts = [found[name].get("some", {}).get("avg10") if name in found else None for name in ("cpu", "memory", "io")]
    return "/".join("-" if part is None else f"{part:.0f}" for part in parts)


def _host_pressure() -> list[str]:
    parts = []
    for name in ("cpu", "memory", "io"):
        try:
            with open(f"/proc/pressure/{name}", encoding="ascii") as file:
                words = dict(word.partition("=")[::2] for word in file.readline().split()[1:])
            parts.append(f"{name} {words['avg10']}%")
        except (OSError, KeyError):
            continue
    return [f"host pressure (10 s): {', '.join(parts)}"] if parts else []


def _columns(lines: list[list[str]]) -> list[str]:
    widths = [max(len(cells[index]) for cells in lines) for index in range(len(_HEADING))]
    return [
        "  ".join(
            f"{cell:>{widths[index]}}" if index in _RIGHT else f"{cell:<{widths[index]}}"
            for index, cell in enumerate(cells)
        ).rstrip()
        for cells in lines
    ]
