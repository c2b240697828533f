"""Put the modules of a cold plan into one file, so that a cold planner opens one file instead of fifty.

Used by hatch_build.py. The file belongs to one version of Python's bytecode, and says so in its name and in its first
bytes; any other interpreter imports the modules one by one, as ever. The launcher reads it (native/launcher).
"""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys
from pathlib import Path

__all__ = ["archive_name", "build_archive"]

# What create, run and exec may import, beyond what the session imports by itself.
_ROOTS = (
    "corral._boot",
    "corral.runtime.main",
    "corral.runtime.session",
    "corral.runtime.exec_",
    "corral.runtime.hints",
    "corral.linux.seccomp",
    "corral.linux.bpf_devices",
)
_LIST = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)\nprint(*sys.modules)"


def archive_name() -> str:
    """The file's name for this interpreter; it stands in the package's folder."""
    return f"planner.{sys.implementation.cache_tag}.bin"


def build_archive(source: Path, output: Path) -> Path:
    """Compile the modules below ``source`` (the folder that holds the package) into ``output``.

    The content: the magic number of the bytecode (16 bytes, padded with NUL), then a marshalled dict of name ->
    (is a package, marshalled code): code is only made of what is imported. Docstrings are left out, they are a third of the bytes.
    """
    listed = subprocess.run(
        [sys.executable, "-ISE", "-c", _LIST, str(source), *_ROOTS], check=True, capture_output=True, text=True
    )
    modules = {}
    for name in listed.stdout.split():
        if name != "corral" and not name.startswith("corral."):
            continue
        stem = source.joinpath(*name.split("."))
        is_package = stem.is_dir()
        path = stem / "__init__.py" if is_package else stem.with_suffix(".py")
        shown = str(path.relative_to(source))
        code = compile(path.read_bytes(), shown, "exec", dont_inherit=True, optimize=2)
        modules[name] = (is_package, marshal.dumps(code))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(importlib.util.MAGIC_NUMBER.ljust(16, b"\0") + marshal.dumps(modules))
    return output
