"""Digests: ``algorithm:hex``, the only names that content is stored and fetched by.

A digest that went through ``parse_digest`` holds nothing but its algorithm and hexadecimal digits, so it may become
part of a path or of a URL.

Source: image-spec descriptor.md "Digests".
"""

from __future__ import annotations

import sys

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hasher(Protocol):
        """What hashlib's objects do, as far as it is used here."""

        def update(self, data: bytes | bytearray | memoryview, /) -> None:
            """Take more data."""

        def hexdigest(self) -> str:
            """The digest of all data so far, in lower case."""


# Hexadecimal digits per algorithm.
ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def is_digest(text: object) -> bool:
    """Whether this is a well-formed digest of a known algorithm."""
    if not isinstance(text, str):
        return False
    algorithm, _, digits = text.partition(":")
    return len(digits) == ALGORITHMS.get(algorithm, -1) and _HEX.issuperset(digits)


def parse_digest(text: object, what: str = "digest") -> str:
    """Return ``text`` if it is a digest. Raises: InvalidArgument, naming ``what`` holds it."""
    if not is_digest(text):
        shown = repr(text) if len(repr(text)) < 160 else repr(text)[:157] + "..."
        raise InvalidArgument(
            f"read {what}: {shown} is not a digest",
            hint="a digest is sha256: and 64 hexadecimal digits in lower case (or sha384 with 96, sha512 with 128)",
        )
    assert isinstance(text, str)
    return text


def is_hex(text: str) -> bool:
    """Whether the text consists of hexadecimal digits in lower case, and of at least one."""
    return bool(text) and _HEX.issuperset(text)


def split(digest: str) -> tuple[str, str]:
    """(algorithm, hexadecimal digits)."""
    algorithm, _, digits = digest.partition(":")
    return algorithm, digits


def hasher_of(digest: str) -> Hasher:
    """A fresh hash object of the digest's algorithm."""
    import hashlib

    return hashlib.new(split(digest)[0], usedforsecurity=True)


def digest_of(data: bytes) -> str:
    """The sha256 digest of ``data``; cheap to import, for the few small documents of the cold path."""
    return f"sha256:{_sha256(data)}"


def _sha256(data: bytes) -> str:
    # The small C module: hashlib would load OpenSSL, which costs more than what is hashed here.
    module = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    return str(module.sha256(data).hexdigest())


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer, bottom first: what the layer and everything below it come to.

    Source: image-spec config.md "Layer ChainID".
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digest_of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
