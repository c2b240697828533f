"""``corral.cgroup`` as others see it: one package, all names, loaded when asked for."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import corral.cgroup
from repo.trees import ROOT

SOURCE = Path(corral.cgroup.__file__)


def typed_imports() -> dict[str, str]:
    """Name -> module, as the type checker is told."""
    nodes = [node for node in ast.walk(ast.parse(SOURCE.read_text())) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in nodes for alias in node.names if node.module != "__future__"}


@pytest.mark.parametrize("name", corral.cgroup.__all__)
def test_name_is_the_modules_when_asked_for(name: str) -> None:
    """At run time each name is what the type checker takes it for, and the module exports it."""
    module = importlib.import_module(typed_imports()[name])
    assert getattr(corral.cgroup, name) is getattr(module, name)
    assert name in module.__all__


def test_names_for_people_checkers_and_loading_are_the_same() -> None:
    """``__all__``, the typed imports and dir() do not drift apart."""
    assert sorted(corral.cgroup.__all__) == sorted(typed_imports())
    assert set(corral.cgroup.__all__) <= set(dir(corral.cgroup))


def test_importing_the_package_loads_none_of_its_modules() -> None:
    """A cold plan pays only for what it uses; one name loads what that name needs."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import corral.cgroup;"
        "print(*[name for name in sys.modules if name.startswith('corral.cgroup.')]);"
        "corral.cgroup.Member; print(*[name for name in sys.modules if name.startswith('corral.cgroup.')])"
    )
    command = [sys.executable, "-ISE", "-c", code, str(SOURCE.parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\ncorral.cgroup.member\n"


def test_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match=r"corral\.cgroup.*'nothing'"):
        _ = corral.cgroup.nothing  # type: ignore[attr-defined]


def test_page_of_the_library_names_only_what_there_is() -> None:
    """Every name that docs/cgroup-library.md imports from the package is one of its names."""
    text = (ROOT / "docs" / "cgroup-library.md").read_text()
    tree = ast.parse("\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "corral.cgroup"]
    named = {alias.name for node in nodes for alias in node.names}
    assert len(named) > 30
    assert sorted(named - set(corral.cgroup.__all__)) == []
