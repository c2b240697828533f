"""Networks: what containers can be attached to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from corral.engine import journal, leases, ledger, names, networks, status
from corral.engine.rowfilters import check_filters, is_wanted
from corral.engine.shape import NETWORK, check_members
from corral.errors import CorralError, FailedPrecondition, NotFound

if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = [
    "finish_connecting",
    "network_connect",
    "network_create",
    "network_disconnect",
    "network_inspect",
    "network_ls",
    "network_prune",
    "network_rm",
]

_LEASE_S = 180.0
_FILTERS = ("name", "driver")


def network_create(places: Places, request: dict[str, Any]) -> dict[str, Any]:
    """Make a network; members as ``networks.create_network``. Raises: AlreadyExists, InvalidArgument, NotFound."""
    check_members("create network", request, NETWORK)
    places.prepare()
    return networks.describe(places, networks.create_network(places, request))


def network_ls(places: Places, *, filters: list[str] | None = None) -> list[dict[str, Any]]:
    """One row per network, by name. Filters: ``name``, ``driver``, ``label``. Raises: InvalidArgument."""
    check_filters(filters or [], _FILTERS)
    rows = [networks.describe(places, network) for network in networks.list_networks(places)]
    return [row for row in rows if is_wanted(row, filters or [], _FILTERS)]


def network_inspect(places: Places, name: str) -> dict[str, Any]:
    """A network, its plugins, and the containers on it. Raises: NotFound."""
    return networks.describe(places, networks.find_network(places, name), with_users=True)


def network_rm(places: Places, name: str) -> dict[str, Any]:
    """Remove a network. Raises: NotFound; FailedPrecondition when a container has it, or it is not the engine's."""
    networks.remove_network(places, name)
    return {"name": name}


def network_prune(places: Places) -> list[str]:
    """Remove the networks that no container has, but not the default one; returns their names."""
    removed = []
    for network in networks.list_networks(places):
        if network.name == networks.DEFAULT or not networks.is_ours(places, network):
            continue
        try:
            networks.remove_network(places, network.name)
        except (FailedPrecondition, NotFound):
            continue
        removed.append(network.name)
    return removed


def network_connect(
    places: Places, network: str, container: str, *, aliases: list[str] | None = None, ip: str = "", mac: str = ""
) -> dict[str, Any]:
    """Attach a container to one more network: now if it lives, and whenever it starts.

    Raises: NotFound; FailedPrecondition for one whose network is no bridge; what a plugin said.
    """
    from corral.engine.network import check_can_join, drop_strays, join

    container_id = names.find_id(places, container)
    found = networks.find_network(places, network)
    item: dict[str, Any] = {"name": found.name}
    item.update({key: value for key, value in (("aliases", aliases), ("ip", ip), ("mac", mac)) if value})
    with leases.acquire(places, container_id, "start", deadline_s=_LEASE_S, wait_s=30.0):
        facts = status.look(places, container_id)
        check_can_join(facts.definition)
        rows = _attachments(facts.definition)
        if any((row.get("name") or networks.DEFAULT) == found.name for row in rows):
            raise FailedPrecondition(f"connect container {facts.definition['name']!r}: it is on network {found.name!r}")
        try:
            if facts.is_live:
                drop_strays(places, facts.definition)
                join(places, facts.definition, item, facts.pid)
            with ledger.Update(places, container_id):
                definition = ledger.read_definition(places, container_id)
                definition["network"] = {**definition["network"], "mode": "bridge", "attachments": [*rows, item]}
                ledger.write_definition(places, container_id, definition)
        except BaseException:
            if facts.is_live:
                # What a plugin refuses to undo stays on record, and is tried again at the container's end.
                with contextlib.suppress(CorralError):
                    drop_strays(places, facts.definition)
            raise
    _tell(places, "connect", found.name, container_id)
    return {"network": found.name, "container": container_id}


def network_disconnect(places: Places, network: str, container: str) -> dict[str, Any]:
    """Take a container off a network, now and for its next starts. Raises: NotFound; what a plugin said.

    The definition comes first: from then on it is to be off the network, and who comes later finishes that.
    """
    from corral.engine.network import attached_names, drop_strays

    container_id = names.find_id(places, container)
    with leases.acquire(places, container_id, "start", deadline_s=_LEASE_S, wait_s=30.0):
        facts = status.look(places, container_id)
        rows = _attachments(facts.definition)
        kept = [row for row in rows if (row.get("name") or networks.DEFAULT) != network]
        if len(kept) == len(rows) and network not in attached_names(places, container_id):
            raise NotFound(f"disconnect container {facts.definition['name']!r}: it is not on network {network!r}")
        with ledger.Update(places, container_id):
            definition = ledger.read_definition(places, container_id)
            definition["network"] = {**definition["network"], "attachments": kept}
            if not kept:
                definition["network"] = {**definition["network"], "mode": "none"}
                definition["network"].pop("attachments")
            ledger.write_definition(places, container_id, definition)
        if facts.is_live:
            drop_strays(places, definition)
    _tell(places, "disconnect", network, container_id)
    return {"network": network, "container": container_id}


def finish_connecting(places: Places, container_id: str) -> bool:
    """Undo a connect, or finish a disconnect, whose engine died; whether there was one. Raises: what a plugin said."""
    from corral.engine.network import drop_strays

    with leases.acquire(places, container_id, "start", deadline_s=_LEASE_S):
        facts = status.look(places, container_id)
        return facts.is_live and drop_strays(places, facts.definition)


def _attachments(definition: dict[str, Any]) -> list[dict[str, Any]]:
    if definition["network"].get("mode") != "bridge":
        return []
    rows: list[dict[str, Any]] = definition["network"].get("attachments") or [{"name": networks.DEFAULT}]
    return rows


def _tell(places: Places, action: str, network: str, container_id: str) -> None:
    journal.emit(places, "network", action, network, name=network, attributes={"container": container_id})
