"""The documents keep their form and name only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repo.trees import ROOT, relative

CHANGE_ORDER = ["Security", "Removed", "Deprecated", "Added", "Changed", "Fixed"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "adr").glob("*.md"))


def make_words() -> set[str]:
    """The targets of the Makefile that `make help` shows."""
    return set(re.findall(r"^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_documents_name_only_make_targets_that_exist(path: Path) -> None:
    """`make x` in a document is a target that `make help` lists."""
    named = set(re.findall(r"(?:`|^|    )make ([a-z]+(?:-[a-z]+)*)\b(?=[^a-z]|$)", path.read_text(), re.MULTILINE))
    assert sorted(named - make_words()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """A relative link names a file of the repository."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_readme_tells_the_two_commands() -> None:
    """A stranger finds `make run` and `make test` in the README."""
    text = (ROOT / "README.md").read_text()
    assert "make run" in text
    assert "make test" in text


def test_changelog_keeps_its_shape() -> None:
    """Keep a Changelog: Unreleased first, known sections only, in the project's order, each entry a bullet."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("[Unreleased]")
    for version in versions:
        sections = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert [name for name in sections if name not in CHANGE_ORDER] == []
        assert sections == sorted(sections, key=CHANGE_ORDER.index)
        body = [line for line in version.splitlines()[1:] if line and not line.startswith("### ")]
        assert [line for line in body if not line.startswith(("- ", "  "))] == []


def test_architecture_fits_two_hundred_lines() -> None:
    """ARCHITECTURE.md is read in one sitting."""
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("path", DECISIONS, ids=relative)
def test_decision_records_are_short_and_complete(path: Path) -> None:
    """An ADR: at most 60 lines, with context, decision, rejected alternatives and consequences."""
    text = path.read_text()
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
    assert len(text.splitlines()) <= 60
    for heading in ("## Context", "## Decision", "## Rejected", "## Consequences"):
        assert heading in text


def test_decision_records_have_numbers_of_their_own() -> None:
    """Two decisions never share a number."""
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers == sorted(set(numbers))


def test_ci_calls_make_test_and_nothing_else() -> None:
    """What CI proves, everybody can run."""
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
