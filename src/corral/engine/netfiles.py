"""/etc/hosts and /etc/resolv.conf once the network is there: own addresses, names of others on the same networks.

Rewritten in place, for they are bind-mounted; under one lock for the store, so that the last word is the newest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.engine import ledger, names
from corral.engine.hostfiles import hosts_text, resolv_text, write_in_place
from corral.engine.locks import FileLock
from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["refresh_peers", "write_own"]


def write_own(places: Places, definition: dict[str, Any], state: dict[str, Any]) -> None:
    """The container's resolv.conf, where the network says something about it. Raises: OSError."""
    servers = state.get("network", {}).get("dns", {}).get("nameservers", [])
    network = definition["network"]
    if servers and not network.get("dns"):
        write_in_place(f"{places.container(definition['id'])}/resolv.conf", resolv_text({**network, "dns": servers}))


def refresh_peers(
    places: Places, definition: dict[str, Any], state: dict[str, Any], *, is_leaving: bool = False
) -> None:
    """Write the hosts files of the container and of all that share a network with it. Others that vanish are fine.

    Of one that is leaving and has no networks on record any more, because that broke off before: all hosts files.
    """
    own = {entry["name"] for entry in state.get("network", {}).get("networks", [])}
    with FileLock(f"{places.run}/hosts.lock"):
        known = _members(places)
        if is_leaving:
            left = known.get(definition["id"])
            if left is not None:
                left[1]["network"]["networks"] = [row for row in _rows(left[1]) if row["name"] not in own]
        for container_id, (other, found) in known.items():
            is_concerned = (is_leaving and not own) or own & {row["name"] for row in _rows(found)}
            if container_id != definition["id"] and not is_concerned:
                continue
            if is_leaving and container_id == definition["id"]:
                continue
            try:
                _write(places, container_id, other, found, known)
            except OSError:
                continue  # removed meanwhile, or its container keeps us from it


def _rows(state: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = state.get("network", {}).get("networks", [])
    return rows


def _members(places: Places) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Definition and state of all containers that have a network."""
    found = {}
    for container_id in names.list_ids(places):
        try:
            state = ledger.read(places, container_id)
            if state.get("network", {}).get("networks"):
                found[container_id] = (ledger.read_definition(places, container_id), state)
        except (CorralError, OSError):
            continue
    return found


def _write(
    places: Places,
    container_id: str,
    definition: dict[str, Any],
    state: dict[str, Any],
    known: dict[str, tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    if definition.get("no_hosts"):
        return
    rows = _rows(state)
    mine = {row["name"] for row in rows}
    others = []
    for other, (named, found) in known.items():
        if other == container_id:
            continue
        for row in _rows(found):
            if row["name"] in mine:
                called = " ".join(dict.fromkeys(_names_of(places, other, named, row)))
                others += [f"{_bare(address)}\t{called}" for address in row["addresses"]]
    addresses = [_bare(address) for row in rows for address in row["addresses"]]
    gateways = [gateway for row in rows for gateway in row.get("gateways", [])]
    aliases = [name for row in rows for name in _names_of(places, container_id, definition, row)]
    text = hosts_text(definition, addresses, aliases=aliases, gateway=gateways[0] if gateways else "", others=others)
    write_in_place(f"{places.container(container_id)}/hosts", text)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _names_of(places: Places, container_id: str, definition: dict[str, Any], row: dict[str, Any]) -> list[str]:
    found = [definition.get("name", ""), definition.get("hostname", ""), container_id[:12], *row.get("aliases", [])]
    if definition.get("is_infra"):
        found += _pod_names(places, definition.get("pod", ""))
    return [name for name in found if name]


def _pod_names(places: Places, pod_id: str) -> list[str]:
    """A pod's containers are all reached at its address."""
    from corral.engine.podfiles import members_of, read_pod

    found = []
    try:
        found.append(read_pod(places, pod_id)["name"])
        members = members_of(places, pod_id)
        found += [ledger.read_definition(places, container_id).get("name", "") for container_id in members]
    except (CorralError, OSError):
        return found
    return found
