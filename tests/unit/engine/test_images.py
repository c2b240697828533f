"""corral.engine.images: what a container knows of its image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from corral.engine import files
from corral.engine.images import read_image
from corral.engine.places import Places
from corral.image.store import ImageStore
from corral.oci.json import dumps
from unit.engine.containers import ID, make

TAKEN: dict[str, Any] = {"id": "sha256:1", "config": {"user": "7"}, "chains": ["sha256:b", "sha256:a"]}
DEFINITION: dict[str, Any] = {"id": ID, "root": {"kind": "image", "image_id": "sha256:1"}}


def image_of(store: ImageStore, image_id: str) -> Any:
    """The image that ``TAKEN`` was taken from."""
    layers = [SimpleNamespace(chain_id="sha256:a"), SimpleNamespace(chain_id="sha256:b")]
    return SimpleNamespace(id=image_id, config={"user": "7"}, layers=layers)


@pytest.mark.parametrize("length", [None, 0, 12])
def test_image_is_asked_when_its_copy_was_cut_off(
    places: Places, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    """The copy is not synced: after a loss of power the container has the same root and the same defaults."""
    monkeypatch.setattr(ImageStore, "by_id", image_of)
    make(places)
    if length is not None:
        files.replace(f"{places.container(ID)}/image.json", dumps(TAKEN).encode()[:length])
    assert read_image(places, DEFINITION) == TAKEN


def test_copy_counts_when_it_is_whole(places: Places) -> None:
    """What was taken at create holds, whatever the store has become since."""
    make(places)
    files.write_object(f"{places.container(ID)}/image.json", TAKEN)
    assert read_image(places, DEFINITION) == TAKEN


def test_nothing_is_asked_when_the_root_is_no_image(places: Places) -> None:
    """The host's root has no config."""
    make(places)
    assert read_image(places, {"id": ID, "root": {"kind": "host"}}) == {}
