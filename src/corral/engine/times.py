"""Moments as people write them: ``--since 10m``, ``2026-01-31T12:00:00Z``, ``1700000000.5``."""

from __future__ import annotations

import time

from corral.errors import InvalidArgument

__all__ = ["parse_duration", "parse_time"]

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def parse_duration(text: str) -> int:
    """Nanoseconds of ``1h30m``, ``500ms``, ``2.5s``. Raises: ValueError."""
    total, rest = 0.0, text.strip()
    if not rest:
        raise ValueError("empty")
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        letters = len(rest) - digits - len(rest[digits:].lstrip("nusmhd"))
        number, unit = rest[:digits], rest[digits : digits + letters]
        if not number or unit not in _UNITS:
            raise ValueError(text)
        total += float(number) * _UNITS[unit]
        rest = rest[digits + letters :]
    return int(total)


def parse_time(text: str, *, now_ns: int | None = None) -> int:
    """Nanoseconds since the epoch of a moment, or of a duration before now. Raises: InvalidArgument."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    try:
        return now_ns - parse_duration(text)
    except ValueError:
        pass
    try:
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    except ValueError:
        pass
    import datetime

    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"read the time {text!r}: it is neither a moment nor a duration",
            hint="write it as 2026-01-31T12:00:00, as seconds since 1970, or as 10m for ten minutes ago",
        ) from exc
    return int(moment.timestamp() * 1e9)
