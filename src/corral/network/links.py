"""Network devices of this network namespace that belong to networks: bridges, whose removal no plugin does.

Asks by netlink, for /sys may show another namespace's devices.

Source: rtnetlink(7), RTM_GETLINK, RTM_DELLINK, IFLA_LINKINFO; netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["has_link", "remove_bridge"]

_RTM_DELLINK, _RTM_GETLINK = 17, 18
_REQUEST, _ACK = 0x1, 0x4
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_IFLA_LINKINFO, _IFLA_INFO_KIND = 18, 1
_KIND_MASK = 0x3FFF


def has_link(name: str) -> bool:
    """Whether a device has the name."""
    return _index(name) > 0


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def remove_bridge(name: str) -> bool:
    """Remove the bridge ``name``; whether there was one. A device that is no bridge is left alone. Raises: OSError."""
    index = _index(name)
    if not index:
        return False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        answer = _ask(link, _RTM_GETLINK, _REQUEST, index)
        attributes = _attributes(answer[_HEADER.size + _LINK.size :])
        if _attributes(attributes.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"").rstrip(b"\0") != b"bridge":
            return False
        _ask(link, _RTM_DELLINK, _REQUEST | _ACK, index)
    return True


def _ask(link: socket.socket, kind: int, flags: int, index: int) -> bytes:
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    link.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
    answer = link.recv(1 << 16)
    if _HEADER.unpack_from(answer)[1] == 2:  # NLMSG_ERROR, which an acknowledgement is too
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))
    return answer


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _KIND_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found
