"""``list``: runc's table and JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from unit.runtime.commands.command_lines import Run, make_container
from unit.runtime.test_record import live_as


def test_empty_root_is_listed_as_runc_does(run: Run) -> None:
    """The header alone; null as JSON; nothing for -q."""
    assert (0, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n", "") == run("list")
    assert (0, "null\n", "") == run("list", "--format", "json")
    assert (0, "", "") == run("list", "-q")


def test_missing_root_is_an_empty_one(run: Run, root: Path) -> None:
    """Nothing was ever made there."""
    root.rmdir()

    assert (0, "null\n", "") == run("list", "-f", "json")
    assert not root.exists()


def test_table_has_runcs_columns(run: Run, root: Path) -> None:
    """Cells of at least twelve, three blanks between them; the last is not padded."""
    make_container(root, "a-rather-long-name")
    live_as(make_container(root, "b"), os.getpid())
    code, out, _ = run("list")

    assert 0 == code
    pid = str(os.getpid()).ljust(12)
    assert [
        "ID                   PID         STATUS      BUNDLE      CREATED                          OWNER",
        "a-rather-long-name   0           stopped     /bundle     2026-01-02T03:04:05.000000006Z   root",
        f"b                    {pid}running     /bundle     2026-01-02T03:04:05.000000006Z   root",
    ] == out.splitlines()


def test_json_has_runcs_members(run: Run, root: Path) -> None:
    """Annotations only where there are some."""
    make_container(root, "a", annotations={"k": "v"})
    make_container(root, "b")
    _, out, _ = run("list", "--format=json")
    first, second = json.loads(out)

    assert {
        "ociVersion": "1.3.0",
        "id": "a",
        "pid": 0,
        "status": "stopped",
        "bundle": "/bundle",
        "rootfs": "/bundle/rootfs",
        "created": "2026-01-02T03:04:05.000000006Z",
        "annotations": {"k": "v"},
        "owner": "root",
    } == first
    assert "annotations" not in second


def test_quiet_prints_ids(run: Run, root: Path) -> None:
    """One a line, sorted."""
    make_container(root, "b")
    make_container(root, "a")

    assert (0, "a\nb\n", "") == run("list", "--quiet")


def test_damaged_record_does_not_hide_the_others(run: Run, root: Path) -> None:
    """It is skipped, with a warning that names it."""
    (make_container(root, "bad") / "state.json").write_text("{}")
    make_container(root, "good")
    code, out, err = run("list", "-f", "json")

    assert (0, ["good"]) == (code, [entry["id"] for entry in json.loads(out)])
    assert "warning: skip container 'bad'" in err


def test_odd_format_is_refused(run: Run) -> None:
    """By name."""
    code, out, err = run("list", "--format", "xml")

    assert (1, "", "list: flag --format: 'xml' is neither 'table' nor 'json'\n") == (code, out, err)


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
@pytest.mark.parametrize("words", [["c1"], ["--help"]])
def test_unsupported_commands_say_so_also_with_help(run: Run, command: str, words: list[str]) -> None:
    """podman takes a successful help for support."""
    code, out, err = run(command, *words)

    assert (1, "") == (code, out)
    assert err.startswith(f"{command}: not supported\nhint: ")
