"""Reading CNI configurations, and finding them by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corral.errors import InvalidArgument, NotFound
from corral.network import conflist


def write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def sample(**members: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}], **members}


def test_load_knows_what_the_plugins_can_do() -> None:
    """Capabilities count that are switched on, of any plugin."""
    plugins = [
        {"type": "bridge", "capabilities": {"ips": True, "mac": False}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    network = conflist.parse(sample(plugins=plugins))
    assert (network.name, network.driver, network.capabilities) == ("net", "bridge", frozenset({"ips", "portMappings"}))


def test_load_takes_the_configuration_of_one_plugin_for_a_list() -> None:
    """As older installations have them."""
    network = conflist.parse({"cniVersion": "0.3.1", "name": "old", "type": "macvlan"})
    assert (network.name, network.driver, network.version) == ("old", "macvlan", "0.3.1")


@pytest.mark.parametrize(
    "value",
    [
        [],
        sample(name="../up"),
        sample(name=""),
        sample(name=7),
        sample(cniVersion="9.0"),
        sample(plugins=[]),
        sample(plugins=[{"bridge": "x"}]),
        sample(plugins="bridge"),
    ],
    ids=["list", "path as name", "no name", "number", "version", "no plugins", "no type", "text"],
)
def test_load_refuses_what_is_no_network(value: object) -> None:
    """Each with words, never with a crash."""
    with pytest.raises(InvalidArgument, match="read network"):
        conflist.parse(value)


def test_find_prefers_the_first_directory(tmp_path: Path) -> None:
    """And leaves out files that cannot be read, and hidden ones."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    mine = write(ours / "net.conflist", sample())
    write(theirs / "10-net.conflist", sample())
    other = write(theirs / "20-other.conf", {"cniVersion": "0.4.0", "name": "other", "type": "ptp"})
    (theirs / "30-broken.conflist").write_text("{")
    write(theirs / ".hidden.conflist", sample(name="hidden"))
    directories = [str(ours), str(theirs), str(tmp_path / "none")]
    assert [item.path for item in conflist.list_in(directories)] == [mine, other]
    assert conflist.find(directories, "other").path == other
    with pytest.raises(NotFound, match="no such network"):
        conflist.find(directories, "hidden")


def test_find_tells_what_is_wrong_with_the_file_of_the_name(tmp_path: Path) -> None:
    """A broken configuration is not a missing one."""
    (tmp_path / "net.conflist").write_text("{")
    with pytest.raises(InvalidArgument, match=r"net\.conflist"):
        conflist.find([str(tmp_path)], "net")
