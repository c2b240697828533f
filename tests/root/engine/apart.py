"""Workers of tests in a mount namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["python", "run_apart", "see_apart"]

TIMEOUT_S = 240


def python(worker: Path, *words: object) -> str:
    """The words of a shell that run a worker."""
    return " ".join(map(str, [sys.executable, worker, *words]))


def run_apart(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own; what it starts finds the modules that this process does."""
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        timeout=TIMEOUT_S,
    )


def see_apart(script: str) -> Any:
    """The JSON that the script printed; it ended well and had nothing else to say."""
    done = run_apart(script)
    assert (done.stderr, done.returncode) == ("", 0), f"{done.returncode}: {done.stderr}"
    return json.loads(done.stdout)
