"""The order of plugins and what each is given: results, capabilities, variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.errors import CorralError, Unavailable
from corral.network import cni, conflist

NETWORK = conflist.parse(
    {
        "cniVersion": "1.0.0",
        "name": "net",
        "plugins": [
            {"type": "bridge", "capabilities": {"ips": True}, "mtu": 1400},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "tuning"},
        ],
    }
)
ATTACHMENT = cni.Attachment(
    "abc",
    "/run/netns/x",
    "eth0",
    {"ips": ["10.0.0.2"], "portMappings": [1]},
    (("IgnoreUnknown", "1"), ("IP", "10.0.0.2")),
)


class Plugins:
    """Plays the plugins: each answers with its own type, those in ``broken`` with an error."""

    def __init__(self, *broken: str) -> None:
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.broken = broken

    def __call__(self, command: str, config: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        self.calls.append((command, config, variables))
        if config["type"] in self.broken:
            raise Unavailable(f"{config['type']} is broken")
        return {"by": config["type"]}


def test_add_hands_each_result_on_and_gives_what_was_declared() -> None:
    """prevResult is the result of the plugin before; runtimeConfig only has what this plugin takes."""
    plugins = Plugins()
    assert cni.add(NETWORK, ATTACHMENT, plugins) == {"by": "tuning"}
    base = {"cniVersion": "1.0.0", "name": "net"}
    assert [config for _, config, _ in plugins.calls] == [
        {**base, "type": "bridge", "mtu": 1400, "runtimeConfig": {"ips": ["10.0.0.2"]}},
        {**base, "type": "portmap", "runtimeConfig": {"portMappings": [1]}, "prevResult": {"by": "bridge"}},
        {**base, "type": "tuning", "prevResult": {"by": "portmap"}},
    ]
    assert plugins.calls[0][2] == {
        "CNI_CONTAINERID": "abc",
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;IP=10.0.0.2",
    }


def test_add_stops_at_the_first_error() -> None:
    """What comes after it has nothing to work on."""
    plugins = Plugins("portmap")
    with pytest.raises(CorralError, match="portmap is broken"):
        cni.add(NETWORK, ATTACHMENT, plugins)
    assert [config["type"] for _, config, _ in plugins.calls] == ["bridge", "portmap"]


def test_delete_goes_backwards_past_what_refuses() -> None:
    """Each plugin gets the result of the ADD."""
    plugins = Plugins("portmap")
    problems = cni.delete(NETWORK, ATTACHMENT, {"ips": []} | {"by": "tuning"}, plugins)
    assert [config["type"] for _, config, _ in plugins.calls] == ["tuning", "portmap", "bridge"]
    assert [str(problem) for problem in problems] == ["portmap is broken"]
    assert all(config["prevResult"] == {"ips": [], "by": "tuning"} for _, config, _ in plugins.calls)


def test_result_is_read_for_one_interface() -> None:
    """Addresses of the container's side, also where the result does not say whose they are."""
    result = {
        "interfaces": [
            {"name": "br0"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/x"},
            {"name": "eth1"},
        ],
        "ips": [
            {"interface": 1, "address": "10.0.0.2/24", "gateway": "10.0.0.1"},
            {"interface": 2, "address": "10.1.0.2/24"},
            {"address": "fd00::2/64"},
        ],
    }
    assert cni.addresses_of(result, "eth0") == ["10.0.0.2/24", "fd00::2/64"]
    assert cni.gateways_of(result) == ["10.0.0.1"]
    assert cni.mac_of(result, "eth0") == "02:00:00:00:00:01"
    assert cni.mac_of(result, "eth1") == ""


def test_results_are_noted_before_the_next_plugin_is_called() -> None:
    """A plugin takes back by them what it made, when the engine died before the last one had answered."""
    noted: list[dict[str, Any]] = []
    with pytest.raises(Unavailable):
        cni.add(NETWORK, ATTACHMENT, Plugins("tuning"), note=noted.append)
    assert noted == [{"by": "bridge"}, {"by": "portmap"}]


def test_plugins_are_found_where_they_were_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes a container off a network may have another CNI_PATH than who put it there."""
    monkeypatch.setenv("CNI_PATH", "/now")
    assert cni.Run(str(tmp_path), ["/before"]).directories == ["/before", "/now"]
