"""A network configuration from what a person asks for. Pure: addresses and names have been chosen before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DRIVERS", "compose"]

VERSION = "1.0.0"
DRIVERS = ("bridge", "macvlan", "ipvlan")
_NUMBERS = {"mtu": "mtu", "vlan": "vlan"}
_DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}


def compose(
    name: str,
    driver: str,
    ranges: Sequence[tuple[str, str]],
    *,
    device: str,
    data_directory: str,
    is_internal: bool = False,
    options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The configuration as a JSON object.

    ``ranges``: (subnet, gateway). ``device``: the bridge to make, or the host's interface that is shared ("": the one
    of the default route). ``data_directory``: where addresses that are in use are kept. Raises: InvalidArgument.
    """
    if driver not in DRIVERS:
        raise InvalidArgument(
            f"create network {name!r}: driver {driver!r} is unknown", hint=f"one of {', '.join(DRIVERS)}"
        )
    given = dict(options or {})
    first: dict[str, Any] = {"type": driver, "ipam": _addresses(driver, ranges, data_directory, is_internal)}
    if driver == "bridge":
        first |= {
            "bridge": device,
            "isGateway": not is_internal,
            "forceAddress": False,
            "ipMasq": not is_internal,
            "hairpinMode": True,
            "capabilities": {"ips": True, "mac": True},
        }
    else:
        if device:
            first["master"] = device
        if given.get("mode"):
            first["mode"] = given.pop("mode")
        first["capabilities"] = {"ips": True, "mac": True} if driver == "macvlan" else {"ips": True}
    for word, key in _NUMBERS.items():
        text = given.pop(word, None)
        if text is not None:
            if not (text.isascii() and text.isdecimal()):
                raise InvalidArgument(f"create network {name!r}: option {word}={text!r} is no number")
            first[key] = int(text)
    if given:
        word = next(iter(given))
        raise InvalidArgument(
            f"create network {name!r}: option {word!r} is unknown", hint="mtu, vlan, parent, mode, or bridge"
        )
    plugins = [first, *(_chain(is_internal) if driver == "bridge" else []), {"type": "tuning"}]
    shown: dict[str, Any] = {"created_by": "corral"}
    if labels:
        shown["labels"] = dict(labels)
    if is_internal:
        shown["internal"] = True
    return {"cniVersion": VERSION, "name": name, "args": {"corral": shown}, "plugins": plugins}


def _addresses(
    driver: str, ranges: Sequence[tuple[str, str]], data_directory: str, is_internal: bool
) -> dict[str, Any]:
    if driver != "bridge" and not ranges:
        # The network there hands out addresses itself.
        return {"type": "dhcp"}
    versions = dict.fromkeys(6 if ":" in subnet else 4 for subnet, _ in ranges)
    found: dict[str, Any] = {
        "type": "host-local",
        "dataDir": data_directory,
        "ranges": [[{"subnet": subnet, "gateway": gateway}] for subnet, gateway in ranges],
    }
    if not is_internal:
        found["routes"] = [{"dst": _DEFAULT_ROUTES[version]} for version in versions]
    return found


def _chain(is_internal: bool) -> list[dict[str, Any]]:
    """Published ports, and a firewall that keeps bridges apart."""
    ports: list[dict[str, Any]] = [] if is_internal else [{"type": "portmap", "capabilities": {"portMappings": True}}]
    return [*ports, {"type": "firewall", "ingressPolicy": "same-bridge"}]
