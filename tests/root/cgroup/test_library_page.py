"""docs/cgroup-library.md is a program that runs as it is written there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import corral
from corral.cgroup import CgroupfsLocation, members_of, open_group, place, read_layout, remove_group
from corral.errors import NotFound
from repo.trees import ROOT

PAGE = ROOT / "docs" / "cgroup-library.md"
pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]


def program(text: str) -> str:
    """The page's blocks one after the other, each where it stands in the page, so that an error names its line."""
    lines = text.splitlines()
    is_code = False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            is_code = line == "```python"
        lines[number] = line if is_code and not line.startswith("```") else ""
    return "\n".join(lines) + "\n"


def test_library_page_runs_as_it_is_written(mark: str, tmp_path: Path) -> None:
    """From the first block to the last, on this host's hierarchies, with every statement of the page asserted."""
    script = tmp_path / "page.py"
    script.write_text(re.sub(r"/example\b", f"/{mark}", program(PAGE.read_text())))
    environment = {**os.environ, "PYTHONPATH": str(Path(corral.__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(script)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    finally:
        # Of a page that breaks off.
        layout = read_layout()
        left = members_of(layout, place(CgroupfsLocation(f"/{mark}"), layout))
        with contextlib.suppress(NotFound), open_group(left) as group:
            group.kill_all(signal.SIGKILL, deadline_s=10)
        remove_group(left, deadline_s=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert "-> " in done.stdout
