"""How templates print values, and their ``printf``: Go's verbs that make sense for texts, numbers and lists."""

from __future__ import annotations

from corral.oci.json import dumps


def shown(value: object) -> str:
    """A value as a template prints it: text as it is, lists and maps as Go does."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{shown(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(shown(item) for item in value) + "]"
    return str(value)


def printf(text: str, *values: object) -> str:
    """``%s %v %d %q %x %f %t %%`` with width and ``-``. Raises: ValueError for another verb, IndexError for too few."""
    out = []
    at = 0
    used = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            out.append(text[at:])
            break
        out.append(text[at:percent])
        end = percent + 1
        while end < len(text) and text[end] in "-+# 0123456789.":
            end += 1
        if end >= len(text):
            raise ValueError("the format ends in %")
        verb, flags = text[end], text[percent + 1 : end]
        at = end + 1
        if verb == "%":
            out.append("%")
            continue
        out.append(_one(verb, flags, values[used]))
        used += 1
    return "".join(out)


def _one(verb: str, flags: str, value: object) -> str:
    if verb in ("s", "v", "t"):
        return f"%{flags}s" % shown(value)
    if verb == "q":
        return f"%{flags}s" % dumps(shown(value))
    if verb in "dxXo" and isinstance(value, int):
        return f"%{flags}{verb}" % value
    if verb in "fge" and isinstance(value, int | float):
        return f"%{flags}{verb}" % value
    raise ValueError(f"%{verb} does not fit {shown(value)!r}")
