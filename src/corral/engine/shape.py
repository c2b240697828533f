"""Whether a definition that a program sends has the shape that everything after takes for granted.

The command line makes its definitions itself; those that come by the library or the service may be anything. One that
is stored wrong would be in the way of every later look at the store.
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_shape"]

_HEX = frozenset("0123456789abcdef")
_TEXT, _TEXTS, _MAP, _OBJECT, _OBJECTS = (
    "a text",
    "a list of texts",
    "an object of texts",
    "an object",
    "a list of objects",
)
_MEMBERS = {
    "id": _TEXT, "name": _TEXT, "hostname": _TEXT, "domainname": _TEXT, "cgroup_parent": _TEXT, "pod": _TEXT,
    "pid_file": _TEXT, "devices": _TEXTS, "device_rules": _TEXTS, "labels": _MAP, "annotations": _MAP, "sysctls": _MAP,
    "root": _OBJECT, "process": _OBJECT, "network": _OBJECT, "namespaces": _OBJECT, "resources": _OBJECT,
    "security": _OBJECT, "health": _OBJECT, "restart": _OBJECT, "log": _OBJECT, "hooks": _OBJECT, "mounts": _OBJECTS,
}  # fmt: skip
_INNER = {
    "root": {"kind": _TEXT, "image": _TEXT, "path": _TEXT},
    "process": {
        "command": _TEXTS,
        "entrypoint": _TEXTS,
        "env": _TEXTS,
        "groups": _TEXTS,
        "user": _TEXT,
        "workdir": _TEXT,
    },
    "network": {"mode": _TEXT, "container": _TEXT, "dns": _TEXTS, "extra_hosts": _TEXTS},
}
_MOUNT = {"type": _TEXT, "source": _TEXT, "target": _TEXT, "options": _TEXTS}


def check_shape(definition: dict[str, Any]) -> None:
    """Raises: InvalidArgument, naming the member."""
    _check(definition, _MEMBERS, "")
    for name, members in _INNER.items():
        _check(definition.get(name, {}), members, f"{name}.")
    for number, mount in enumerate(definition.get("mounts", [])):
        _check(mount, _MOUNT, f"mounts[{number}].")
        if not mount.get("type") or not mount.get("target"):
            raise InvalidArgument(f"create container: mounts[{number}] has no type, or no target")
    chosen = definition.get("id", "")
    if chosen and (len(chosen) != 64 or not _HEX.issuperset(chosen)):
        raise InvalidArgument(f"create container: the id {chosen!r} is not one of 64 hexadecimal digits")


def _check(value: dict[str, Any], members: dict[str, str], where: str) -> None:
    for name, wanted in members.items():
        if name in value and not _fits(value[name], wanted):
            raise InvalidArgument(f"create container: {where}{name} is not {wanted}")


def _fits(value: object, wanted: str) -> bool:
    if wanted == _TEXT:
        return isinstance(value, str) and "\0" not in value
    if wanted == _OBJECT:
        return isinstance(value, dict)
    if wanted == _MAP:
        return isinstance(value, dict) and all(_fits(item, _TEXT) for item in value.values())
    return isinstance(value, list) and all(_fits(item, _TEXT if wanted == _TEXTS else _OBJECT) for item in value)
