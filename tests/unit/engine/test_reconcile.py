"""corral.engine.reconcile: who tidies up changes nothing that a living process is at work on."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from corral.engine import ledger, names, networks, status
from corral.engine.places import Places
from corral.engine.podfiles import read_pod
from corral.engine.reconcile import reconcile
from corral.engine.verbs import find, pods
from corral.engine.verbs.rename import rename
from corral.runtime.record import is_locked
from unit.engine.containers import ID, make


def test_the_new_name_is_kept_when_it_is_renamed_meanwhile(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before a rename, tidied up after it, whenever that is: it has its new name."""
    make(places)
    names.reserve(places, ID[:4], ID)
    called = [ID[:4]]
    look = status.look

    def look_and_rename(places: Places, container_id: str) -> status.Facts:
        facts = look(places, container_id)
        called.append(f"that-{len(called)}")
        rename(places, ID, called[-1])
        return facts

    monkeypatch.setattr(status, "look", look_and_rename)
    assert reconcile(places) == []
    assert [name for name in os.listdir(places.names) if name != ".lock"] == called[-1:]


def test_the_old_name_goes_when_a_rename_broke_off(places: Places) -> None:
    """Two names: the one that its definition says is its own."""
    make(places)
    names.reserve(places, ID[:4], ID)
    names.reserve(places, "that", ID)
    assert reconcile(places) == [{"what": "release an old name of", "id": ID}]
    assert [name for name in os.listdir(places.names) if name != ".lock"] == [ID[:4]]


@pytest.mark.parametrize("moment", ["pod.named", "pod.written"])
def test_a_pod_is_left_alone_while_it_is_being_made(
    places: Places, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before its first container is there it has a living maker, and its name is not another's."""

    def tidy_up(name: str) -> None:
        if name == moment:
            assert reconcile(places) == []

    def ensure_infra(places: Places, pod_id: str) -> str:
        return make(places, read_pod(places, pod_id)["infra"], pod=pod_id, is_infra=True, name="site-infra")

    monkeypatch.setattr(pods, "failpoint", tidy_up)
    monkeypatch.setattr(pods, "ensure_infra", ensure_infra)
    made: dict[str, Any] = pods.pod_create(places, {"name": "site"})
    assert [row["id"] for row in pods.pod_ps(places)] == [made["id"]]
    assert names.owner_or_none(places, "site") == f"pod:{made['id']}"


@pytest.mark.parametrize("name", [".new-", ""])
def test_a_pod_goes_when_its_maker_died(places: Places, name: str) -> None:
    """However young it is: nobody holds its lock."""
    os.mkdir(f"{places.pods}/{name}{ID}")
    with open(f"{places.pods}/{name}{ID}/definition.json", "w") as file:
        file.write(f'{{"schema":1,"id":"{ID}","name":"site","infra":"{ID}"}}')
    names.reserve(places, "site", f"pod:{ID}")
    assert {row["id"] for row in reconcile(places)} <= {ID, "site"}
    assert (os.listdir(places.names), [item for item in os.listdir(places.pods) if item != ".lock"]) == ([".lock"], [])


@pytest.mark.parametrize("verb", ["rename", "update", "network_connect", "network_disconnect"])
def test_a_definition_is_replaced_under_the_lock(places: Places, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Two who change different members at once: neither loses what the other has written."""
    make(places, network={"mode": "bridge"})
    # First what imports the module by its name: it would keep the other's stand-in for ever.
    monkeypatch.setattr("corral.engine.network.check_can_join", lambda _: None)
    monkeypatch.setattr("corral.engine.networks.find_network", lambda *_: SimpleNamespace(name="other"))
    held: list[bool | None] = []
    monkeypatch.setattr(ledger, "write_definition", lambda *_: held.append(is_locked(f"{places.container(ID)}/lock")))
    words: dict[str, tuple[Any, ...]] = {
        "rename": (ID, "that"),
        "update": (ID, {"restart": {"policy": "always"}}),
        "network_connect": ("other", ID),
        "network_disconnect": (networks.DEFAULT, ID),
    }
    find(verb)(places, *words[verb])
    assert held == [True]
