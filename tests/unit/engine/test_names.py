"""corral.engine.names: who has a name, and since when nobody does."""

from __future__ import annotations

import fcntl
import os

import pytest

from corral.engine import names
from corral.engine.places import Places
from corral.errors import AlreadyExists, InvalidArgument, NotFound
from corral.linux.paths import isdir
from corral.runtime.record import is_locked
from unit.engine.containers import ID, OTHER, make


def test_a_name_is_refused_when_its_owner_exists(places: Places) -> None:
    """The error says whose it is."""
    make(places)
    names.reserve(places, "web", ID)
    with pytest.raises(AlreadyExists, match=f"container {ID[:12]} has it"):
        names.reserve(places, "web", OTHER)


def test_a_name_is_free_when_its_owner_is_gone(places: Places) -> None:
    """S4.14: what a crash left reserved is void at once, and nobody has to clean up first."""
    names.reserve(places, "web", ID)
    names.reserve(places, "web", OTHER)
    make(places, OTHER)
    assert names.find_id(places, "web") == OTHER


def test_a_name_is_taken_while_its_owner_is_being_made(places: Places) -> None:
    """Between reserving the name and the finished container its maker's lock counts."""
    os.mkdir(f"{places.containers}/.new-{ID}")
    with open(f"{places.containers}/.new-{ID}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names.reserve(places, "web", ID)
        with pytest.raises(AlreadyExists):
            names.reserve(places, "web", OTHER)
    names.reserve(places, "web", OTHER)


@pytest.mark.parametrize("look", ["paths.isdir", "is_locked"])
def test_a_name_is_taken_when_its_owner_is_finished_between_two_looks(
    places: Places, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The maker's rename comes just after anybody's look at the one place or the other: it is there all the time."""
    made, final = f"{places.containers}/.new-{ID}", places.container(ID)
    os.mkdir(made)
    asked = isdir if look == "paths.isdir" else is_locked

    def finish_after(path: str) -> object:
        answer = asked(path)
        if os.path.isdir(made):
            os.rename(made, final)
        return answer

    with open(f"{made}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names.reserve(places, "web", ID)
        monkeypatch.setattr(f"corral.engine.names.{look}", finish_after)
        with pytest.raises(AlreadyExists):
            names.reserve(places, "web", OTHER)
        assert os.readlink(f"{places.names}/web") == ID


def test_release_spares_a_name_that_is_anothers(places: Places) -> None:
    """A late release by its former owner takes nothing from the new one."""
    make(places, OTHER)
    names.reserve(places, "web", OTHER)
    names.release(places, "web", ID)
    assert names.find_id(places, "web") == OTHER


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a b", "ä", "x" * 201])
def test_a_name_is_refused_when_it_is_none(places: Places, name: str) -> None:
    """Docker's and Podman's letters."""
    with pytest.raises(InvalidArgument, match="is not of the form"):
        names.reserve(places, name, ID)


def test_an_id_means_its_container_when_another_is_named_so(places: Places) -> None:
    """A whole id goes before names, a name before the beginning of an id."""
    make(places)
    make(places, OTHER)
    names.reserve(places, ID, OTHER)
    names.reserve(places, ID[:12], OTHER)
    assert names.find_id(places, ID) == ID
    assert names.find_id(places, ID[:12]) == OTHER


@pytest.mark.parametrize("reference", ["", ".", "..", "../x", "a\0b", "ä"])
def test_a_reference_is_not_found_when_no_container_could_be_called_so(places: Places, reference: str) -> None:
    """Whatever a client sends."""
    with pytest.raises(NotFound):
        names.find_id(places, reference)


def test_an_id_is_found_when_its_beginning_is_unique(places: Places) -> None:
    """As many digits as it takes; more than one container is an error, none is another."""
    make(places, "a1" + "0" * 62)
    make(places, "a2" + "0" * 62)
    assert names.find_id(places, "a1") == "a1" + "0" * 62
    with pytest.raises(InvalidArgument, match="2 ids begin so"):
        names.find_id(places, "a")
    with pytest.raises(NotFound, match="no such container"):
        names.find_id(places, "ff")


def test_a_name_wins_when_it_looks_like_an_id(places: Places) -> None:
    """A name is what somebody chose."""
    make(places, "abc" + "0" * 61)
    make(places, OTHER)
    names.reserve(places, "abc", OTHER)
    assert names.find_id(places, "abc") == OTHER


def test_void_names_are_listed_when_owners_are_gone(places: Places) -> None:
    """What gc releases."""
    make(places)
    names.reserve(places, "kept", ID)
    names.reserve(places, "void", OTHER)
    assert names.list_void(places) == ["void"]
    assert names.release_void(places, "void") is True
    assert names.release_void(places, "kept") is False


def test_generated_names_are_names() -> None:
    """Whatever is drawn can be reserved."""
    for _ in range(100):
        names.check_name(names.make_name())
