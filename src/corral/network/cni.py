"""Adding a container to a network and removing it: the plugins of the list one after another, results handed on.

Whoever calls keeps the configuration that was used with the result: a network may be changed or removed between the
two, and DEL has to say what ADD said.

Source: CNI specification 1.0.0, section 3 "Execution of Network Configurations".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from corral.errors import CorralError
from corral.network.plugins import TIMEOUT_S, plugin_directories, run_plugin
from corral.network.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.network.conflist import NetworkList

__all__ = ["Attachment", "Run", "Runner", "add", "addresses_of", "delete", "gateways_of", "mac_of"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container. ``namespace``: a path, "" once the namespace is gone."""

    container_id: str
    namespace: str
    interface: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    """Capability -> argument, for the plugins that declare it."""
    arguments: tuple[tuple[str, str], ...] = ()
    """CNI_ARGS."""


class Runner(Protocol):
    """What runs a plugin: the command, its configuration, its variables; returns its answer."""

    def __call__(self, command: str, config: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        """Raises: CorralError with the plugin's own words."""


class Run:
    """The runner of the real plugins on this host.

    ``directory``: the container's own, by which calls for it take turns. ``directories``: where plugins were found
    before, which an engine with another environment has to find again.
    """

    __slots__ = ("directories", "directory")

    def __init__(self, directory: str, directories: Sequence[str] = ()) -> None:
        self.directory = directory
        self.directories = list(dict.fromkeys((*directories, *plugin_directories())))

    def __call__(self, command: str, config: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        with Turn(self.directory, variables["CNI_CONTAINERID"], TIMEOUT_S) as fd:
            return run_plugin(command, config, variables, directories=self.directories, kept_fd=fd)


def add(
    network: NetworkList, attachment: Attachment, run: Runner, *, note: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Add; returns the last plugin's result. On an error the caller calls ``delete``. Raises: CorralError.

    ``note`` gets each plugin's result before the next one is called: plugins take their rules back by what it says.
    """
    result: dict[str, Any] = {}
    for plugin in network.plugins:
        if result and note is not None:
            note(result)
        config = _config(network, plugin, attachment, result)
        result = run("ADD", config, _variables(attachment))
    return result


def delete(network: NetworkList, attachment: Attachment, result: dict[str, Any], run: Runner) -> list[CorralError]:
    """Remove, in the reverse order; returns what the plugins said of what they could not do. Idempotent.

    Each plugin is called, whatever the others say. ``result``: of the ADD, or as far as it came; {} if there was none.
    """
    problems = []
    for plugin in reversed(network.plugins):
        try:
            run("DEL", _config(network, plugin, attachment, result), _variables(attachment))
        except CorralError as exc:
            problems.append(exc)
    return problems


def _variables(attachment: Attachment) -> dict[str, str]:
    found = {
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": attachment.namespace,
        "CNI_IFNAME": attachment.interface,
    }
    if attachment.arguments:
        found["CNI_ARGS"] = ";".join(f"{key}={value}" for key, value in attachment.arguments)
    return found


def _config(
    network: NetworkList, plugin: dict[str, Any], attachment: Attachment, result: dict[str, Any]
) -> dict[str, Any]:
    declared = plugin.get("capabilities") or {}
    config = {key: value for key, value in plugin.items() if key not in ("capabilities", "runtimeConfig")}
    config["cniVersion"], config["name"] = network.version, network.name
    given = {word: value for word, value in attachment.capabilities.items() if declared.get(word)}
    if given:
        config["runtimeConfig"] = given
    if result:
        config["prevResult"] = result
    return config


def addresses_of(result: dict[str, Any], interface: str) -> list[str]:
    """Addresses with their prefix length that the container has on ``interface``."""
    interfaces = result.get("interfaces") or []
    found = []
    for entry in result.get("ips") or []:
        index = entry.get("interface")
        known = isinstance(index, int) and 0 <= index < len(interfaces)
        if not known or interfaces[index].get("name") == interface:
            found.append(str(entry.get("address", "")))
    return [address for address in found if address]


def gateways_of(result: dict[str, Any]) -> list[str]:
    """The gateways of the addresses."""
    return [str(entry["gateway"]) for entry in result.get("ips") or [] if entry.get("gateway")]


def mac_of(result: dict[str, Any], interface: str) -> str:
    """The hardware address of the container's interface, "" if the result does not tell."""
    for entry in result.get("interfaces") or []:
        if entry.get("sandbox") and entry.get("name") == interface:
            return str(entry.get("mac", ""))
    return ""
