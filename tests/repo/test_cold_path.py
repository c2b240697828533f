"""The import budget of the cold path: what one `create` pays before the first line of its own work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from repo.trees import SRC, module_name, python_files

# Each costs 5 to 70 ms of CPU time on the machine where the budget was set; a whole cold plan has 14.
HEAVY = frozenset(
    "argparse asyncio collections contextlib ctypes dataclasses decimal enum functools hashlib inspect json logging "
    "pathlib random re shutil signal socket subprocess tempfile threading traceback typing urllib uuid warnings".split()
)
# Seen by the type checker only; test_types_only_modules_are_never_imported holds that.
TYPES_ONLY = frozenset({"corral.oci.spec"})
# Parts above the runtime may import what they like, but for the modules that `run`, `start`, `exec` and `ps` need.
FREE = frozenset({"image", "network", "engine", "serve", "cli"})
COLD_ABOVE = frozenset(
    {
        "corral.image.store",
        *(f"corral.cli.commands.{name}" for name in ("exec", "internal", "ps", "run", "start", "stop")),
        *(f"corral.engine.verbs.{name}" for name in ("exec", "exited", "ps", "start", "stop")),
        *(f"corral.cli.{name}" for name in ("context", "flags", "foreground", "index", "main", "terminal")),
        "corral.engine.spec",
    }
)


def is_cold(module: str) -> bool:
    """Whether the budget holds for this module."""
    if module in TYPES_ONLY:
        return False
    return module in COLD_ABOVE or "." not in module or module.split(".")[1] not in FREE


MODULES = [name for name in map(module_name, python_files("src/corral")) if is_cold(name)]

# What the interpreter itself loads is not ours to save: only what the import adds counts.
SCRIPT = """
import sys
sys.path.insert(0, {src!r})
before = set(sys.modules)
import {module}
print(*sorted(set(sys.modules) - before), sep="\\n")
"""


def modules_loaded_by(module: str) -> set[str]:
    """Import one module as the planner's interpreter does, and say what came along."""
    command = [sys.executable, "-ISE", "-c", SCRIPT.format(src=str(SRC), module=module)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_nothing_heavy(module: str) -> None:
    """Importing any module of the runtime loads none of the heavy parts of the standard library."""
    loaded = {name.split(".")[0] for name in modules_loaded_by(module)}
    assert sorted(loaded & HEAVY) == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("corral.runtime")])
def test_types_only_modules_are_never_imported_by_the_runtime(module: str) -> None:
    """The TypedDicts exist for the type checker: at run time nobody pays for them."""
    assert sorted(modules_loaded_by(module) & TYPES_ONLY) == []
