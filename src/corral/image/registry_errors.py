"""A registry's own words in the body of an answer that says no.

Source: OCI distribution-spec "Error Codes".
"""

from __future__ import annotations

from corral.errors import CorralError
from corral.oci.json import loads

_MAX_WORDS = 300


def explain(body: bytes) -> str:
    """The first error's code and message as one printable line; '' for a body of another form."""
    try:
        value = loads(body, "answer")
    except CorralError:
        return ""
    errors = value.get("errors") if isinstance(value, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    words = [str(first.get(key)) for key in ("code", "message") if isinstance(first.get(key), str)]
    text = ": ".join(words).lower()
    return "".join(character if character.isprintable() else " " for character in text)[:_MAX_WORDS].strip(" .")
