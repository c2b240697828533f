"""Ranges of addresses for networks: one that neither the host's routes nor another network has.

Source: proc(5) "/proc/net/route"; RFC 1918; RFC 4193 section 3.2.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import TYPE_CHECKING

from corral.errors import InvalidArgument, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

__all__ = ["choose_v4", "choose_v6", "gateway_of", "host_routes", "parse_subnet"]

_LOCAL_V6 = 0xFD << 120


def parse_subnet(text: str) -> Subnet:
    """A range as ``10.90.0.0/24``. Raises: InvalidArgument."""
    try:
        subnet = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise InvalidArgument(f"use the subnet {text!r}: {exc}", hint="as in 10.90.0.0/24") from exc
    if subnet.max_prefixlen - subnet.prefixlen < 2:
        raise InvalidArgument(f"use the subnet {text!r}: it has no room for a gateway and a container")
    return subnet


def gateway_of(subnet: Subnet, given: Iterable[str] = ()) -> str:
    """The one of ``given`` that lies in ``subnet``, else its first address. Raises: InvalidArgument."""
    for text in given:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as exc:
            raise InvalidArgument(f"use the gateway {text!r}: {exc}") from exc
        if address in subnet:
            return str(address)
    return str(subnet[1])


def host_routes(*, proc: str = "/proc") -> list[Subnet]:
    """Where this host's routes lead, without its default routes."""
    found: list[Subnet] = []
    for line in _lines(f"{proc}/net/route")[1:]:
        words = line.split()
        if len(words) > 7 and words[7] != "00000000":
            address, mask = (int(word, 16).to_bytes(4, sys.byteorder) for word in (words[1], words[7]))
            found.append(ipaddress.IPv4Network((address, str(ipaddress.IPv4Address(mask))), strict=False))
    for line in _lines(f"{proc}/net/ipv6_route"):
        words = line.split()
        if len(words) > 1 and 0 < int(words[1], 16) < 128:
            found.append(ipaddress.IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False))
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _candidates(prefix: int, offset: int) -> Iterator[ipaddress.IPv4Network]:
    tops = ["10.91.0.0/16", *(f"10.{second}.0.0/16" for second in range(92, 120)), "172.30.0.0/15", "192.168.192.0/18"]
    if prefix <= 16:
        places = [ipaddress.IPv4Network(top) for top in tops if top.endswith("/16")]
    else:
        places = [item for top in tops[1:] for item in ipaddress.IPv4Network(top).subnets(new_prefix=prefix)]
    turn = offset % len(places)
    yield from places[turn:]
    yield from places[:turn]


def choose_v4(taken: Iterable[Subnet], *, prefix: int, offset: int = 0) -> str:
    """A private range that meets none of ``taken``. ``offset``: where to begin, so that stores do not meet.

    Raises: ResourceExhausted.
    """
    used = [item for item in taken if item.version == 4]
    for subnet in _candidates(prefix, offset):
        if not any(subnet.overlaps(item) for item in used):
            return str(subnet)
    raise ResourceExhausted(
        f"choose a subnet of /{prefix}: the host's routes leave none", hint="give one with --subnet"
    )


def choose_v6() -> str:
    """A random unique local range."""
    number = _LOCAL_V6 | int.from_bytes(os.urandom(7), "big") << 64
    return str(ipaddress.IPv6Network((number, 64)))
