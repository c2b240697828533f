"""Detach keys."""

from __future__ import annotations

import pytest

from corral.cli.terminal import KeyFilter, parse_keys
from corral.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@", b"\x00"), ("ctrl-],x", b"\x1dx"), ("", b"")],
)
def test_keys_are_the_bytes_that_a_terminal_sends(text: str, expected: bytes) -> None:
    """Docker's and Podman's notation."""
    assert parse_keys(text) == expected


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "ab", "ctrl-p,,a"])
def test_what_is_no_key_is_refused(text: str) -> None:
    """The whole value stands in the message."""
    with pytest.raises(InvalidArgument, match="is no key"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("chunks", "expected", "found"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10", b"y"], b"\x11\x10y", False),
    ],
)
def test_filter_finds_the_keys_across_reads(chunks: list[bytes], expected: bytes, found: bool) -> None:
    """A part of the keys that is none after all is passed on, late but whole."""
    keys = KeyFilter(b"\x10\x11")
    assert (b"".join(keys.feed(chunk) for chunk in chunks), keys.is_found) == (expected, found)


def test_filter_without_keys_passes_everything() -> None:
    """--detach-keys ''."""
    assert KeyFilter(b"").feed(b"\x10\x11") == b"\x10\x11"
