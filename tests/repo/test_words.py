"""The wording of errors, and words that have no place in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from repo.trees import ROOT, python_files, relative, tree_of

BANNED = ("unable to", "failed to", "internal error", "an error occurred", "something went wrong")
KINDS = frozenset(
    "CorralError InvalidArgument NotFound AlreadyExists FailedPrecondition PermissionDenied ResourceExhausted "
    "Unsupported Unavailable Timeout Internal".split()
)
# Hints must not hold what callers search for in messages: podman and containerd match on these words.
MATCHED_BY_CALLERS = ("permission denied", "operation not permitted", "no such file or directory")
SOURCES = python_files("src")
C_FILES = sorted(path for path in (ROOT / "native").rglob("*") if path.suffix in (".c", ".h", ".def"))


def text_of(node: ast.AST) -> str:
    """The constant text inside an expression, with {} for each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def error_calls(path: Path) -> list[ast.Call]:
    """Calls that make one of Corral's errors."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in KINDS:
                found.append(node)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_raised_errors_avoid_words_that_say_nothing(path: Path) -> None:
    """A message names the operation, the object and the cause, so it needs none of the empty phrases."""
    texts = [
        text_of(node)
        for raised in (*(n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Raise)), *error_calls(path))
        for node in ast.walk(raised)
    ]
    assert [text for text in texts if any(word in text.lower() for word in BANNED)] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_error_messages_are_lower_case_without_full_stop(path: Path) -> None:
    """``<operation> <object>: <cause>``: begins in lower case (a name may be upper) and ends without a stop."""
    texts = [text_of(call.args[0]) for call in error_calls(path) if call.args]
    assert [text for text in texts if re.match(r"[A-Z][a-z]", text) or text.endswith(".")] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_hints_avoid_words_that_callers_match_on(path: Path) -> None:
    """Podman takes 'no such file or directory' anywhere in an error for a missing program: hints avoid it."""
    hints = [text_of(keyword.value) for call in error_calls(path) for keyword in call.keywords if keyword.arg == "hint"]
    assert [hint for hint in hints if any(word in hint.lower() for word in MATCHED_BY_CALLERS)] == []


@pytest.mark.parametrize("path", C_FILES, ids=relative)
def test_c_strings_avoid_words_that_say_nothing(path: Path) -> None:
    """The same for the C programs' texts."""
    strings = re.findall(r'"(?:[^"\\]|\\.)*"', path.read_text())
    assert [text for text in strings if any(word in text.lower() for word in BANNED)] == []


def tracked_files() -> list[Path]:
    """What a clone of the repository holds; outside of one (an unpacked sdist), nothing to say."""
    result = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_some_developers_machine() -> None:
    """The repository reads the same wherever it is cloned."""
    private = tuple(f"/{first}/{second}" for first, second in (("work", "main"), ("work", "shared"), ("tmp", "brief")))
    found = []
    for path in tracked_files():
        text = path.read_text(errors="replace")
        found += [f"{relative(path)}: {word}" for word in private if word in text]
    assert found == []


def test_todo_comments_name_an_issue() -> None:
    """A TODO without a number is a wish that nobody tracks."""
    pattern = re.compile(r"(#|//|/\*)\s*(TODO|FIXME|XXX)\b(?!.*#\d+)")
    found = [
        f"{relative(path)}:{number}"
        for path in (*python_files("src", "native", "tools"), *C_FILES)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []
