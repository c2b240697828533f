"""Ports of the host: choosing free ones, and saying who has one that is asked for.

Source: tcp(7), udp(7); proc(5) "/proc/net/tcp".
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from corral.errors import AlreadyExists, InvalidArgument, PermissionDenied, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Port = dict[str, Any]

__all__ = ["choose", "meet"]

_TRIES = 50
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def meet(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both would take the same packets: same protocol and port, and addresses that include each other."""
    if one["protocol"] != other["protocol"] or one["host_port"] != other["host_port"]:
        return False
    a, b = one.get("host_ip", ""), other.get("host_ip", "")
    if a == b:
        return True
    whole = ("", "0.0.0.0", "::")
    if a in whole and b in whole:
        return "" in (a, b)
    is_six = ":" in a or ":" in b
    return a in ("", "::" if is_six else "0.0.0.0") or b in ("", "::" if is_six else "0.0.0.0")


def choose(wanted: Iterable[Port], taken: Iterable[tuple[str, Port]]) -> list[Port]:
    """``wanted`` with a free port of the host where ``host_port`` is 0. ``taken``: (owner's name, port).

    Raises: AlreadyExists naming the owner; PermissionDenied for a port below 1024; ResourceExhausted.
    """
    held = list(taken)
    made: list[Port] = []
    for item in wanted:
        port = dict(item)
        if port["host_port"]:
            _check(port, held)
        else:
            port["host_port"] = _free(port, held)
        held.append(("this container", port))
        made.append(port)
    return made


def _check(port: Port, held: list[tuple[str, Port]]) -> None:
    shown = f"{port.get('host_ip', '')}:{port['host_port']}/{port['protocol']}".removeprefix(":")
    for owner, other in held:
        if meet(port, other):
            raise AlreadyExists(
                f"publish port {shown}: {owner} has it", hint="choose another port, or leave it out for any free one"
            )
    code = _try(port)
    if code == errno.EADDRINUSE:
        holder = _holder(port)
        raise AlreadyExists(
            f"publish port {shown}: {holder or 'another program'} has it",
            hint="choose another port, or leave it out for any free one",
        )
    if code == errno.EADDRNOTAVAIL:
        raise InvalidArgument(f"publish port {shown}: this host does not have the address")
    if code == errno.EACCES:
        raise PermissionDenied(
            f"publish port {shown}: permission denied",
            hint="choose a port from 1024 up, or lower sysctl net.ipv4.ip_unprivileged_port_start",
        )


def _addresses(port: Port) -> list[tuple[int, str]]:
    given = port.get("host_ip", "")
    if given:
        return [(socket.AF_INET6 if ":" in given else socket.AF_INET, given)]
    return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]


def _try(port: Port) -> int:
    """0 if the port can be bound now, else the kernel's answer. SCTP is not tried: few kernels have it."""
    kind = _KINDS.get(port["protocol"])
    for family, address in _addresses(port) if kind is not None else ():
        try:
            with socket.socket(family, kind or 0) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    # Connections that are over must not count: a container is often started again at once.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port["host_port"]))
        except OSError as exc:
            if family == socket.AF_INET6 and not port.get("host_ip") and exc.errno != errno.EADDRINUSE:
                continue  # a host without IPv6
            return exc.errno or errno.EIO
    return 0


def _free(port: Port, held: list[tuple[str, Port]]) -> int:
    family, address = _addresses(port)[0]
    for _ in range(_TRIES):
        with socket.socket(family, _KINDS.get(port["protocol"], socket.SOCK_STREAM)) as probe:
            probe.bind((address, 0))
            number = int(probe.getsockname()[1])
        tried = {**port, "host_port": number}
        if _try(tried) == 0 and not any(meet(tried, other) for _, other in held):
            return number
    raise ResourceExhausted(
        f"publish port {port['container_port']}/{port['protocol']}: no free port of the host was found"
    )


def _holder(port: Port) -> str:
    """``process 123 (nginx)``, as far as this user may know; "" otherwise."""
    inodes = set()
    for suffix in ("", "6"):
        try:
            with open(f"/proc/net/{port['protocol']}{suffix}") as file:
                rows = [line.split() for line in file.read().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port["host_port"]}
    wanted = {f"socket:[{inode}]" for inode in inodes if inode != "0"}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if wanted & set(_links(pid)):
            try:
                with open(f"/proc/{pid}/comm") as file:
                    return f"process {pid} ({file.read().strip()})"
            except OSError:
                return f"process {pid}"
    return ""


def _links(pid: str) -> Iterator[str]:
    """What the process's descriptors are, as far as this user may know; some are gone before they are read."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
