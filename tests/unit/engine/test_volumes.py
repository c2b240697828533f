"""Volumes as files: made and removed by one rename each, named, found, refused while somebody has them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from corral.engine import files, volumes
from corral.engine.places import Places
from corral.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unsupported


def add_container(places: Places, container_id: str, *names: str, state: dict[str, Any] | None = None) -> None:
    """A container's files, with volumes."""
    directory = Path(places.container(container_id))
    directory.mkdir(parents=True)
    mounts = [{"type": "volume", "source": name, "target": f"/{name}"} for name in names]
    files.write_object(f"{directory}/definition.json", {"name": f"the-{container_id}", "mounts": mounts})
    if state is not None:
        files.write_object(f"{directory}/state.json", {"schema": 1, **state})


def test_created_volume_is_whole_and_open_to_its_users(places: Places) -> None:
    """Whatever the umask; a second one of the name is refused, unless that is fine."""
    before = os.umask(0o077)
    try:
        assert volumes.create_volume(places, "data", labels={"a": "b"}) == "data"
    finally:
        os.umask(before)
    shown = volumes.describe(places, "data", is_whole=True)
    assert (shown["labels"], shown["containers"], shown["anonymous"]) == ({"a": "b"}, [], False)
    assert stat.S_IMODE(os.stat(shown["path"]).st_mode) == 0o755
    with pytest.raises(AlreadyExists, match="create volume 'data'"):
        volumes.create_volume(places, "data")
    assert volumes.create_volume(places, "data", exists_ok=True) == "data"
    assert sorted(os.listdir(places.volumes)) == [".lock", "data"]


def test_volume_without_a_name_gets_one_of_its_own(places: Places) -> None:
    """Of 64 digits, of which the beginning is enough to find it."""
    name = volumes.create_volume(places)
    assert len(name) == 64
    assert volumes.describe(places, name)["anonymous"]
    assert volumes.find_volume(places, name[:12]) == name
    with pytest.raises(NotFound, match="no such volume"):
        volumes.find_volume(places, "xyz")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "-x", "a b"])
def test_volume_name_cannot_lead_elsewhere(places: Places, name: str) -> None:
    """Neither when it is made nor when it is looked for."""
    with pytest.raises(InvalidArgument):
        volumes.create_volume(places, name)
    with pytest.raises(NotFound):
        volumes.read_volume(places, name)


@pytest.mark.parametrize(
    "options", [{"type": "tmpfs"}, {"speed": "1"}, {"type": "none", "o": "bind", "device": "relative"}]
)
def test_volume_options_are_checked_when_it_is_made(places: Places, options: dict[str, str]) -> None:
    """Not when a container starts."""
    with pytest.raises(InvalidArgument, match="option"):
        volumes.create_volume(places, "v", options=options)
    assert volumes.list_volumes(places) == []


def test_volume_of_a_size_is_refused_with_what_has_one(places: Places) -> None:
    """A directory has none."""
    with pytest.raises(Unsupported) as caught:
        volumes.create_volume(places, "v", options={"size": "1g"})
    assert "tmpfs" in caught.value.hint


def test_volume_that_a_container_has_stays(places: Places) -> None:
    """Also one that is just being made; one that is being removed does not count."""
    for name in ("mine", "new", "old"):
        volumes.create_volume(places, name)
    add_container(places, "a", "mine")
    add_container(places, ".new-b", "new")
    add_container(places, "c", "old", state={"removing": {}})
    with pytest.raises(FailedPrecondition, match="remove volume 'mine': container 'the-a' has it"):
        volumes.remove_volume(places, "mine")
    with pytest.raises(FailedPrecondition, match="container 'b' has it"):
        volumes.remove_volume(places, "new")
    volumes.remove_volume(places, "old")
    assert volumes.list_volumes(places) == ["mine", "new"]


def test_prune_takes_only_anonymous_ones_unless_told(places: Places) -> None:
    """And none that somebody has."""
    volumes.create_volume(places, "named")
    volumes.create_volume(places, "used")
    nameless = volumes.create_volume(places)
    add_container(places, "a", "used")
    freed: list[int] = []
    assert volumes.prune_volumes(places, freed=freed) == [nameless]
    assert freed[0] > 0
    assert volumes.prune_volumes(places, everything=True) == ["named"]


def test_volumes_of_image_and_command_line_are_named_once() -> None:
    """The user's mount on a declared target wins; anonymous ones get names that stay."""
    definition: dict[str, Any] = {
        "mounts": [
            {"type": "bind", "source": "/x", "target": "/data"},
            {"type": "volume", "source": "", "target": "/tmp"},
        ]
    }
    volumes.name_volumes(definition, {"volumes": ["/data/", "/logs", "/logs", "relative", "/"]})
    found = {item["target"]: item for item in definition["mounts"]}
    assert list(found) == ["/data", "/tmp", "/logs"]
    assert found["/data"]["type"] == "bind"
    assert len(found["/logs"]["source"]) == len(found["/tmp"]["source"]) == 64
    assert found["/logs"]["is_anonymous"]
    assert found["/tmp"]["is_anonymous"]


def test_volume_of_a_directory_is_that_directory_and_of_a_device_a_mount(places: Places) -> None:
    """A bind leads there; a filesystem is for the runtime to mount; one that was removed is made again."""
    volumes.create_volume(places, "there", options={"type": "none", "o": "bind", "device": "/srv"})
    volumes.create_volume(places, "fast", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    mounts = [{"type": "volume", "source": name, "target": f"/{name}"} for name in ("there", "fast", "gone")]
    definition = {"id": "i", "mounts": mounts}
    found = volumes.volume_directories(places, definition)
    assert found["there"] == "/srv"
    assert found["gone"] == f"{places.volumes}/gone/_data"
    assert os.path.isdir(found["gone"])
    assert list(volumes.device_mounts(places, definition)) == ["fast"]


def test_gc_takes_what_crashes_left(places: Places) -> None:
    """Halves, and anonymous volumes whose container never came to be; not those that were used."""
    Path(places.volumes, ".new-x", "_data").mkdir(parents=True)
    Path(places.volumes, ".dead-y", "_data").mkdir(parents=True)
    orphan = volumes.create_volume(places, "1" * 64, container="gone")
    used = volumes.create_volume(places, "2" * 64, container="gone")
    volumes.note_used(places, used)
    kept = volumes.create_volume(places, "3" * 64, container="here")
    add_container(places, "here", kept)
    assert sorted(volumes.collect_volumes(places)) == sorted([".new-x", ".dead-y", orphan])
    assert volumes.list_volumes(places) == [used, kept]
    assert volumes.collect_volumes(places) == []


def test_volume_whose_file_was_cut_off_keeps_its_data(places: Places) -> None:
    """What it is can be lost, what it holds not."""
    volumes.create_volume(places, "v", labels={"a": "b"})
    Path(places.volumes, "v", "volume.json").write_text("{")
    assert volumes.read_volume(places, "v")["name"] == "v"
