"""Networks of a store, name files and filters, without a kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral.engine import files, hostfiles, netfiles, networks, usernet
from corral.engine.places import Places
from corral.engine.rowfilters import is_wanted
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, InvalidArgument, NotFound


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that look like plugins, and no networks of the administrator."""
    folder = tmp_path / "cni"
    folder.mkdir()
    for name in ("bridge", "macvlan", "portmap", "firewall", "tuning"):
        (folder / name).write_text("")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("CNI_PATH", str(folder))
    monkeypatch.setattr("corral.network.conflist.SYSTEM_DIRECTORY", str(tmp_path / "none"))


def add_container(places: Places, container_id: str, definition: dict[str, Any], network: dict[str, Any]) -> None:
    """A container's files; ``network`` as the ledger has it."""
    directory = Path(places.container(container_id))
    directory.mkdir(parents=True)
    (directory / "hosts").write_text("")
    files.write_object(f"{directory}/definition.json", {"id": container_id, **definition})
    files.write_object(f"{directory}/state.json", {"schema": 1, "network": network})


def test_default_network_is_made_once_when_it_is_needed(places: Places) -> None:
    """A wide one; the second who asks gets the same."""
    made = networks.find_network(places, networks.DEFAULT)
    assert networks.find_network(places, networks.DEFAULT).raw == made.raw
    shown = networks.describe(places, made)
    assert (shown["driver"], shown["is_ours"], len(shown["subnets"])) == ("bridge", True, 1)
    assert shown["subnets"][0].endswith("/16")


def test_networks_do_not_meet(places: Places) -> None:
    """Neither names nor subnets nor bridges."""
    one = networks.describe(places, networks.create_network(places, {"name": "one", "subnets": ["10.200.0.0/24"]}))
    two = networks.describe(places, networks.create_network(places, {"name": "two", "labels": {"a": "b"}}))
    assert one["device"] != two["device"]
    assert len(two["device"]) <= 15
    with pytest.raises(AlreadyExists, match="create network 'one'"):
        networks.create_network(places, {"name": "one"})
    with pytest.raises(AlreadyExists, match=r"10\.200\.0\.128/25 meets 10\.200\.0\.0/24"):
        networks.create_network(places, {"name": "three", "subnets": ["10.200.0.128/25"]})


@pytest.mark.parametrize("name", ["host", "none", "pasta", "a/b", ""])
def test_network_names_with_a_meaning_are_refused(places: Places, name: str) -> None:
    """They could never be asked for."""
    with pytest.raises(InvalidArgument):
        networks.create_network(places, {"name": name})


