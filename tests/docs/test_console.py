"""Every ``console`` block of the documents runs, and prints what it says: ``...`` stands for any text."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from root.cli.conftest import PROGRAM, Cli
from root.engine.conftest import Engine, engine

__all__ = ["engine"]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "cli.md"]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(match.group(1), id=f"{path.name}:{path.read_text()[: match.start()].count(chr(10)) + 1}")
    for path in DOCUMENTS
    for match in BLOCK.finditer(path.read_text())
]

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]


def commands(block: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a block: commands begin with ``$ ``."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, shown = found[-1]
            found[-1] = (command, f"{shown}{line}\n")
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """What a command prints, as an expression: ``...`` at the end of a line is any text."""
    parts = [re.escape(part) for part in re.split(r"\.\.\.$", shown, flags=re.MULTILINE)]
    return re.compile(".*".join(parts))


@pytest.mark.parametrize("block", BLOCKS)
def test_console_block_prints_what_it_says(block: str, engine: Engine, tmp_path: Path) -> None:
    """The commands one after the other, in one directory, with ``corral`` on a store of its own."""
    programs = tmp_path / "bin"
    programs.mkdir()
    wrapper = programs / "corral"
    places = " ".join(Cli(engine).words()[1:])
    wrapper.write_text(f'#!/bin/sh\nexec {PROGRAM} {places} "$@"\n')
    wrapper.chmod(0o755)
    for command, shown in commands(block):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert pattern(shown).fullmatch(done.stdout), f"$ {command}\n{done.stdout}"


def test_the_documents_have_console_blocks() -> None:
    """A change of the documents' form does not silently leave nothing to test."""
    assert len(BLOCKS) >= 8
