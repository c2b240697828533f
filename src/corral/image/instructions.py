"""Changes to an image's config, written as in a Dockerfile: ``CMD``, ``ENV``, ``LABEL`` ... (``--change``).

Pure. Source: Dockerfile reference; podman-commit(1) "--change".
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from corral.errors import CorralError, InvalidArgument
from corral.oci.json import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Config = dict[str, object]

_SHELL = ["/bin/sh", "-c"]
_UNITS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_HEALTH_FLAGS = {"--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod"}


def apply_changes(config: Mapping[str, object], changes: Iterable[str]) -> Config:
    """A copy of the config's ``config`` member with the changes made, in order. Raises: InvalidArgument."""
    result = dict(config)
    for change in changes:
        # Podman also takes CMD=/bin/sh.
        word, _, rest = change.strip().replace("=", " ", 1).partition(" ") if _is_short(change) else _split(change)
        apply = _INSTRUCTIONS.get(word.upper())
        if apply is None:
            raise InvalidArgument(
                f"change image by {change!r}: {word!r} is no instruction for this",
                hint=f"there are {', '.join(_INSTRUCTIONS)}",
            )
        if not rest.strip():
            raise InvalidArgument(f"change image by {change!r}: nothing follows {word}")
        apply(result, rest.strip(), change)
    return result


def _split(change: str) -> tuple[str, str, str]:
    word, space, rest = change.strip().partition(" ")
    return word, space, rest


def _is_short(change: str) -> bool:
    word, equals, _rest = change.strip().partition("=")
    return bool(equals) and word.isalpha() and word.upper() in _INSTRUCTIONS


def _command(text: str, change: str) -> list[str]:
    """The JSON form as it is; the other form for a shell."""
    return _array(text, change) if text.startswith("[") else [*_SHELL, text]


def _array(text: str, change: str) -> list[str]:
    try:
        value = loads(text.encode(), "array")
    except CorralError as exc:
        raise InvalidArgument(
            f"change image by {change!r}: not a JSON array", hint='for example CMD ["ls", "-l"]'
        ) from exc
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"change image by {change!r}: not an array of strings")
    return [str(item) for item in value]


def _words(text: str, change: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise InvalidArgument(f"change image by {change!r}: {str(exc).lower()}") from exc


def _pairs(text: str, change: str) -> dict[str, str]:
    """``a=b c="d e"``, or the old form ``a b c``: one pair."""
    words = _words(text, change)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"change image by {change!r}: {word!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _list(config: Config, key: str) -> list[str]:
    value = config.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []


def _table(config: Config, key: str) -> dict[str, object]:
    value = config.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _cmd(config: Config, text: str, change: str) -> None:
    config["Cmd"] = _command(text, change)


def _entrypoint(config: Config, text: str, change: str) -> None:
    config["Entrypoint"] = _command(text, change)


def _env(config: Config, text: str, change: str) -> None:
    env = _list(config, "Env")
    for name, value in _pairs(text, change).items():
        env = [item for item in env if item.partition("=")[0] != name] + [f"{name}={value}"]
    config["Env"] = env


def _label(config: Config, text: str, change: str) -> None:
    config["Labels"] = {**_table(config, "Labels"), **_pairs(text, change)}


def _expose(config: Config, text: str, change: str) -> None:
    ports = _table(config, "ExposedPorts")
    for word in _words(text, change):
        port, _, protocol = word.lower().partition("/")
        first, _, last = port.partition("-")
        numbers = [
            item for item in (first, last or first) if item.isascii() and item.isdigit() and 0 < int(item) < 65536
        ]
        if len(numbers) != 2 or protocol not in ("", "tcp", "udp", "sctp"):
            raise InvalidArgument(f"change image by {change!r}: {word!r} is not PORT[-PORT][/tcp|udp|sctp]")
        for number in range(int(numbers[0]), int(numbers[1]) + 1):
            ports[f"{number}/{protocol or 'tcp'}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str, change: str) -> None:
    paths = _array(text, change) if text.startswith("[") else _words(text, change)
    config["Volumes"] = {**_table(config, "Volumes"), **{path: {} for path in paths}}


def _user(config: Config, text: str, _change: str) -> None:
    config["User"] = text


def _workdir(config: Config, text: str, _change: str) -> None:
    base = str(config.get("WorkingDir") or "/")
    config["WorkingDir"] = text if text.startswith("/") else f"{base.rstrip('/')}/{text}"


def _stop_signal(config: Config, text: str, _change: str) -> None:
    config["StopSignal"] = text


def _onbuild(config: Config, text: str, _change: str) -> None:
    config["OnBuild"] = [*_list(config, "OnBuild"), text]


def _healthcheck(config: Config, text: str, change: str) -> None:
    health: Config = {}
    rest = text
    while rest.startswith("--"):
        word, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        flag, _, value = word.partition("=")
        if flag in _HEALTH_FLAGS:
            health[_HEALTH_FLAGS[flag]] = _duration_ns(value, change)
        elif flag == "--retries" and value.isascii() and value.isdigit():
            health["Retries"] = int(value)
        else:
            raise InvalidArgument(f"change image by {change!r}: {word!r} is no option of HEALTHCHECK")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        health["Test"] = ["NONE"]
    elif kind.upper() == "CMD" and command.strip():
        command = command.strip()
        health["Test"] = ["CMD", *_array(command, change)] if command.startswith("[") else ["CMD-SHELL", command]
    else:
        raise InvalidArgument(f"change image by {change!r}: neither CMD and a command nor NONE")
    config["Healthcheck"] = health


def _duration_ns(text: str, change: str) -> int:
    """``1m30s`` in nanoseconds."""
    total, number, rest = 0.0, "", text
    while rest:
        if rest[0] in "0123456789.":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = next((name for name in ("ns", "us", "ms", "s", "m", "h") if rest.startswith(name)), "")
        if not unit or number.count(".") > 1 or not number.strip("."):
            break
        total += float(number) * _UNITS_NS[unit]
        number, rest = "", rest[len(unit) :]
    if rest or number or not text:
        raise InvalidArgument(
            f"change image by {change!r}: {text!r} is not a duration", hint="for example 30s or 1m30s"
        )
    return int(total)


_INSTRUCTIONS: dict[str, Callable[[Config, str, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
