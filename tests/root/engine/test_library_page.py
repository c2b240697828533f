"""docs/python-library.md is a program that runs as it is written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from repo.trees import ROOT
from root.cgroup.test_library_page import program
from root.engine.conftest import Engine

PAGE = ROOT / "docs" / "python-library.md"
pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]


def test_python_page_runs_as_it_is_written(engine: Engine, tmp_path: Path) -> None:
    """From the first line to the last, with every statement of it asserted."""
    script = tmp_path / "page.py"
    script.write_text(re.sub(r"/example\b", engine.places.store, program(PAGE.read_text())))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("->") == 2
