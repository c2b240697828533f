"""Stores that are not what they should be: somebody else's, or everybody's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from root.engine.conftest import DEADLINE_S
from root.serve.conftest import CORRAL

pytestmark = pytest.mark.requires("root")


def _corral(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CORRAL, "--store", str(store), *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


@pytest.mark.parametrize(
    ("owner", "mode", "why"), [(48713, 0o755, "it belongs to uid 48713"), (0, 0o757, "everybody may write there")]
)
@pytest.mark.parametrize("words", [("ps",), ("gc",), ("create", "host", "true"), ("serve",)], ids=" ".join)
def test_a_store_that_another_user_can_change_is_not_believed(
    tmp_path: Path, owner: int, mode: int, why: str, words: tuple[str, ...]
) -> None:
    """Its definitions would be carried out with our rights. Nothing is made there, and nothing is read."""
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(mode)
    os.chown(store, owner, owner)
    done = _corral(store, *words)
    assert 125 == done.returncode
    assert f"use the store {store}: {why}" in done.stderr
    assert "hint: choose one of your own with --store DIR" in done.stderr
    assert [] == list(store.iterdir())


def test_a_store_behind_a_link_of_our_own_is_used(tmp_path: Path) -> None:
    """What counts is the directory that it leads to."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert 0 == _corral(tmp_path / "link", "ps").returncode
