"""The arithmetic of ``make bench``: a wrong median would be believed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from repo.trees import ROOT

spec = importlib.util.spec_from_file_location("corral_bench_report", ROOT / "tools" / "bench_report.py")
assert spec is not None
assert spec.loader is not None
report = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = report
spec.loader.exec_module(report)


def costs(*milliseconds: float) -> dict[str, list[object]]:
    """What a candidate took for ``run``, CPU time being half of it."""
    return {"run": [report.Cost(value / 1000, value / 2000, 2048) for value in milliseconds]}


RESULTS = {
    "corral, cold": costs(10, 30, 20),
    "corral, resident": costs(2, 2, 2),
    "runc 1.1": costs(10, 10, 40),
    "runc 1.3": costs(40, 40, 40),
    "crun 1.8": costs(4, 4, 4),
    "kernel's floor": costs(1, 1, 1),
}


def test_table_shows_medians_and_the_median_of_each_rounds_ratio() -> None:
    """Ratios are taken within a round and refer to the first runc; 10/10, 30/10 and 20/40 have the median 1."""
    lines = report.table(RESULTS).splitlines()
    assert "| run | corral, cold | 20.0 | 10.0 | 2.0 | 1.00 | 2.00 |" in lines
    assert "| run | runc 1.1 | 10.0 | 5.0 | 2.0 | 1.00 | 1.00 |" in lines


def test_targets_say_no_where_one_is_missed() -> None:
    """A target is met up to its limit; one for which a candidate is missing is left out."""
    lines = report.targets({**RESULTS, "corral, cold": costs(12, 12, 48)}).splitlines()
    assert "| `run`, cold, wall time to runc 1.1 | 1.00 | 1.20 | no |" in lines
    assert "| `run`, resident, wall time to runc 1.1 | 0.35 | 0.20 | yes |" in lines
    assert "| run, resident, wall time to crun 1.8 | 1.00 | 0.50 | yes |" in lines
    assert not [line for line in lines if "five calls" in line]


def test_results_replace_only_what_stands_between_the_marks(tmp_path: Path) -> None:
    """What people wrote around the results stays; a file without marks is refused."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_between_marks(path, "new")
    assert path.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    path.write_text("no marks\n")
    with pytest.raises(ValueError, match="no marks"):
        report.write_between_marks(path, "new")
