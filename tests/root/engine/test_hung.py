"""S4.6 on a file system that hangs: processes in state D, which not even SIGKILL ends, and what comes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from root.engine.apart import python, see_apart
from root.engine.conftest import Engine

pytestmark = pytest.mark.requires("root")

WORKER = Path(__file__).with_name("hung.py")


def play(tmp_path: Path, scene: str) -> dict[str, Any]:
    """What hung.py prints, in a mount namespace whose file system nobody else can walk into."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this host has no /dev/fuse")
    folder = tmp_path / "hung"
    folder.mkdir()
    seen: dict[str, Any] = see_apart(f"exec {python(WORKER, folder, scene)}")
    return seen


def check_words(text: str, pid: int) -> None:
    """The error names who is left, in which state, waiting where, and what was tried."""
    assert text.startswith("stop container 'hung': ")
    assert f"pid {pid} (" in text
    assert "(cat) state D" in text
    assert "request_wait_answer" in text
    assert "SIGKILL to every process of its cgroup" in text


@pytest.mark.parametrize("who", ["init", "child"])
def test_s4_6_stop_says_where_it_waits_when_its_file_system_hangs(engine: Engine, tmp_path: Path, who: str) -> None:
    """In time and without a claim; others go on; when the file system is given up, it ends with nobody's help."""
    seen = play(tmp_path, f"stop-{who}")
    for text in (seen["first"], seen["again"]):
        check_words(text, seen["pid"])
    assert "D" in seen["views"]["states"]
    assert {seen["views"]["ps"], seen["views"]["inspect"]} <= {"running", "stopping"}
    assert (seen["views"]["stats"], seen["views"]["output"]) == ("hung", ["before"])
    assert (seen["views"]["reconciled"], seen["other"], seen["is_live"]) == ([], 137, True)
    assert (seen["code"], seen["source"]) == (137, "observed")
    assert seen["events"].count("died") == 1


@pytest.mark.parametrize("who", ["init", "child"])
def test_s4_14_rm_is_finished_when_its_file_system_is_given_up(engine: Engine, tmp_path: Path, who: str) -> None:
    """Refused in words as long as a process is left; then it goes by itself, and its name is free."""
    seen = play(tmp_path, f"rm-{who}")
    for text in (seen["first"], seen["again"]):
        check_words(text, seen["pid"])
    assert (seen["is_taken"], "D" in seen["views"]["states"]) == (True, True)
    assert seen["events"][-2:] == ["died", "remove"]
