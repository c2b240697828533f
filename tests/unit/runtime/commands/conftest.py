"""Commands against a state root of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.runtime.commands.command_lines import Run, runner


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty state root."""
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("list", "-q")`` gives exit code, stdout and stderr."""
    return runner(root, capsys)