def test_network_of_a_missing_plugin_is_not_made(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is named."""
    monkeypatch.setenv("CNI_PATH", "/nonexistent")
    with pytest.raises(NotFound) as caught:
        networks.find_network(places, networks.DEFAULT)
    assert "containernetworking-plugins" in caught.value.hint
    assert networks.list_networks(places) == []


def test_network_that_a_container_names_stays(places: Places) -> None:
    """Running or not."""
    networks.create_network(places, {"name": "back"})
    network = {"mode": "bridge", "attachments": [{"name": "back"}]}
    add_container(places, "c" * 64, {"name": "c", "network": network}, {})
    with pytest.raises(FailedPrecondition, match="remove network 'back': container 'c' uses it"):
        networks.remove_network(places, "back")


def test_attachments_are_resolved_by_name(places: Places) -> None:
    """None is the default; what is not there, or twice, is refused before a container is made."""
    networks.create_network(places, {"name": "back"})
    found = networks.resolve_attachments(places, {"mode": "bridge", "attachments": [{"name": ""}, {"name": "back"}]})
    assert [item["name"] for item in found["attachments"]] == ["corral", "back"]
    for names in (["nowhere"], ["back", "back"]):
        with pytest.raises(CorralError):
            networks.resolve_attachments(places, {"attachments": [{"name": name} for name in names]})


def test_hosts_files_follow_who_is_on_a_network(places: Places) -> None:
    """Each knows those that share a network with it, and only them."""

    def on(*rows: tuple[str, str]) -> dict[str, Any]:
        return {"networks": [{"name": n, "addresses": [a], "gateways": ["10.0.0.1"], "aliases": []} for n, a in rows]}

    bridge = {"mode": "bridge"}
    states = {
        "a": on(("x", "10.0.0.2/24")),
        "b": on(("x", "10.0.0.3/24"), ("y", "10.1.0.3/24")),
        "c": on(("y", "10.1.0.4/24")),
    }
    for name, state in states.items():
        add_container(places, name, {"name": f"name-{name}", "network": bridge}, state)
    definition = {"id": "b", "name": "name-b", "network": bridge}
    netfiles.refresh_peers(places, definition, {"network": states["b"]})
    texts = {name: Path(places.container(name), "hosts").read_text() for name in states}
    assert "10.0.0.3\tname-b" in texts["a"]
    assert "name-c" not in texts["a"]
    assert "10.1.0.3\tname-b" in texts["c"]
    assert "10.0.0.3" not in texts["c"]
    assert "10.0.0.2\tname-a" in texts["b"]
    assert "10.1.0.4\tname-c" in texts["b"]
    assert "10.0.0.1\thost.containers.internal" in texts["a"]
    netfiles.refresh_peers(places, definition, {"network": states["b"]}, is_leaving=True)
    assert "name-b" not in Path(places.container("a"), "hosts").read_text()


def test_hosts_text_resolves_the_word_for_the_host() -> None:
    """Where the host cannot be reached there is no such line."""
    definition = {"id": "i" * 64, "network": {"mode": "bridge", "extra_hosts": ["me:host-gateway", "db:10.0.0.5"]}}
    assert "10.0.0.1\tme\n" in hostfiles.hosts_text(definition, ["10.0.0.2"], gateway="10.0.0.1")
    text = hostfiles.hosts_text(definition)
    assert "\tme" not in text
    assert "10.0.0.5\tdb" in text


@pytest.mark.parametrize(
    ("said", "has_tun", "remedy"),
    [
        ("External interface not usable", True, "no route to the outside"),
        ("External interface not usable", False, "/dev/net/tun"),
        ("Something else", True, ""),
    ],
)
def test_helper_that_gave_up_is_quoted_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, said: str, has_tun: bool, remedy: str
) -> None:
    """pasta has nothing to copy on a host without a route; neither helper can do without the device."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: has_tun)
    error = usernet._refusal("pasta", said)
    assert error.message == f"run pasta: {said}"
    assert remedy in error.hint
    assert bool(remedy) == bool(error.hint)


def test_slirp_options_become_its_flags() -> None:
    """Those of Podman; others are refused."""
    words, subnet, is_reached = usernet.slirp_words(["cidr=10.5.0.0/24", "allow_host_loopback=true", "mtu=1500"])
    assert (words, str(subnet[3]), is_reached) == (["--mtu=1500", "--cidr=10.5.0.0/24"], "10.5.0.3", True)
    for option in ("speed=9", "allow_host_loopback=maybe", "cidr=10.5.0.0/30", "cidr=x"):
        with pytest.raises(InvalidArgument, match="use the network slirp4netns"):
            usernet.slirp_words([option])


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], True),
        (["name=eb"], True),
        (["name=x"], False),
        (["name=x", "name=web"], True),
        (["driver=bridge", "label=tier"], True),
        (["label=tier=back"], False),
        (["label!=other"], True),
        (["label=tier=front", "label=other"], False),
    ],
)
def test_rows_are_filtered_as_containers_are(filters: list[str], wanted: bool) -> None:
    """Values of one key are alternatives, keys and labels must all hold."""
    row = {"name": "web", "driver": "bridge", "labels": {"tier": "front"}}
    assert is_wanted(row, filters, ("name", "driver")) is wanted


def test_unknown_filter_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(InvalidArgument) as caught:
        is_wanted({"name": "a"}, ["colour=red"], ("name",))
    assert caught.value.hint == "keys: name, label"
