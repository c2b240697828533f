"""Which ids a user namespace gets: as root, and for a user with and without subordinate ids."""

from __future__ import annotations

import posix
from pathlib import Path
from typing import Any

import pytest

from corral.engine import idmaps
from corral.engine.idmaps import FIRST_AUTO, LAST_AUTO, resolve_maps
from corral.engine.ledger import write_definition
from corral.engine.places import Places
from corral.errors import CorralError, InvalidArgument, ResourceExhausted


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A store without containers."""
    made = Places(str(tmp_path / "store"))
    made.prepare()
    return made


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The user 1000 with group 1001; the list holds its ranges."""
    ranges = [(100000, 65536)]
    monkeypatch.setattr(idmaps, "is_rootless", lambda: True)
    monkeypatch.setattr(posix, "geteuid", lambda: 1000)
    monkeypatch.setattr(posix, "getegid", lambda: 1001)
    monkeypatch.setattr(idmaps, "read_subids", lambda _kind, _uid: ranges)
    return ranges


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root of the host."""
    monkeypatch.setattr(idmaps, "is_rootless", lambda: False)


def resolved(places: Places, **modes: Any) -> tuple[Any, Any]:
    """The maps for these namespaces."""
    definition: dict[str, Any] = {"namespaces": modes} if modes else {}
    resolve_maps(places, definition)
    found = definition.get("namespaces", {})
    return found.get("uid_map"), found.get("gid_map")


@pytest.mark.usefixtures("user")
def test_user_is_root_inside(places: Places) -> None:
    """And its ranges are the ids from 1 on, whatever is asked for that a rootless container has anyway."""
    uids, gids = [(0, 1000, 1), (1, 100000, 65536)], [(0, 1001, 1), (1, 100000, 65536)]
    assert resolved(places) == (uids, gids)
    assert resolved(places, user="host") == (uids, gids)
    assert resolved(places, pid="host") == (uids, gids)


def test_user_without_ranges_has_one_id(places: Places, user: list[tuple[int, int]]) -> None:
    """Itself; and nomap leaves nothing."""
    user.clear()
    assert resolved(places) == ([(0, 1000, 1)], [(0, 1001, 1)])
    for mode in ("nomap", "keep-id"):
        with pytest.raises(ResourceExhausted, match="no other"):
            resolved(places, user=mode)
    assert resolved(places, user="keep-id:uid=0,gid=0")[0] == [(0, 1000, 1)]


@pytest.mark.usefixtures("user")
def test_user_stays_itself(places: Places) -> None:
    """keep-id: the others fill the numbers around it; with uid= it is another."""
    uids, gids = resolved(places, user="keep-id")
    assert uids == [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]
    assert gids == [(0, 100000, 1001), (1001, 1001, 1), (1002, 101001, 64535)]
    assert resolved(places, user="keep-id:uid=0,gid=5")[0] == [(0, 1000, 1), (1, 100000, 65536)]
    with pytest.raises(InvalidArgument):
        resolved(places, user="keep-id:shell=1")


@pytest.mark.usefixtures("user")
def test_user_who_stays_itself_is_who_the_program_runs_as() -> None:
    """keep-id, as in Podman; in the other modes nobody is named."""
    assert idmaps.own_user({"namespaces": {"user": "keep-id"}}) == "1000:1001"
    assert idmaps.own_user({"namespaces": {"user": "keep-id:uid=7,gid=5"}}) == "7:5"
    assert idmaps.own_user({"namespaces": {"user": "auto"}}) == ""
    assert idmaps.own_user({}) == ""


@pytest.mark.usefixtures("user")
def test_user_is_not_mapped(places: Places) -> None:
    """nomap: its ranges alone."""
    assert resolved(places, user="nomap")[0] == [(0, 100000, 65536)]


@pytest.mark.usefixtures("user")
def test_maps_of_a_user_count_in_its_own_ids(places: Places) -> None:
    """0 is the user, 1 and up are its ranges; beyond them there is nothing."""
    asked = [(0, 1, 10), (10, 0, 1)]
    assert resolved(places, uid_map=asked, gid_map=asked)[0] == [(0, 100000, 10), (10, 1000, 1)]
    assert resolved(places, uid_map=[(0, 0, 3)], gid_map=[])[0] == [(0, 1000, 1), (1, 100000, 2)]
    with pytest.raises(InvalidArgument):
        resolved(places, uid_map=[(0, 65530, 100)], gid_map=[])


@pytest.mark.usefixtures("root")
def test_root_has_the_hosts_ids(places: Places) -> None:
    """Unless a namespace is asked for; maps are taken as they are."""
    assert resolved(places) == (None, None)
    assert resolved(places, user="host") == (None, None)
    given = [(0, 5, 10)]
    assert resolved(places, user="private", uid_map=given, gid_map=given) == (given, given)
    for mode in ("keep-id", "nomap"):
        with pytest.raises(CorralError):
            resolved(places, user=mode)


@pytest.mark.usefixtures("root")
def test_blocks_of_containers_do_not_meet(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto: the next free block after a random one."""
    monkeypatch.setattr(posix, "urandom", lambda _size: b"\xff" * 4)
    seen = []
    for number in range(3):
        uids, gids = resolved(places, user="auto")
        seen.append(uids[0][1])
        assert uids == gids
        directory = Path(places.container(f"{number}" * 64))
        directory.mkdir()
        write_definition(places, f"{number}" * 64, {"schema": 1, "namespaces": {"uid_map": uids}})
    assert len(set(seen)) == 3
    assert all(FIRST_AUTO <= first < LAST_AUTO for first in seen)
    # The last block is the random one; then it begins anew.
    assert seen[0] > seen[1]


@pytest.mark.usefixtures("user")
def test_shared_namespace_needs_no_maps(places: Places) -> None:
    """They are the other container's."""
    assert resolved(places, user="container:abc") == (None, None)
