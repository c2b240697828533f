"""corral.engine.verbs.create: what is another's of the same id stays as it is."""

from __future__ import annotations

import fcntl
import os
from typing import Any

import pytest

from corral.engine import files, names
from corral.engine.places import Places
from corral.engine.reconcile import reconcile
from corral.engine.verbs.create import create
from corral.errors import AlreadyExists
from unit.engine.containers import ID, make


def request(**members: Any) -> dict[str, Any]:
    """Of a container on the host's root."""
    return {"root": {"kind": "host"}, "process": {"command": ["true"]}, "network": {"mode": "none"}, **members}


def test_create_spares_the_container_that_has_the_id(places: Places) -> None:
    """Refused, and the one that is there keeps its files and its name."""
    make(places)
    names.reserve(places, "web", ID)
    with pytest.raises(AlreadyExists, match="there is one with this id"):
        create(places, request(id=ID, name="web"))
    assert (names.find_id(places, "web"), names.list_ids(places)) == (ID, [ID])
    assert os.listdir(places.container(ID)) == ["definition.json"]
    assert not os.path.exists(f"{places.containers}/.new-{ID}")


def test_create_spares_what_another_process_is_making(places: Places) -> None:
    """Two make a pod's first container at once: who comes second takes nothing from who came first."""
    made = f"{places.containers}/.new-{ID}"
    os.mkdir(made)
    with open(f"{made}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names.reserve(places, "web", ID)
        with pytest.raises(AlreadyExists, match="another process is making it"):
            create(places, request(id=ID, name="web"))
        assert (os.listdir(made), os.readlink(f"{places.names}/web")) == (["lock"], ID)


def test_create_takes_the_place_of_one_that_broke_off(places: Places) -> None:
    """Its maker died: the same id can be made at once, without gc."""
    os.mkdir(f"{places.containers}/.new-{ID}")
    files.replace(f"{places.containers}/.new-{ID}/lock", b"")
    assert create(places, request(id=ID, name="web"))["id"] == ID
    assert names.list_ids(places) == [ID]


def test_an_image_is_kept_while_its_container_is_being_made(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease is there before the container: who tidies up meanwhile leaves it alone."""
    leases = f"{places.images}/leases"

    def lease(places: Places, container_id: str, _name: str, **_options: object) -> dict[str, Any]:
        os.makedirs(leases, exist_ok=True)
        files.replace(f"{leases}/container-{container_id}.json", b"{}")
        assert reconcile(places) == []
        return {"id": "sha256:0", "config": {}, "chains": []}

    monkeypatch.setattr("corral.engine.verbs.create.lease_image", lease)
    create(places, request(id=ID, root={"kind": "image", "image": "web"}))
    assert os.listdir(leases) == [f"container-{ID}.json"]
    assert reconcile(places) == []
