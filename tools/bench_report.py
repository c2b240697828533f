"""The results of ``make bench`` as text: medians, ratios within rounds, and how near each target is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "table", "targets", "write_between_marks"]

BEGIN, END = "<!-- results of make bench -->", "<!-- end of results -->"
OPERATIONS = ("run", "five calls", "exec")
COLD, RESIDENT, FLOOR = "corral, cold", "corral, resident", "kernel's floor"


@dataclass(slots=True)
class Cost:
    """What one operation took: wall and CPU seconds, peak resident KiB of its largest process."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_kib: int = 0

    def add(self, other: Cost) -> None:
        """Sum times; memory is a peak."""
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.peak_kib = max(self.peak_kib, other.peak_kib)


Results = dict[str, dict[str, list[Cost]]]


def base_of(results: Results) -> str:
    """The runtime that ratios refer to: this system's runc, which is the first."""
    return next((name for name in results if name.startswith("runc")), "")


def wall_ratio(results: Results, name: str, base: str, label: str) -> float | None:
    """The median of each round's own ratio; None without the two."""
    ours, theirs = results.get(name, {}).get(label), results.get(base, {}).get(label)
    if not ours or not theirs:
        return None
    return statistics.median(a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=True))


def table(results: Results) -> str:
    """All medians as a Markdown table."""
    base = base_of(results)
    lines = [
        f"| operation | runtime | wall ms | CPU ms | peak MiB | wall to {base or 'runc'} | CPU to {base or 'runc'} |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for label in OPERATIONS:
        for name, costs_of in results.items():
            costs = costs_of.get(label)
            if not costs:
                continue
            wall = statistics.median(cost.wall_s for cost in costs) * 1000
            cpu = statistics.median(cost.cpu_s for cost in costs) * 1000
            peak = max(cost.peak_kib for cost in costs) / 1024
            ratio, ratios = wall_ratio(results, name, base, label), "- | -"
            if ratio is not None:
                cpu_of_base = statistics.median(cost.cpu_s for cost in results[base][label]) * 1000
                ratios = f"{ratio:.2f} | {cpu / cpu_of_base:.2f}"
            lines.append(f"| {label} | {name} | {wall:.1f} | {cpu:.1f} | {peak:.1f} | {ratios} |")
    return "\n".join(lines)


def targets(results: Results) -> str:
    """Each target of the project beside what was measured, as a Markdown table."""
    base = base_of(results)
    wanted = [
        ("`run`, cold", COLD, base, "run", 1.0),
        ("five calls, cold", COLD, base, "five calls", 0.7),
        ("`run`, resident", RESIDENT, base, "run", 0.35),
        ("`run`, resident", RESIDENT, FLOOR, "run", 3.0),
    ]
    for name in results:
        if name.startswith("crun"):
            wanted += [(f"{label}, resident", RESIDENT, name, label, 1.0) for label in OPERATIONS]
    lines = ["| target | at most | measured | met |", "|---|--:|--:|---|"]
    for what, name, other, label, limit in wanted:
        ratio = wall_ratio(results, name, other, label)
        if ratio is not None:
            met = "yes" if ratio <= limit else "no"
            lines.append(f"| {what}, wall time to {other} | {limit:.2f} | {ratio:.2f} | {met} |")
    return "\n".join(lines)


def write_between_marks(path: Path, text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the two marks of a file. Raises: ValueError if it has none."""
    content = path.read_text()
    head, first, rest = content.partition(begin)
    _, last, tail = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{path} has no marks for results")
    path.write_text(f"{head}{first}\n\n{text}\n\n{last}{tail}")
