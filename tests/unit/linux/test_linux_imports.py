"""A cold plan pays for every import, so the modules of this layer bring in next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import corral.linux

FOLDER = Path(corral.linux.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")

# os and what it brings, and modules that are C or as good as.
ALLOWED = {
    *("os", "stat", "_stat", "posixpath", "genericpath", "os.path", "_collections_abc"),
    *("__future__", "errno", "struct", "_struct", "_socket", "itertools", "fcntl", "corral", "corral.errors"),
}


@pytest.mark.parametrize("module", MODULES)
def test_only_light_modules_come_in_when_imported(module: str) -> None:
    """Neither ctypes nor json, re, typing, enum ... at import time."""
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]);"
        "__import__(sys.argv[2]); print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-ISE", "-c", code, str(FOLDER.parents[1]), f"corral.linux.{module}"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    brought = {name for name in child.stdout.split() if not name.startswith("corral.linux")}
    assert set() == brought - ALLOWED
