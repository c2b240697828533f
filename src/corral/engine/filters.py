"""``--filter key=value`` for containers: values of one key are alternatives, different keys must all hold.

Source: podman-ps(1) "--filter"; docker ps "--filter".
"""

from __future__ import annotations

from corral.engine import names, status
from corral.engine.rowfilters import check_word, split_filter
from corral.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["Filter"]

_KEYS = (
    "ancestor before command exited health id is-task label label! name network pod restart-policy since status until "
    "volume"
).split()
# What others call it -> what it is here. ``restarting``: ended, and its policy starts it again.
_STATUS = {
    "created": ("configured", "created"),
    "initialized": ("created",),
    "stopped": ("exited",),
    "running": ("running", "stopping"),
    "restarting": (),
}
_WORDS = {
    "status": (*sorted(status.LIVE), status.CONFIGURED, status.EXITED, status.REMOVING, status.DEAD, *_STATUS),
    "health": ("starting", "healthy", "unhealthy", "none"),
    "restart-policy": ("no", "always", "on-failure", "unless-stopped"),
    "is-task": ("true", "false"),
}


class Filter:
    """The filters of one command line. Raises: InvalidArgument for what is none."""

    __slots__ = ("_wanted",)

    def __init__(self, texts: list[str]) -> None:
        self._wanted: dict[str, list[str]] = {}
        for text in texts:
            key, value = split_filter(text, _KEYS)
            if key in _WORDS:
                check_word(text, value, _WORDS[key])
            elif key == "exited" and not value.isdecimal():
                raise InvalidArgument(f"read filter {text!r}: {value!r} is no exit code", hint="as in exited=137")
            elif key == "until":
                from corral.engine.times import parse_time

                parse_time(value)
            self._wanted.setdefault(key, []).append(value)

    def check(self, places: Places) -> None:
        """Look for the containers that others are compared with. Raises: InvalidArgument where one is not there."""
        for key in ("before", "since"):
            for value in self._wanted.get(key, []):
                _created_ns(places, key, value)

    def has(self, key: str) -> bool:
        """Whether this key is asked for."""
        return key in self._wanted

    def matches(self, facts: Facts) -> bool:
        """Whether it is one of those asked for. Labels must all be there; of other keys one value is enough."""
        for key, values in self._wanted.items():
            if key.startswith("label"):
                labels = facts.definition.get("labels", {})
                found = [_has_label(labels, value) for value in values]
                if not all(found) if key == "label" else any(found):
                    return False
            elif not any(_matches(facts, key, value) for value in values):
                return False
        return True


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _matches(facts: Facts, key: str, value: str) -> bool:
    definition = facts.definition
    words = [*definition["process"].get("entrypoint", []), *definition["process"].get("command", [])]
    simple: dict[str, Any] = {
        "id": facts.container_id.startswith(value),
        "name": value in definition.get("name", ""),
        "ancestor": _is_image(definition.get("root", {}), value),
        "command": value in words[:1],
        "network": value in _networks(definition),
        "restart-policy": value == definition.get("restart", {}).get("policy", "no"),
        "volume": any(value in (item.get("source"), item.get("target")) for item in definition.get("mounts", [])),
        "is-task": value == "false",
    }
    if key in simple:
        return bool(simple[key])
    if key == "status" and value == "restarting":
        return facts.status == status.EXITED and bool(facts.state.get("restart", {}).get("due_ns"))
    if key == "status":
        return facts.status in _STATUS.get(value, (value,))
    if key == "exited":
        return bool(facts.exit()) and str(facts.exit().get("code")) == value
    if key == "health":
        health: str = facts.state.get("health", {}).get("status", "none")
        return health == value
    if key == "pod":
        pod: str = definition.get("pod", "")
        return bool(pod) and (pod.startswith(value) or names.owner_or_none(facts.places, value) == f"pod:{pod}")
    return _matches_time(facts, key, value)


def _is_image(root: dict[str, Any], wanted: str) -> bool:
    image, image_id = root.get("image", ""), root.get("image_id", "").removeprefix("sha256:")
    if image_id and image_id.startswith(wanted.removeprefix("sha256:")):
        return True
    return wanted in (
        image,
        image.rpartition(":")[0],
        image.rpartition("/")[2],
        image.rpartition("/")[2].partition(":")[0],
    )


def _networks(definition: dict[str, Any]) -> list[str]:
    network = definition.get("network", {})
    return [network.get("mode", ""), *(item["name"] for item in network.get("attachments", []))]


def _matches_time(facts: Facts, key: str, value: str) -> bool:
    created: int = facts.definition.get("created_ns", 0)
    if key == "until":
        from corral.engine.times import parse_time

        return created < parse_time(value)
    bound = _created_ns(facts.places, key, value)
    return created < bound if key == "before" else created > bound


def _created_ns(places: Places, key: str, value: str) -> int:
    """When the container was made that a filter names. Raises: InvalidArgument."""
    from corral.engine import ledger

    try:
        found: int = ledger.read_definition(places, names.find_id(places, value)).get("created_ns", 0)
    except NotFound as exc:
        raise InvalidArgument(
            f"read filter {key}={value}: no such container", hint="corral ps -a lists what there is"
        ) from exc
    return found
