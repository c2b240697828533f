"""The networks of a store: their configurations, made, found, removed; the default one made when it is first needed.

STORE/networks/NAME.conflist, and in the second place what administrators put into /etc/cni/net.d, which is used and
never changed. Addresses that are in use are kept in RUN/networks, which a restart of the host may empty.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

from corral.engine import files, journal, ledger, names
from corral.engine.locks import FileLock
from corral.engine.places import DEFAULT_STORE
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, InvalidArgument, NotFound
from corral.network import conflist, subnets
from corral.network.links import has_link, remove_bridge
from corral.network.making import compose
from corral.network.plugins import find_plugin, plugin_directories

if TYPE_CHECKING:
    from corral.engine.places import Places
    from corral.network.conflist import NetworkList

__all__ = [
    "DEFAULT",
    "collect_networks",
    "create_network",
    "describe",
    "find_network",
    "list_networks",
    "remove_network",
    "resolve_attachments",
    "users_of",
]

DEFAULT = "corral"
_RESERVED = ("bridge", "host", "none", "container", "pod", "pasta", "slirp4netns", "private", "ns")
_DEFAULT_PREFIX, _PREFIX = 16, 24


def _directories(places: Places) -> list[str]:
    return [places.networks, conflist.SYSTEM_DIRECTORY]


def list_networks(places: Places) -> list[NetworkList]:
    """All, by name. The default one is among them once it was used."""
    return sorted(conflist.list_in(_directories(places)), key=lambda item: item.name)


def find_network(places: Places, name: str) -> NetworkList:
    """The network ``name``; the default one is made if need be. Raises: NotFound, InvalidArgument."""
    try:
        return conflist.find(_directories(places), name)
    except NotFound:
        if name != DEFAULT:
            raise
    try:
        return create_network(places, {"name": DEFAULT})
    except AlreadyExists:
        return conflist.find(_directories(places), name)  # somebody else made it just now


def create_network(places: Places, request: dict[str, Any]) -> NetworkList:
    """Make a network: ``name``, ``driver``, ``subnets``, ``gateways``, ``internal``, ``ipv6``, ``options``, ``labels``.

    Raises: AlreadyExists, InvalidArgument, NotFound (no such plugin), ResourceExhausted.
    """
    name = request["name"]
    names.check_name(name)
    if name in _RESERVED:
        raise InvalidArgument(f"create network {name!r}: the word has a meaning of its own", hint="choose another name")
    driver = request.get("driver") or "bridge"
    os.makedirs(places.networks, 0o700, exist_ok=True)
    with FileLock(f"{places.networks}/.lock"):
        found = list_networks(places)
        if any(item.name == name for item in found):
            raise AlreadyExists(f"create network {name!r}: there is one", hint="`corral network ls` lists them")
        ranges = _ranges(places, request, found) if driver == "bridge" or request.get("subnets") else []
        options = dict(request.get("options") or {})
        device = (
            options.pop("bridge", "") or _bridge_name(places, found)
            if driver == "bridge"
            else options.pop("parent", "")
        )
        raw = compose(
            name,
            driver,
            ranges,
            device=device,
            data_directory=f"{places.run}/networks",
            is_internal=bool(request.get("internal")),
            options=options,
            labels=request.get("labels"),
        )
        network = conflist.parse(raw, f"{places.networks}/{name}.conflist")
        for plugin in network.plugins:
            find_plugin(plugin["type"], plugin_directories())
        files.write_object(network.path, raw, is_synced=True)
    journal.emit(places, "network", "create", name, name=name, attributes={"labels": network.labels})
    return network


def _ranges(places: Places, request: dict[str, Any], found: list[NetworkList]) -> list[tuple[str, str]]:
    taken = subnets.host_routes()
    for network in found:
        taken += [subnets.parse_subnet(text) for text, _ in subnets_of(network)]
    asked = [subnets.parse_subnet(text) for text in request.get("subnets") or []]
    for subnet in asked:
        clash = next((item for item in taken if item.version == subnet.version and subnet.overlaps(item)), None)
        if clash is not None:
            raise AlreadyExists(
                f"create network {request['name']!r}: {subnet} meets {clash}, which a route or a network has",
                hint="choose another --subnet, or leave it out",
            )
    ranges = [str(subnet) for subnet in asked]
    if not asked:
        prefix = _DEFAULT_PREFIX if request["name"] == DEFAULT else _PREFIX
        ranges.append(subnets.choose_v4(taken, prefix=prefix, offset=_offset(places)))
    if request.get("ipv6") and not any(subnet.version == 6 for subnet in asked):
        ranges.append(subnets.choose_v6())
    gateways = request.get("gateways") or []
    return [(text, subnets.gateway_of(subnets.parse_subnet(text), gateways)) for text in ranges]


def _mark(places: Places) -> int:
    return 0 if places.store == DEFAULT_STORE else zlib.crc32(places.store.encode("utf-8", "surrogateescape"))


def _offset(places: Places) -> int:
    """Where a store begins to look, so that two that look at the same time do not choose the same."""
    return _mark(places) % 4096


def _bridge_name(places: Places, found: list[NetworkList]) -> str:
    mark = _mark(places)
    stem = f"cr{mark:08x}" if mark else "corral"
    used = {str(item.plugins[0].get("bridge")) for item in found}
    number = 0
    while f"{stem}{number}" in used or has_link(f"{stem}{number}"):
        number += 1
    return f"{stem}{number}"


def subnets_of(network: NetworkList) -> list[tuple[str, str]]:
    """(subnet, gateway) of its ranges, as far as its configuration tells."""
    ipam = network.plugins[0].get("ipam") or {}
    found = [item for group in ipam.get("ranges") or [] for item in group]
    if ipam.get("subnet"):
        found.append(ipam)
    return [(str(item["subnet"]), str(item.get("gateway", ""))) for item in found if item.get("subnet")]


def users_of(places: Places, name: str) -> list[dict[str, Any]]:
    """Containers that are attached to the network now, or will be when they start: ``id``, ``name``, ``addresses``."""
    found = []
    for container_id in names.list_ids(places):
        try:
            definition = ledger.read_definition(places, container_id)
            state = ledger.read(places, container_id)
        except (CorralError, OSError):
            continue
        entry = next((row for row in state.get("network", {}).get("networks", []) if row["name"] == name), None)
        network = definition.get("network", {})
        wanted = network.get("mode") == "bridge" and name in attachment_names(network)
        if entry is not None or wanted:
            shown = {"id": container_id, "name": definition.get("name", ""), "addresses": []}
            found.append(shown | ({"addresses": entry["addresses"]} if entry is not None else {}))
    return found


def attachment_names(network: dict[str, Any]) -> list[str]:
    """The networks of a container whose mode is bridge."""
    return [item.get("name") or DEFAULT for item in network.get("attachments") or [{}]]


def resolve_attachments(places: Places, network: dict[str, Any]) -> dict[str, Any]:
    """The networks of a container by name, each of which is there. Raises: NotFound, InvalidArgument."""
    rows = [{**item, "name": item.get("name") or DEFAULT} for item in network.get("attachments") or [{}]]
    named = [item["name"] for item in rows]
    for name in named:
        if named.count(name) > 1:
            raise InvalidArgument(f"attach to network {name!r}: named twice", hint="give each network once")
        if name != DEFAULT:
            find_network(places, name)
    return {**network, "attachments": rows}


def describe(places: Places, network: NetworkList, *, with_users: bool = False) -> dict[str, Any]:
    """What ``network ls`` and ``inspect`` show."""
    ranges = subnets_of(network)
    shown: dict[str, Any] = {
        "name": network.name,
        "driver": network.driver,
        "subnets": [subnet for subnet, _ in ranges],
        "gateways": [gateway for _, gateway in ranges],
        "labels": network.labels,
        "internal": bool(network.raw.get("args", {}).get("corral", {}).get("internal")),
        "path": network.path,
        "is_ours": is_ours(places, network),
    }
    if network.plugins[0].get("bridge"):
        shown["device"] = network.plugins[0]["bridge"]
    if with_users:
        shown["containers"] = users_of(places, network.name)
        shown["plugins"] = list(network.plugins)
    return shown


def is_ours(places: Places, network: NetworkList) -> bool:
    """Whether its configuration is the store's, so that it may be removed here."""
    return network.path.startswith(f"{places.networks}/")


