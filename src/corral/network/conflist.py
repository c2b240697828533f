"""CNI network configurations: reading, checking and finding them. Knows nothing of containers.

Source: CNI specification 1.0.0, section 1 "Network configuration format".
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.oci.json import loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["SYSTEM_DIRECTORY", "VERSIONS", "NetworkList", "find", "list_in", "load", "parse"]

SYSTEM_DIRECTORY = "/etc/cni/net.d"
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
_MAX_BYTES = 1 << 20
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One network: its plugins in the order in which they run. ``raw`` is the whole configuration as it was read."""

    name: str
    version: str
    plugins: tuple[dict[str, Any], ...]
    raw: dict[str, Any]
    path: str = ""
    is_check_disabled: bool = False
    capabilities: frozenset[str] = field(default_factory=frozenset)
    """What any of the plugins takes from the runtime (``portMappings``, ``ips`` ...)."""

    @property
    def driver(self) -> str:
        """The plugin that makes the interface."""
        return str(self.plugins[0]["type"])

    @property
    def labels(self) -> dict[str, str]:
        """The user's own."""
        return dict(self.raw.get("args", {}).get("corral", {}).get("labels", {}))


def parse(value: Any, path: str = "") -> NetworkList:  # noqa: ANN401 -- JSON
    """Check a configuration; a single plugin's (``.conf``) counts as a list of one.

    Raises: InvalidArgument naming the file and the member.
    """
    if not isinstance(value, dict):
        raise InvalidArgument(f"read network {path}: it is no JSON object", path=path)
    raw = value if "plugins" in value else _as_list(value)
    name, version = raw.get("name"), raw.get("cniVersion", "0.3.1")
    if not isinstance(name, str) or not name or not set(name) <= _NAME or not name[0].isalnum():
        raise InvalidArgument(f"read network {path}: its name {name!r} is not of letters, digits and _.-", path=path)
    if version not in VERSIONS:
        raise InvalidArgument(
            f"read network {name!r}: CNI version {version!r} is unknown",
            hint=f"one of {', '.join(VERSIONS)}",
            path=path,
        )
    plugins = raw["plugins"]
    if not isinstance(plugins, list) or not plugins or not all(_is_plugin(item) for item in plugins):
        raise InvalidArgument(f"read network {name!r}: plugins is no list of objects with a type", path=path)
    able = frozenset(word for item in plugins for word, on in (item.get("capabilities") or {}).items() if on)
    return NetworkList(name, version, tuple(plugins), raw, path, bool(raw.get("disableCheck")), able)


def _as_list(value: dict[str, Any]) -> dict[str, Any]:
    return {"cniVersion": value.get("cniVersion", "0.3.1"), "name": value.get("name"), "plugins": [value]}


def _is_plugin(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("type"), str) and bool(item["type"])


def load(path: str) -> NetworkList:
    """Read one file. Raises: NotFound, InvalidArgument."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise NotFound(f"read network {path}: no such file", path=path) from exc
    if len(data) > _MAX_BYTES:
        raise InvalidArgument(f"read network {path}: longer than {_MAX_BYTES} bytes", path=path)
    return parse(loads(data, path), path)


def list_in(directories: Sequence[str]) -> Iterator[NetworkList]:
    """All networks, each name once: the first directory wins, then the first file. What cannot be read is left out."""
    seen: set[str] = set()
    for directory in directories:
        for path in _files(directory):
            try:
                network = load(path)
            except (CorralError, OSError):
                continue
            if network.name not in seen:
                seen.add(network.name)
                yield network


def _files(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    ends = (".conflist", ".conf", ".json")
    return [f"{directory}/{name}" for name in names if name.endswith(ends) and not name.startswith(".")]


def find(directories: Sequence[str], name: str) -> NetworkList:
    """The network called ``name``. Raises: NotFound; InvalidArgument when the file that bears the name is broken."""
    for directory in directories:
        path = f"{directory}/{name}.conflist"
        if set(name) <= _NAME and os.path.isfile(path):
            network = load(path)
            if network.name == name:
                return network
    for network in list_in(directories):
        if network.name == name:
            return network
    raise NotFound(f"find network {name!r}: no such network", hint="`corral network ls` lists them")
