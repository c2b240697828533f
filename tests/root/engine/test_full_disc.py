"""A store without any room left: removing is what makes room, so it needs none."""

from __future__ import annotations

from pathlib import Path

import pytest

from root.engine.apart import python, see_apart
from root.engine.conftest import Engine

pytestmark = pytest.mark.requires("root")

WORKER = Path(__file__).with_name("full_disc.py")


@pytest.mark.parametrize("how", ["live", "ended"])
def test_container_is_removed_when_it_has_filled_the_store(engine: Engine, tmp_path: Path, how: str) -> None:
    """S4.12: whoever fills the disc, living or not, can be removed from it."""
    assert work(tmp_path, how) == {"said": "", "left": [], "events": ["remove"]}


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_container_is_ended_when_the_store_is_full(engine: Engine, tmp_path: Path, verb: str) -> None:
    """Also one that its policy starts again: it does not, and how it ended is known when there is room again."""
    assert work(tmp_path, verb) == {"code": 137, "runs": 1}


def test_looking_needs_no_room(engine: Engine, tmp_path: Path) -> None:
    """An end that cannot be followed up for want of space is shown all the same, and followed up later."""
    assert work(tmp_path, "look") == {"ps": [["ended", "exited"]], "inspect": "exited", "code": 3}


def work(tmp_path: Path, how: str) -> object:
    """What full_disc.py prints, on a file system of two megabytes that nobody else sees."""
    place = tmp_path / "small"
    place.mkdir()
    seen: object = see_apart(f"mount -t tmpfs -o size=2m,mode=755 none {place} && exec {python(WORKER, place, how)}")
    return seen
