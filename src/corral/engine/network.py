"""A container's network: attached when its init waits, detached when it has ended, each step on record.

``state["network"]`` in the ledger::

    netns       {"path", "identity"}: the name of its namespace in /run/netns
    attachments [{"name", "interface", "phase": intended|created, "config", "capabilities", "arguments", "result",
                "directories": where the plugins were found}]
    networks    [{"name", "interface", "addresses", "gateways", "mac", "aliases"}], as inspect shows them
    bridges     network -> its bridge, which goes with the last container
    ports       published ones, with the numbers that were chosen
    helper      {"program", "pid", "start", "boot"}: pasta or slirp4netns

DEL is done with the configuration that ADD was done with, whatever has become of the network since. A container that
lives is on the networks of its definition: an attachment on record that is not one of them broke off, and is undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.engine import ledger, names
from corral.engine.failpoints import failpoint
from corral.engine.images import read_image
from corral.engine.locks import FileLock
from corral.engine.netfiles import refresh_peers, write_own
from corral.engine.networks import DEFAULT, attachment_names, find_network
from corral.engine.places import is_rootless
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, NotFound, Unsupported
from corral.network import cni, conflist, namespaces, ports
from corral.network.links import remove_bridge
from corral.network.plugins import plugin_directories

if TYPE_CHECKING:
    from corral.engine.places import Places
    from corral.network.conflist import NetworkList

__all__ = ["attach", "attached_names", "check_can_join", "detach", "drop_strays", "join", "leave"]

_USER_MODES = ("pasta", "slirp4netns")


def attach(places: Places, definition: dict[str, Any], pid: int) -> None:
    """Connect the network namespace of process ``pid`` as the definition says; publish ports; write name files.

    On an error what was done stays on record, and ``detach`` undoes it.
    Raises: AlreadyExists (a port), NotFound (network, plugin), Unsupported, or what a plugin said.
    """
    mode = definition["network"]["mode"]
    if mode in _USER_MODES:
        from corral.engine.usernet import attach_user

        _record(places, definition, {"ports": _choose_ports(places, definition)})
        attach_user(places, definition, pid)
        return
    if is_rootless():
        raise Unsupported(
            f"attach container {definition.get('name', '')!r} to a bridge: only root can make one",
            hint="use --network pasta or slirp4netns",
        )
    wanted = [
        (find_network(places, item.get("name") or DEFAULT), item)
        for item in definition["network"].get("attachments") or [{}]
    ]
    with FileLock(f"{places.run}/ports.lock"):
        chosen = _choose_ports(places, definition)
        _record(places, definition, {"ports": chosen})
    _name_namespace(places, definition, pid)
    for number, (network, item) in enumerate(wanted):
        _add(places, definition, network, item, ports=chosen if number == 0 else [])
        failpoint("network.added")
    _write_names(places, definition)


def _name_namespace(places: Places, definition: dict[str, Any], pid: int) -> None:
    source = f"/proc/{pid}/ns/net"
    path = f"{namespaces.DIRECTORY}/corral-{definition['id']}"
    with ledger.Update(places, definition["id"]) as state:
        made = state.setdefault("network", {"attachments": [], "networks": [], "ports": []})
        made["netns"] = {"path": path, "identity": namespaces.identity(source)}
    failpoint("network.intended")
    namespaces.keep(source, path)
    failpoint("network.named")


def _record(places: Places, definition: dict[str, Any], members: dict[str, Any]) -> None:
    with ledger.Update(places, definition["id"]) as state:
        state["network"] = {"attachments": [], "networks": [], **members}


def _write_names(places: Places, definition: dict[str, Any]) -> None:
    state = ledger.read(places, definition["id"])
    write_own(places, definition, state)
    refresh_peers(places, definition, state)


def _choose_ports(places: Places, definition: dict[str, Any]) -> list[dict[str, Any]]:
    asked = _asked_ports(places, definition)
    if not asked:
        return []
    taken = []
    for other in names.list_ids(places):
        if other == definition["id"]:
            continue
        try:
            held = ledger.read(places, other).get("network", {}).get("ports", [])
            if held:
                owner = f"container {ledger.read_definition(places, other).get('name', other)!r}"
                taken += [(owner, port) for port in held]
        except (CorralError, OSError):
            continue
    return ports.choose(asked, taken)


def _asked_ports(places: Places, definition: dict[str, Any]) -> list[dict[str, Any]]:
    network = definition["network"]
    asked = [dict(port) for port in network.get("ports", [])]
    if network.get("publish_all"):
        image = read_image(places, definition)
        known = {(port["container_port"], port["protocol"]) for port in asked}
        for text in image.get("config", {}).get("exposed_ports", []):
            number, _, protocol = str(text).partition("/")
            protocol = protocol or "tcp"
            if number.isdecimal() and (int(number), protocol) not in known:
                asked.append({"host_ip": "", "host_port": 0, "container_port": int(number), "protocol": protocol})
    return asked


def _add(
    places: Places,
    definition: dict[str, Any],
    network: NetworkList,
    item: dict[str, Any],
    *,
    ports: list[dict[str, Any]],
) -> None:
    container_id = definition["id"]
    if ports and "portMappings" not in network.capabilities:
        raise Unsupported(
            f"publish ports on network {network.name!r}: it has no plugin for it",
            hint="choose a network of the driver bridge that is not internal",
        )
    with FileLock(_bridge_lock(places)), ledger.Update(places, container_id) as state:
        rows = state["network"]["attachments"]
        if any(row["name"] == network.name for row in rows):
            raise AlreadyExists(f"attach container {definition.get('name', '')!r} to network {network.name!r}: it is")
        row: dict[str, Any] = {
            "name": network.name,
            "interface": item.get("interface") or _free_interface(rows),
            "phase": "intended",
            "config": network.raw,
            "capabilities": _capabilities(definition, item, ports),
            "arguments": _arguments(network, item),
            "directories": plugin_directories(),
        }
        rows.append(row)
        if _is_made_here(network.raw) and network.plugins[0].get("bridge"):
            state["network"].setdefault("bridges", {})[network.name] = network.plugins[0]["bridge"]
        namespace = state["network"]["netns"]["path"]
    failpoint("network.adding")
    attachment = _attachment(container_id, row, namespace)

    def note(result: dict[str, Any]) -> None:
        with ledger.Update(places, container_id) as state:
            _row_of(state, network.name)["result"] = result

    result = cni.add(network, attachment, cni.Run(places.container(container_id)), note=note)
    with ledger.Update(places, container_id) as state:
        made = state["network"]
        _row_of(state, network.name).update(phase="created", result=result)
        shown = {
            "name": network.name,
            "interface": row["interface"],
            "addresses": cni.addresses_of(result, row["interface"]),
            "gateways": cni.gateways_of(result),
            "mac": cni.mac_of(result, row["interface"]),
            "aliases": item.get("aliases", []),
        }
        made["networks"] = [entry for entry in made["networks"] if entry["name"] != network.name] + [shown]
        if result.get("dns", {}).get("nameservers"):
            made["dns"] = result["dns"]


def _row_of(state: dict[str, Any], name: str) -> dict[str, Any]:
    """The attachment to a network, on record."""
    rows: list[dict[str, Any]] = state["network"]["attachments"]
    return next(row for row in rows if row["name"] == name)


def _bridge_lock(places: Places) -> str:
    """Held while an attachment is put on record, and while an unused bridge is removed: never while plugins run."""
    return f"{places.run}/bridges.lock"


def _remove_bridges(places: Places, ours: dict[str, str]) -> None:
    """Remove the bridges of networks that nobody is on any more; the next ADD makes them anew.

    Who comes meanwhile is on record before its ADD, so that its bridge stays, or is made after this.
    """
    if not ours:
        return
    with FileLock(_bridge_lock(places)):
        used = set()
        for container_id in names.list_ids(places):
            try:
                found = ledger.read(places, container_id).get("network", {}).get("attachments", [])
            except OSError:
                continue
            used |= {row["name"] for row in found}
        for name, device in ours.items():
            if name not in used:
                remove_bridge(device)


def _is_made_here(config: dict[str, Any]) -> bool:
    return "corral" in config.get("args", {})


def _free_interface(rows: list[dict[str, Any]]) -> str:
    used = {row["interface"] for row in rows}
    number = 0
    while f"eth{number}" in used:
        number += 1
    return f"eth{number}"


def _capabilities(definition: dict[str, Any], item: dict[str, Any], ports: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ports:
        found["portMappings"] = [
            {
                "hostPort": port["host_port"],
                "containerPort": port["container_port"],
                "protocol": port["protocol"],
                **({"hostIP": port["host_ip"]} if port.get("host_ip") else {}),
            }
            for port in ports
        ]
    if item.get("ip"):
        found["ips"] = [item["ip"]]
    if item.get("mac"):
        found["mac"] = item["mac"]
    aliases = [definition.get("name", ""), *item.get("aliases", [])]
    found["aliases"] = {item.get("name") or DEFAULT: [name for name in aliases if name]}
    return found


def _arguments(network: NetworkList, item: dict[str, Any]) -> list[list[str]]:
    """What is asked for in the older way, of plugins that do not declare the newer."""
    found = [["IgnoreUnknown", "1"]]
    for key, capability, word in (("ip", "ips", "IP"), ("mac", "mac", "MAC")):
        if item.get(key) and capability not in network.capabilities:
            found.append([word, item[key]])
    return found


def _attachment(container_id: str, row: dict[str, Any], namespace: str) -> cni.Attachment:
    arguments = tuple((key, value) for key, value in row["arguments"])
    return cni.Attachment(container_id, namespace, row["interface"], row["capabilities"], arguments)


def detach(places: Places, definition: dict[str, Any], state: dict[str, Any]) -> None:
    """Undo what ``attach`` did, wherever it got to. Idempotent; goes on past what refuses, then raises the first."""
    made = state["network"]
    container_id = definition["id"]
    problems: list[CorralError] = []
    if definition["network"]["mode"] in _USER_MODES:
        from corral.engine.usernet import end_helper, find_stray

        helper = made.get("helper") or find_stray(places, container_id)
        if helper is not None:
            end_helper(helper)
    for row in reversed(made.get("attachments", [])):
        found = _delete(places, container_id, row, made.get("netns", {}))
        if not found:
            _forget(places, container_id, row["name"])
        problems += found
    failpoint("network.deleted")
    if made.get("networks") or made.get("netns"):
        refresh_peers(places, definition, state, is_leaving=True)
    if problems:
        raise problems[0]
    _remove_bridges(places, made.get("bridges", {}))
    if made.get("netns"):
        namespaces.let_go(made["netns"]["path"], made["netns"]["identity"])


def _delete(places: Places, container_id: str, row: dict[str, Any], netns: dict[str, str]) -> list[CorralError]:
    path = netns.get("path", "")
    if not path or namespaces.identity_or_none(path) != netns.get("identity"):
        path = ""  # what has the name now is not the container's
    network = conflist.parse(row["config"])
    run = cni.Run(places.container(container_id), row.get("directories", []))
    return cni.delete(network, _attachment(container_id, row, path), row.get("result", {}), run)


def _forget(places: Places, container_id: str, name: str) -> None:
    try:
        with ledger.Update(places, container_id) as state:
            made = state.get("network", {})
            for key in ("attachments", "networks"):
                if key in made:
                    made[key] = [entry for entry in made[key] if entry["name"] != name]
    except NotFound:
        return  # removed meanwhile


def check_can_join(definition: dict[str, Any]) -> None:
    """Whether networks can be added to the container. Raises: FailedPrecondition."""
    mode = definition["network"]["mode"]
    if mode not in ("bridge", "none"):
        raise FailedPrecondition(
            f"connect container {definition.get('name', '')!r}: its network is {mode!r}",
            hint="only a container that was made with a bridge network can join others",
        )


def join(places: Places, definition: dict[str, Any], item: dict[str, Any], pid: int) -> None:
    """Attach a container that lives to one more network; what an error leaves ``drop_strays`` undoes.

    Raises: as ``attach``.
    """
    network = find_network(places, item["name"])
    if "netns" not in ledger.read(places, definition["id"]).get("network", {}):
        _name_namespace(places, definition, pid)
    _add(places, definition, network, item, ports=[])
    _write_names(places, definition)


def leave(places: Places, definition: dict[str, Any], name: str) -> None:
    """Detach a container that lives from a network; one that it is not on is fine. Raises: what a plugin said."""
    state = ledger.read(places, definition["id"])
    problems = _take_out(places, definition, name)
    if problems:
        raise problems[0]
    bridges = state.get("network", {}).get("bridges", {})
    _remove_bridges(places, {name: bridges[name]} if name in bridges else {})
    refresh_peers(places, definition, state, is_leaving=True)
    _write_names(places, definition)


def attached_names(places: Places, container_id: str) -> list[str]:
    """The networks that a container is on, or that it was just being attached to or taken off."""
    return [row["name"] for row in ledger.read(places, container_id).get("network", {}).get("attachments", [])]


def drop_strays(places: Places, definition: dict[str, Any]) -> bool:
    """Undo the attachments that are not in the definition, of a connect or disconnect that broke off; whether any was.

    The caller has the container's ``start`` lease. Raises: what a plugin said.
    """
    wanted = attachment_names(definition["network"]) if definition["network"].get("mode") == "bridge" else []
    strays = [name for name in attached_names(places, definition["id"]) if name not in wanted]
    for name in strays:
        leave(places, definition, name)
    return bool(strays)


def _take_out(places: Places, definition: dict[str, Any], name: str) -> list[CorralError]:
    made = ledger.read(places, definition["id"]).get("network", {})
    problems: list[CorralError] = []
    for row in made.get("attachments", []):
        if row["name"] == name:
            problems += _delete(places, definition["id"], row, made.get("netns", {}))
    if not problems:
        _forget(places, definition["id"], name)
    return problems
