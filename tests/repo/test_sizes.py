"""Small parts: the budgets for modules, functions and parameters, in Python and in C."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from repo.trees import ROOT, functions_of, python_files, relative

MODULE_LINES = 500
FUNCTION_LINES = 60
POSITIONAL_PARAMETERS = 5

PYTHON = python_files("src", "tests", "native", "tools")
C_FILES = sorted(path for path in (ROOT / "native").rglob("*") if path.suffix in (".c", ".h"))


def positional_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many arguments can be passed by position, without self or cls."""
    names = [item.arg for item in (*node.args.posonlyargs, *node.args.args)]
    return len([name for name in names if name not in ("self", "cls")])


def c_functions(text: str) -> list[tuple[int, int]]:
    """(first line, length) of each function in the project's C style: the closing brace stands in column 0."""
    found, start = [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        opens = line.startswith("{") or bool(re.search(r"\)[^=]*\{$", line))
        if not start and opens:
            start = number
        elif line.startswith("}"):
            if start and line.rstrip() == "}":
                found.append((start, number - start + 1))
            start = 0
    return found


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_modules_have_at_most_500_lines(path: Path) -> None:
    """A module that grows past the budget holds two things: split it."""
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_functions_have_at_most_60_lines(path: Path) -> None:
    """A function is read on one screen."""
    long = [
        f"{relative(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in functions_of(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", python_files("src", "native", "tools"), ids=relative)
def test_functions_take_at_most_five_positional_parameters(path: Path) -> None:
    """More of them are mixed up by callers: make them keywords."""
    wide = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for node in functions_of(path)
        if positional_parameters(node) > POSITIONAL_PARAMETERS
    ]
    assert wide == []


@pytest.mark.parametrize("path", C_FILES, ids=relative)
def test_c_files_have_at_most_500_lines(path: Path) -> None:
    """The C programs are to be reviewed by one person: no file past the budget."""
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", C_FILES, ids=relative)
def test_c_functions_have_at_most_60_lines(path: Path) -> None:
    """The same screen for C."""
    long = [
        f"{relative(path)}:{line} has {length} lines"
        for line, length in c_functions(path.read_text())
        if length > FUNCTION_LINES
    ]
    assert long == []
