"""Mount tables are read as the kernel wrote them, whatever the names in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux.mountinfo import (
    mount_at,
    parse_mountinfo,
    unescape,
)

LINE = (
    "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime shared:7 master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n"
)

TREE = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /proc rw - proc proc rw
23 21 0:6 / /data rw - tmpfs first rw
24 23 0:7 / /data rw - tmpfs second rw
25 24 0:8 / /data/x rw - tmpfs inner rw
26 21 0:9 / /database rw - tmpfs other rw
"""


def test_all_fields_are_read_when_optional_ones_are_present() -> None:
    """Every field of the man page's example ends in its own attribute."""
    [mount] = parse_mountinfo(LINE)
    assert (36, 35, 98, 0) == (mount.mount_id, mount.parent_id, mount.major, mount.minor)
    assert ("/mnt1", "/mnt/a b") == (mount.root, mount.mount_point)
    assert (("rw", "noatime"), "ext3", "/dev/root") == (mount.options, mount.fstype, mount.source)
    assert ("rw", "errors=continue") == mount.super_options
    assert (7, 1, 2, False) == (mount.shared, mount.master, mount.propagate_from, mount.unbindable)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", "private"),
        ("shared:1 ", "shared"),
        ("master:1 ", "slave"),
        ("shared:1 master:2 ", "shared,slave"),
        ("unbindable ", "unbindable"),
        ("newer_tag:9 ", "private"),
    ],
)
def test_propagation_is_named_when_tags_say_so(tags: str, expected: str) -> None:
    """The optional fields translate to mount(8)'s words; unknown ones are ignored, as the man page demands."""
    [mount] = parse_mountinfo(f"1 0 0:1 / / rw {tags}- tmpfs tmpfs rw")
    assert expected == mount.propagation


@pytest.mark.parametrize(
    "line", ["", "x", "1 2 0:1 / / rw", "1 2 0:1 / / rw shared:1", "a b c:d / / rw - t s o", "1 2 0:1 - x y z"]
)
def test_line_is_skipped_when_it_is_no_mount(line: str) -> None:
    """A line that is not of the known form is skipped, and the next one still counts."""
    assert 1 == len(parse_mountinfo(line + "\n" + LINE))


def test_empty_source_is_kept_when_the_kernel_prints_two_blanks() -> None:
    """Some file systems have an empty source; the fields after it must not move."""
    [mount] = parse_mountinfo("1 0 0:1 / /x rw - tmpfs  rw,size=1k")
    assert ("", ("rw", "size=1k")) == (mount.source, mount.super_options)


def test_escaped_comma_is_not_a_border_when_in_super_options() -> None:
    """An option's own comma comes escaped (overlay directories), so it stays inside its option."""
    [mount] = parse_mountinfo("1 0 0:1 / /x rw - overlay o rw,lowerdir=/a\\054b")
    assert ("rw", "lowerdir=/a,b") == mount.super_options


def test_form_feed_does_not_end_a_line_when_in_a_path() -> None:
    """The kernel escapes blanks, tabs, newlines and backslashes only."""
    [mount] = parse_mountinfo("1 0 0:1 / /a\x0cb\u2028c rw - tmpfs t rw\n")
    assert "/a\x0cb\u2028c" == mount.mount_point


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\\040b", "a b"),
        ("\\011\\012\\134", "\t\n\\"),
        ("a\\", "a\\"),
        ("\\04", "\\04"),
        ("\\09x", "\\09x"),
        ("\\777", "\\777"),
        ("\\134040", "\\040"),
    ],
)
def test_octal_is_decoded_when_complete(text: str, expected: str) -> None:
    """Only a backslash with three octal digits is an escape, and it is decoded once."""
    assert expected == unescape(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_unescape_inverts_the_kernel_for_any_name(name: str) -> None:
    """What seq_file mangles (blank, tab, newline, backslash) comes back unchanged."""
    mangled = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in name)
    assert name == unescape(mangled)


@given(st.text())
def test_parser_never_raises_for_any_text(text: str) -> None:
    """Whatever the file holds, the parser answers a list."""
    assert isinstance(parse_mountinfo(text), list)


def test_topmost_wins_when_mounts_are_stacked() -> None:
    """Of two mounts at one place, one sees the upper."""
    mount = mount_at(parse_mountinfo(TREE), "/data")
    assert mount is not None
    assert "second" == mount.source


def test_repr_names_the_place_when_printed() -> None:
    """A mount in a failing test can be recognised."""
    assert "Mount(36 '/dev/root' on '/mnt/a b' type ext3)" == repr(parse_mountinfo(LINE)[0])
