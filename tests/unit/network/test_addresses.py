"""Subnets that are free, ports that meet, and the configurations that are made of them."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import AlreadyExists, InvalidArgument, ResourceExhausted
from corral.network import ports, subnets
from corral.network.making import compose


def test_host_routes_leave_out_the_default(tmp_path: Path) -> None:
    """Numbers as the kernel prints them: IPv4 in the machine's order, IPv6 in the network's."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    (tmp_path / "net" / "ipv6_route").write_text(
        "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 0 100 1 0 1 eth0\n"
    )
    assert subnets.host_routes(proc=str(tmp_path)) == [
        ipaddress.ip_network("192.168.1.0/24"),
        ipaddress.ip_network("fd00::/64"),
    ]


@given(st.sets(st.integers(0, 255)), st.integers(0, 5000))
def test_chosen_subnet_meets_nothing(taken: set[int], offset: int) -> None:
    """Wherever the search begins."""
    used: list[subnets.Subnet] = [ipaddress.IPv4Network(f"10.{second}.0.0/16") for second in taken]
    try:
        chosen = ipaddress.IPv4Network(subnets.choose_v4(used, prefix=24, offset=offset))
    except ResourceExhausted:
        assert {*range(92, 120)} <= taken
        return
    assert chosen.is_private
    assert not any(chosen.overlaps(item) for item in used)


@pytest.mark.parametrize("text", ["10.0.0.0/31", "10.0.0.0/40", "fe80::/127", "here", ""])
def test_subnet_without_room_is_refused(text: str) -> None:
    """Or what is none."""
    with pytest.raises(InvalidArgument, match="use the subnet"):
        subnets.parse_subnet(text)


def port(number: int, address: str = "", protocol: str = "tcp", inside: int = 80) -> dict[str, Any]:
    return {"host_ip": address, "host_port": number, "container_port": inside, "protocol": protocol}


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (port(80), port(80), True),
        (port(80), port(81), False),
        (port(80), port(80, protocol="udp"), False),
        (port(80), port(80, "127.0.0.1"), True),
        (port(80, "0.0.0.0"), port(80, "10.0.0.1"), True),
        (port(80, "10.0.0.1"), port(80, "10.0.0.2"), False),
        (port(80, "0.0.0.0"), port(80, "::"), False),
        (port(80, "::"), port(80, "::1"), True),
        (port(80, "0.0.0.0"), port(80, "::1"), False),
    ],
)
def test_ports_meet_when_they_take_the_same_packets(one: dict[str, Any], other: dict[str, Any], meet: bool) -> None:
    """Both ways round."""
    assert (ports.meet(one, other), ports.meet(other, one)) == (meet, meet)


def test_ports_are_chosen_among_free_ones() -> None:
    """None twice; one that a program listens on is refused with the program's name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        chosen = ports.choose([port(0), port(0), port(0, protocol="udp")], [])
        assert all(item["host_port"] for item in chosen)
        assert chosen[0]["host_port"] != chosen[1]["host_port"]
        with pytest.raises(AlreadyExists, match=rf"publish port 127\.0\.0\.1:{number}/tcp: process \d+ \(.+\) has it"):
            ports.choose([port(number, "127.0.0.1")], [])


def test_port_of_another_container_is_refused_with_its_name() -> None:
    """Though no program listens there."""
    with pytest.raises(AlreadyExists, match="container 'web' has it"):
        ports.choose([port(41999, "127.0.0.1")], [("container 'web'", port(41999))])


def test_bridge_masks_and_forwards_unless_it_is_internal() -> None:
    """The same range; without a way out there is no route, no mask and no port."""
    ranges = [("10.9.0.0/24", "10.9.0.1"), ("fd00::/64", "fd00::1")]
    made = compose("n", "bridge", ranges, device="br0", data_directory="/d", options={"mtu": "1400"})
    inner = compose("n", "bridge", ranges, device="br0", data_directory="/d", is_internal=True)
    assert [plugin["type"] for plugin in made["plugins"]] == ["bridge", "portmap", "firewall", "tuning"]
    assert [plugin["type"] for plugin in inner["plugins"]] == ["bridge", "firewall", "tuning"]
    assert made["plugins"][0]["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert "routes" not in inner["plugins"][0]["ipam"]
    assert (made["plugins"][0]["ipMasq"], inner["plugins"][0]["ipMasq"]) == (True, False)
    assert made["plugins"][0]["mtu"] == 1400


def test_shared_devices_ask_the_network_for_addresses() -> None:
    """macvlan without a subnet: DHCP; ipvlan cannot choose hardware addresses."""
    made = compose("n", "macvlan", [], device="eth0", data_directory="/d", options={"mode": "bridge"})
    assert made["plugins"][0] == {
        "type": "macvlan",
        "ipam": {"type": "dhcp"},
        "master": "eth0",
        "mode": "bridge",
        "capabilities": {"ips": True, "mac": True},
    }
    assert compose("n", "ipvlan", [], device="", data_directory="/d")["plugins"][0]["capabilities"] == {"ips": True}


@pytest.mark.parametrize("words", [{"driver": "wormhole"}, {"options": {"mtu": "big"}}, {"options": {"speed": "1"}}])
def test_unknown_wishes_are_refused(words: dict[str, Any]) -> None:
    """Driver, value, option."""
    with pytest.raises(InvalidArgument, match="create network 'n'"):
        compose("n", words.get("driver", "bridge"), [], device="", data_directory="/d", options=words.get("options"))
