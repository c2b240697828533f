"""``__all__`` says the truth."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from repo.trees import python_files, relative, tree_of


def assigned_names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [item.id for target in node.targets for item in ast.walk(target) if isinstance(item, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def exported(tree: ast.Module) -> list[str] | None:
    """The module's ``__all__``, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and assigned_names(node)[:1] == ["__all__"]:
            value = ast.literal_eval(node.value)
            assert isinstance(value, list | tuple)
            return [str(name) for name in value]
    return None


@pytest.mark.parametrize("path", python_files("src/corral", "native"), ids=relative)
def test_exported_names_exist_and_are_named_once(path: Path) -> None:
    """Every name in ``__all__`` is defined in the module, and stands there once."""
    tree = tree_of(path)
    names = exported(tree) or []
    # Definitions inside `if` and `try` at the top count as well.
    defined = {name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in assigned_names(node)}
    assert sorted(set(names) - defined) == []
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", python_files("src/corral"), ids=relative)
def test_everything_public_has_a_docstring(path: Path) -> None:
    """A module, and each public class and function at its top, says what it does."""
    tree = tree_of(path)
    missing = [] if ast.get_docstring(tree) else [relative(path)]
    missing += [
        f"{relative(path)}:{node.lineno} {node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert missing == []
