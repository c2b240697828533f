"""Generated files are what their generators make of their sources."""

from __future__ import annotations

import subprocess
import sys

from repo.trees import ROOT


def test_table_of_steps_is_what_steps_def_says() -> None:
    """src/corral/runtime/steps.py and native/executor/steps.def agree to the letter: one list, two languages."""
    command = [sys.executable, str(ROOT / "tools" / "gen_steps.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
