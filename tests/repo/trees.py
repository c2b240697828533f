"""The project's Python files as syntax trees, for the tests in this folder."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """All Python files below the given folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    """The path as it is written in the repository; for test ids and messages."""
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of one file."""
    return ast.parse(path.read_text(), filename=str(path))


def module_name(path: Path) -> str:
    """``src/corral/linux/caps.py`` -> ``corral.linux.caps``; a package is named without ``__init__``."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(path: Path, *, at_runtime: bool = False, at_import: bool = False) -> Iterator[tuple[str, int]]:
    """Modules that a file imports, with the line.

    ``at_runtime`` leaves out those for the type checker only; ``at_import`` also those inside functions.
    """
    pending: list[ast.AST] = [tree_of(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno} imports relatively"
            module = node.module or ""
            for alias in node.names:
                # `from corral.linux import caps` imports a module, `from corral.errors import NotFound` a name.
                submodule = SRC.joinpath(*module.split("."), f"{alias.name}.py")
                yield (f"{module}.{alias.name}" if submodule.exists() else module), node.lineno
        for child in ast.iter_child_nodes(node):
            if (at_runtime or at_import) and isinstance(child, ast.If) and _is_type_checking(child):
                pending.extend(child.orelse)
            elif not (at_import and isinstance(child, Function | ast.Lambda)):
                pending.append(child)


def functions_of(path: Path) -> Iterator[Function]:
    """All functions and methods of a file, nested ones too."""
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Function))
