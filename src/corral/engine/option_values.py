"""Texts of options to values: sizes, durations, pairs, files of lines. Every error names the flag, the value, a remedy.

Source: the forms that docker-run(1) and podman-run(1) take.
"""

from __future__ import annotations

from corral.errors import InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TRUE, _FALSE = ("1", "t", "true", "yes", "on"), ("0", "f", "false", "no", "off")
_FILE_BYTES = 1 << 20


def refuse(flag: str, value: object, cause: str, hint: str) -> InvalidArgument:
    """The error for a flag's value; ``flag`` without dashes."""
    return InvalidArgument(f"--{flag} {value!r}: {cause}", hint=hint)


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def is_digits(text: str) -> bool:
    """Whether it is a plain decimal number, not digits of other scripts."""
    return text.isascii() and text.isdecimal()


def parse_number(flag: str, text: str, low: int, high: int) -> int:
    """A whole number between ``low`` and ``high``, both included."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    number = int(text) if is_digits(digits) and len(digits) < 20 else None
    if number is None or not low <= number <= high:
        raise refuse(flag, text, "not a number in range", f"give a whole number from {low} to {high}")
    return number


def parse_decimal(flag: str, text: str, low: float, high: float) -> float:
    """A number with an optional fraction, between ``low`` and ``high``."""
    whole, dot, part = text.partition(".")
    sign = whole[:1] if whole[:1] in ("-", "+") else ""
    whole = whole.removeprefix(sign)
    good = len(text) < 20 and all(not piece or is_digits(piece) for piece in (whole, part)) and (whole or part)
    number = float(sign + (whole or "0") + dot + part) if good else None
    if number is None or not low <= number <= high:
        raise refuse(flag, text, "not a number in range", f"give a number from {low:g} to {high:g}, as in 1.5")
    return number


def parse_size(flag: str, text: str) -> int:
    """Bytes: ``100``, ``64k``, ``512m``, ``1.5g``; powers of 1024, also written ``mb`` and ``MiB``."""
    lower = text.strip().lower()
    number = lower.rstrip("bkmgtpi")
    unit = lower[len(number) :].removesuffix("b").removesuffix("i")
    if unit not in _UNITS:
        raise refuse(flag, text, "not a size", "give bytes, or a number with k, m, g or t, as in 512m")
    try:
        value = parse_decimal(flag, number, 0, 2**63)
    except InvalidArgument:
        raise refuse(flag, text, "not a size", "give bytes, or a number with k, m, g or t, as in 512m") from None
    return int(value * 1024 ** _UNITS[unit])


def parse_duration(flag: str, text: str) -> float:
    """Seconds: ``10``, ``1.5s``, ``500ms``, ``1m30s``, ``2h``."""
    hint = "give seconds, or a number with ms, s, m or h, as in 1m30s"
    if is_digits(text.replace(".", "", 1)):
        return parse_decimal(flag, text, 0, 1e9)
    total, rest = 0.0, text
    while rest:
        number = _leading(rest, "0123456789.")
        unit = _leading(rest[len(number) :], "abcdefghijklmnopqrstuvwxyzµ")
        if unit not in _SECONDS or not number:
            raise refuse(flag, text, "not a duration", hint)
        total += parse_decimal(flag, number, 0, 1e9) * _SECONDS[unit]
        rest = rest[len(number) + len(unit) :]
    if not text:
        raise refuse(flag, text, "not a duration", hint)
    return total


def _leading(text: str, letters: str) -> str:
    return text[: len(text) - len(text.lstrip(letters))]


def parse_bool(flag: str, text: str) -> bool:
    """True or false in any of the usual words."""
    lower = text.lower()
    if lower in _TRUE or lower in _FALSE:
        return lower in _TRUE
    raise refuse(flag, text, "neither true nor false", f"give --{flag}=true or --{flag}=false")


def parse_choice(flag: str, text: str, choices: Sequence[str]) -> str:
    """One of the words of ``choices``."""
    if text not in choices:
        raise refuse(flag, text, "no such choice", f"one of {', '.join(choices)}")
    return text


def parse_pairs(flag: str, texts: Iterable[str], *, needs_value: bool = True) -> dict[str, str]:
    """``NAME=VALUE`` texts; without a value it is empty where ``needs_value`` is off."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or (needs_value and not equals):
            raise refuse(flag, text, "not of the form NAME=VALUE", f"as in --{flag} name=value")
        found[name] = value
    return found


def parse_words(flag: str, text: str) -> dict[str, str]:
    """``a=1,b,c=2`` -> each word's value, "" for a bare one."""
    found = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not name:
            raise refuse(flag, text, "an empty word between commas", "write name=value,name=value")
        found[name] = value
    return found


def read_lines(flag: str, path: str) -> list[str]:
    """Lines of a file, without blank ones and comments (``#`` first)."""
    try:
        with open(path, "rb") as file:
            text = file.read(_FILE_BYTES).decode("utf-8", "surrogateescape")
    except OSError as exc:
        cause = (exc.strerror or "not readable").lower()
        raise NotFound(f"--{flag} {path!r}: {cause}", hint="give a file with one NAME=VALUE a line") from exc
    lines = [line.lstrip().rstrip("\r") for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def parse_environment(options: Mapping[str, object], environ: Mapping[str, str]) -> list[str]:
    """The lines of --env-host, --env-file, --env and --unsetenv, in that order.

    A name without value takes the caller's; ``PREFIX*`` all of the caller's that begin so; a bare name in the result
    takes a variable away.
    """
    found: list[str] = []
    if options.get("env-host"):
        found += [f"{name}={value}" for name, value in environ.items()]
    lines = [("env-file", line) for path in texts(options, "env-file") for line in read_lines("env-file", path)]
    lines += [("env", line) for line in texts(options, "env")]
    for flag, line in lines:
        name, equals, _ = line.partition("=")
        if not name:
            raise refuse(flag, line, "a variable without a name", f"as in --{flag} NAME=value")
        if equals:
            found.append(line)
        elif name.endswith("*"):
            found += [f"{key}={value}" for key, value in environ.items() if key.startswith(name[:-1])]
        elif name in environ:
            found.append(f"{name}={environ[name]}")
    return found + texts(options, "unsetenv")


def text(options: Mapping[str, object], name: str) -> str:
    """The value of an option, "" if it was not given."""
    value = options.get(name)
    return value if isinstance(value, str) else ""


def texts(options: Mapping[str, object], name: str) -> list[str]:
    """All values of an option that may be given more than once."""
    value = options.get(name)
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
