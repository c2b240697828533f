"""The architecture as a table: who may import whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo.trees import SRC, imports_of, module_name, python_files, relative

# Folder or module below corral -> what of corral it may import. ARCHITECTURE.md explains it; this table *is* it.
LAYERS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "linux": frozenset({"errors"}),
    "oci": frozenset({"errors"}),
    "cgroup": frozenset({"errors", "linux", "oci"}),
    "runtime": frozenset({"errors", "linux", "oci", "cgroup"}),
    "image": frozenset({"errors", "linux", "oci"}),
    "network": frozenset({"errors", "linux", "oci"}),
    "engine": frozenset({"errors", "linux", "oci", "cgroup", "runtime", "image", "network"}),
    "serve": frozenset({"errors", "linux", "oci", "cgroup", "image", "network", "engine"}),
    "cli": frozenset({"errors", "linux", "oci", "cgroup", "image", "network", "engine", "serve"}),
    "_boot": frozenset({"runtime", "cli"}),
    "_cold": frozenset(),
}
FILES = python_files("src/corral")


def part_of(module: str) -> str:
    """``corral.linux.caps`` -> ``linux``; the package itself is ''."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_strictly_downward(path: Path) -> None:
    """A part imports itself and the parts that the table allows, also inside functions and for types."""
    own = part_of(module_name(path))
    if own == "":
        # The package's own names for programs, loaded when they are first asked for.
        allowed: frozenset[str] = frozenset({"engine"})
    else:
        assert own in LAYERS, f"{relative(path)}: {own!r} has no row in the table of layers"
        allowed = LAYERS[own] | {own}
    found = [
        f"{relative(path)}:{line} imports {name}"
        for name, line in imports_of(path)
        if (name == "corral" or name.startswith("corral.")) and part_of(name) and part_of(name) not in allowed
    ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_ctypes_is_used_only_by_the_kernel_layer(path: Path) -> None:
    """Only corral.linux speaks to the kernel by ctypes, and imports it inside functions (it costs 5 ms)."""
    own = part_of(module_name(path))
    anywhere = [line for name, line in imports_of(path) if name.split(".")[0] == "ctypes"]
    at_import = [line for name, line in imports_of(path, at_import=True) if name.split(".")[0] == "ctypes"]
    assert ([] if own == "linux" else anywhere) == []
    assert at_import == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_layer_imports_asyncio_or_runs_a_shell_below_the_engine(path: Path) -> None:
    """What the runtime is made of is synchronous: no event loop, no threads with namespaces about."""
    if part_of(module_name(path)) in ("image", "network", "engine", "serve", "cli"):
        return
    found = [name for name, _line in imports_of(path) if name.split(".")[0] in ("asyncio", "threading", "concurrent")]
    assert found == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """The graph of imports at run time has no cycle, functions' imports included."""
    names = {module_name(path) for path in FILES}
    graph = {
        module_name(path): {name for name, _line in imports_of(path, at_runtime=True) if name in names}
        for path in FILES
    }
    removed = True
    while removed:
        leaves = {name for name, wanted in graph.items() if not wanted & graph.keys()}
        removed = bool(leaves)
        graph = {name: wanted for name, wanted in graph.items() if name not in leaves}
    assert sorted(graph) == []


def test_every_folder_of_the_package_has_a_row_in_the_table() -> None:
    """A new part of the package takes its place in the architecture before it may exist."""
    parts = {path.stem if path.is_file() else path.name for path in (SRC / "corral").iterdir()}
    assert sorted(parts - set(LAYERS) - {"__init__", "__pycache__", "py"}) == []
