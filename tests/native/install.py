"""Running commands of an installation, for the tests in this folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, **environment: str) -> str:
    """Run a command; return what it printed."""
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}, cwd=ROOT.anchor
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
