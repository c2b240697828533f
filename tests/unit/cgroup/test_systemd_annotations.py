"""Rules of corral.cgroup.systemd_annotations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.systemd_annotations import PREFIX, annotation_property, parse_variant
from corral.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'text'", ("s", "text")),
        ('"it\'s"', ("s", "it's")),
        (r"'a\'b\\c\n'", ("s", "a'b\\c\n")),
        (" true ", ("b", True)),
        ("boolean false", ("b", False)),
        ("-5", ("i", -5)),
        ("0x10", ("i", 16)),
        ("007", ("i", 7)),
        ("uint64 18446744073709551615", ("t", (1 << 64) - 1)),
        ("@t 5", ("t", 5)),
        ("1.5", ("d", 1.5)),
        ("double 2", ("d", 2.0)),
        ("objectpath '/a'", ("o", "/a")),
        ("['a', 'b']", ("as", ["a", "b"])),
        ("['a',]", ("as", ["a"])),
        ("@as []", ("as", [])),
        ("[uint64 1, 2]", ("at", [1, 2])),
        ("@ay [1, 2]", ("ay", b"\1\2")),
        ("[('/dev/null', 'rwm')]", ("a(ss)", [("/dev/null", "rwm")])),
        ("(uint32 1, 'x')", ("(us)", (1, "x"))),
    ],
)
def test_text_form_is_read_with_its_type(text: str, expected: tuple[str, Any]) -> None:
    """The rows are GLib's own rules for the types that properties have."""
    assert parse_variant(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bare",
        "'open",
        r"'\q'",
        "[]",
        "['a', 1]",
        "['a' 'b']",
        "()",
        "5 6",
        "3000000000",
        "byte 256",
        "uint64 -1",
        "uint32 'x'",
        "@s 5",
        "uint64 1.5",
        "1.2.3",
        "@",
        "[" * 40,
        "'\0'",
        "[1,",
        "string 5",
    ],
)
def test_what_is_no_value_is_refused(text: str) -> None:
    """With a ValueError, whatever it is."""
    with pytest.raises(ValueError):
        parse_variant(text)


@given(st.text("'\"[](),@ \\abtu0159.-exin", max_size=30))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    """Nothing else comes out, and what does has a type of its own."""
    try:
        signature, _ = parse_variant(text)
    except ValueError:
        return
    assert signature


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", ("t", 5))),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", ("t", 1_500_000))),
        ("TimeoutStopSec", "uint64 2", ("TimeoutStopUSec", ("t", 2_000_000))),
        ("CollectMode", "'inactive'", ("CollectMode", ("s", "inactive"))),
    ],
)
def test_annotation_becomes_a_property_of_the_start(name: str, text: str, expected: object) -> None:
    """Seconds become the microseconds that the bus wants; the annotation stays the property's place."""
    found = annotation_property(PREFIX + name, text)
    assert (found.wire, found.is_fixed, found.pointer) == (expected, True, f'annotations["{PREFIX}{name}"]')


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (f"{PREFIX}lower", "true"),
        (f"{PREFIX}With-Dash", "true"),
        (PREFIX, "true"),
        ("org.example.Name", "true"),
        (f"{PREFIX}TimeoutStopSec", "'x'"),
        (f"{PREFIX}TimeoutStopSec", "-1"),
        (f"{PREFIX}TimeoutStopSec", "true"),
        (f"{PREFIX}KillMode", "mixed"),
    ],
)
def test_annotation_of_the_wrong_form_is_refused_with_its_place(key: str, text: str) -> None:
    """An error at the border, with the annotation as pointer, not one of systemd's later."""
    with pytest.raises(InvalidArgument, match="read annotation") as caught:
        annotation_property(key, text)
    assert caught.value.pointer == f'annotations["{key}"]'
