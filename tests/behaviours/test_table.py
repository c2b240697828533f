"""The generator of docs/behaviours.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import behaviours

CASES = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_s0_1_one[x]"/><testcase classname="tests.a" name="test_s0_1_one[y]"/>
<testcase classname="tests.a" name="test_s1_4_and_s1_5_two"><failure>no</failure></testcase>
<testcase classname="tests.a" name="test_s2_6_three"><skipped type="pytest.xfail"/></testcase>
<testcase classname="tests.a" name="test_other"/>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("test_s0_1_a", ["S0.1"]),
        ("test_s1_4_and_s1_5_a", ["S1.4", "S1.5"]),
        ("test_s2_13_a", ["S2.13"]),
        ("test_paths", []),
        ("test_its0_1_a", []),
    ],
)
def test_name_tells_the_statements(name: str, found: list[str]) -> None:
    """As many as are named, and none of a name that only looks alike."""
    assert behaviours.statements_of(name) == found


def test_table_tells_what_passed_where_and_what_did_not(tmp_path: Path) -> None:
    """Host first; a failure is told, an unproven statement too, and both make the exit code."""
    host, cells, output = tmp_path / "host.xml", tmp_path / "cells", tmp_path / "page.md"
    (cells / "v2-6.1").mkdir(parents=True)
    host.write_text(CASES)
    (cells / "v2-6.1" / "junit-0.xml").write_text(CASES)
    arguments = ["--host", str(host), "--cells", str(cells), "--output", str(output)]
    assert behaviours.main(arguments) == 1
    page = output.read_text()
    rows = {line.split(" | ")[0]: line.split(" | ", 1)[1] for line in page.splitlines() if line.startswith("| S")}
    assert rows["| S0.1"] == "2 | 2 |"
    assert rows["| S1.5"] == "**1 failed** | **1 failed** |"
    assert rows["| S2.6"] == "**1 expected to fail** | **1 expected to fail** |"
    assert (
        "| S0.2 | with systemd the leaf is `prefix-id.scope` under the pod's slice, user namespace or not | **" in page
    )
    assert "| | host | v2-6.1 |" in page
    assert "- `tests/a.py::test_s0_1_one`\n" in page


def test_every_statement_has_a_test() -> None:
    """By name, somewhere below tests/."""
    names = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    words = {name: "s" + name[1:].replace(".", "_") + "_" for name in behaviours.STATEMENTS}
    assert [
        name for name, word in words.items() if f"def test_{word}" not in names and f"_and_{word}" not in names
    ] == []
