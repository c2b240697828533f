"""A store in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A store with its directories."""
    made = Places(str(tmp_path / "store"))
    made.prepare()
    return made