def remove_network(places: Places, name: str) -> None:
    """Remove a network that no container has, with its bridge. Raises: NotFound, FailedPrecondition."""
    network = conflist.find(_directories(places), name)
    if not is_ours(places, network):
        raise FailedPrecondition(f"remove network {name!r}: {network.path} is not the engine's", path=network.path)
    with FileLock(f"{places.networks}/.lock"):
        users = users_of(places, name)
        if users:
            raise FailedPrecondition(
                f"remove network {name!r}: container {users[0]['name']!r} uses it",
                hint="remove the container, or disconnect it first",
            )
        device = str(network.plugins[0].get("bridge", ""))
        if device:
            remove_bridge(device)
        try:
            os.unlink(network.path)
        except FileNotFoundError as exc:
            raise NotFound(f"remove network {name!r}: no such network") from exc
        files.remove_tree(f"{places.run}/networks/{name}")
    journal.emit(places, "network", "remove", name, name=name)


def collect_networks(places: Places) -> list[str]:
    """Remove halves of configurations that were just being written, and the addresses of networks that are no more.

    Returns the names of the networks.
    """
    found = []
    with FileLock(f"{places.networks}/.lock"):
        for entry in os.listdir(places.networks):
            name, is_half, _ = entry.removeprefix(".").partition(".conflist-")
            if entry.startswith(".") and is_half:
                os.unlink(f"{places.networks}/{entry}")
                found.append(name)
        known = {network.name for network in list_networks(places)}
        addresses = f"{places.run}/networks"
        for name in os.listdir(addresses) if os.path.isdir(addresses) else ():
            if name not in known and not users_of(places, name):
                files.remove_tree(f"{addresses}/{name}")
                found.append(name)
    return found
