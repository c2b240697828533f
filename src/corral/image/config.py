"""An image's config: what its containers start with, and how it came about.

Owns the translation of the config's JSON into ``ImageConfig``, whose keys are the engine's. Cheap to import; no I/O.

Source: image-spec config.md; Docker's image spec 1.2 for Healthcheck.
"""

from __future__ import annotations

from corral.errors import InvalidArgument
from corral.image.digests import parse_digest
from corral.image.manifest import MAX_CONFIG_BYTES, MAX_LAYERS, Platform, as_list, as_object, text_of
from corral.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NotRequired, TypedDict

    class HealthCheck(TypedDict):
        """The image's own health check; times in seconds."""

        command: list[str]
        interval_s: NotRequired[float]
        timeout_s: NotRequired[float]
        start_period_s: NotRequired[float]
        retries: NotRequired[int]

    class ImageConfig(TypedDict):
        """What an image says about its containers; keys that are absent were not set."""

        user: NotRequired[str]
        env: NotRequired[list[str]]
        entrypoint: NotRequired[list[str]]
        command: NotRequired[list[str]]
        workdir: NotRequired[str]
        volumes: NotRequired[list[str]]
        exposed_ports: NotRequired[list[str]]
        labels: NotRequired[dict[str, str]]
        stop_signal: NotRequired[str]
        health: NotRequired[HealthCheck]

    class HistoryEntry(TypedDict):
        """One step of how the image was made, oldest first; ``empty_layer`` steps changed the config alone."""

        created: str
        created_by: str
        author: str
        comment: str
        empty_layer: bool


_MAX_ITEMS = 100_000
_NANOSECONDS = 1_000_000_000


class ConfigFile:
    """One config document, checked. ``document`` is all of it, with what Corral does not know."""

    __slots__ = ("diff_ids", "document", "name")

    def __init__(self, document: dict[str, object], diff_ids: list[str], name: str) -> None:
        self.document = document
        self.diff_ids = diff_ids
        self.name = name

    @property
    def platform(self) -> Platform:
        """What the image is for; linux on this architecture's name where it does not say."""
        return Platform(self._text("os") or "linux", self._text("architecture"), self._text("variant"))

    @property
    def created(self) -> str:
        """When it was made, as it says (RFC 3339); '' if it does not."""
        return self._text("created")

    @property
    def author(self) -> str:
        """Who made it, as it says."""
        return self._text("author")

    def image_config(self) -> ImageConfig:
        """What containers of this image start with. Raises: InvalidArgument for members of the wrong type."""
        return image_config(self._object("config"), self.name)

    def history(self) -> list[HistoryEntry]:
        """How it was made, oldest step first."""
        raw = self.document.get("history")
        items = as_list(raw, self.name, "history", _MAX_ITEMS) if raw is not None else []
        entries: list[HistoryEntry] = []
        for number, item in enumerate(items):
            value = as_object(item, self.name, f"history[{number}]")
            entries.append(
                {
                    "created": _text(value, "created", self.name),
                    "created_by": _text(value, "created_by", self.name),
                    "author": _text(value, "author", self.name),
                    "comment": _text(value, "comment", self.name),
                    "empty_layer": value.get("empty_layer") is True,
                }
            )
        return entries

    def _text(self, key: str) -> str:
        return _text(self.document, key, self.name)

    def _object(self, key: str) -> dict[str, object]:
        value = self.document.get(key)
        return {} if value is None else as_object(value, self.name, key)


def parse_config(data: bytes, name: str) -> ConfigFile:
    """A config from its bytes; ``name`` is what messages call it. Raises: InvalidArgument."""
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidArgument(f"read {name}: larger than {MAX_CONFIG_BYTES} bytes")
    document = as_object(loads(data, name), name, "")
    rootfs = as_object(document.get("rootfs") or {}, name, "rootfs")
    raw = rootfs.get("diff_ids")
    items = as_list(raw, name, "rootfs.diff_ids", MAX_LAYERS) if raw is not None else []
    diff_ids = [parse_digest(item, f"{name}: rootfs.diff_ids[{number}]") for number, item in enumerate(items)]
    return ConfigFile(document, diff_ids, name)


def image_config(config: Mapping[str, object], name: str) -> ImageConfig:
    """The ``config`` member of a config document with the engine's keys. Raises: InvalidArgument."""
    result: ImageConfig = {}
    if user := _text(config, "User", name):
        result["user"] = user
    if env := _texts(config, "Env", name):
        result["env"] = env
    if entrypoint := _texts(config, "Entrypoint", name):
        result["entrypoint"] = entrypoint
    if command := _texts(config, "Cmd", name):
        result["command"] = command
    if workdir := _text(config, "WorkingDir", name):
        result["workdir"] = workdir
    if volumes := _keys(config, "Volumes", name):
        result["volumes"] = volumes
    if ports := _keys(config, "ExposedPorts", name):
        result["exposed_ports"] = ports
    if labels := _object(config, "Labels", name):
        result["labels"] = {key: text_of(value, name, f"config.Labels[{key!r}]") for key, value in labels.items()}
    if stop_signal := _text(config, "StopSignal", name):
        result["stop_signal"] = stop_signal
    if check := _object(config, "Healthcheck", name):
        health = _health(check, name)
        if health["command"]:
            result["health"] = health
    return result


def _health(value: Mapping[str, object], name: str) -> HealthCheck:
    health: HealthCheck = {"command": _texts(value, "Test", name)}
    if (interval := _seconds(value, "Interval", name)) > 0:
        health["interval_s"] = interval
    if (timeout := _seconds(value, "Timeout", name)) > 0:
        health["timeout_s"] = timeout
    if (start_period := _seconds(value, "StartPeriod", name)) > 0:
        health["start_period_s"] = start_period
    retries = value.get("Retries")
    if isinstance(retries, int) and retries > 0:
        health["retries"] = retries
    return health


def _seconds(value: Mapping[str, object], key: str, name: str) -> float:
    number = value.get(key, 0)
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidArgument(f"read {name}: config.Healthcheck.{key}: not a number of nanoseconds")
    return number / _NANOSECONDS


def _text(value: Mapping[str, object], key: str, name: str) -> str:
    item = value.get(key)
    return "" if item is None else text_of(item, name, key)


def _texts(value: Mapping[str, object], key: str, name: str) -> list[str]:
    items = value.get(key)
    if items is None:
        return []
    listed = as_list(items, name, key, _MAX_ITEMS)
    return [text_of(item, name, f"{key}[{number}]") for number, item in enumerate(listed)]


def _object(value: Mapping[str, object], key: str, name: str) -> dict[str, object]:
    item = value.get(key)
    return {} if item is None else as_object(item, name, key)


def _keys(value: Mapping[str, object], key: str, name: str) -> list[str]:
    return [text_of(item, name, key) for item in _object(value, key, name)]
