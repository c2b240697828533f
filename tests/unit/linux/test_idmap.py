"""User namespace maps: what the kernel and newuidmap would say to them is known before asking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux import idmap

if TYPE_CHECKING:
    from pathlib import Path

MAP = [(0, 1000, 1), (1, 100000, 65536)]


@pytest.mark.parametrize(("inside", "outside"), [(0, 1000), (1, 100000), (65536, 165535), (65537, None), (-1, None)])
def test_host_id_is_computed_when_mapped(inside: int, outside: int | None) -> None:
    """Inside to outside, by offset in the range that holds it."""
    assert outside == idmap.host_id(MAP, inside)


@given(st.integers(min_value=0, max_value=65536))
def test_container_id_inverts_host_id_for_mapped_ids(inside: int) -> None:
    """There and back is the identity."""
    outside = idmap.host_id(MAP, inside)
    assert outside is not None
    assert inside == idmap.container_id(MAP, outside)


def test_container_id_is_none_when_outside_of_the_map() -> None:
    """An unmapped host id has no id inside."""
    assert idmap.container_id(MAP, 5) is None


def test_map_text_parses_back_when_formatted() -> None:
    """format_map writes what parse_map reads."""
    assert "0 1000 1\n1 100000 65536\n" == idmap.format_map(MAP)
    assert MAP == idmap.parse_map(idmap.format_map(MAP))


def test_initial_map_is_recognised_when_full() -> None:
    """Only the identity over all ids is the initial map."""
    assert idmap.is_initial_map(idmap.parse_map("         0          0 4294967295\n"))
    assert not idmap.is_initial_map(MAP)


def test_own_map_holds_own_id_when_read() -> None:
    """The reader's own effective ids are mapped."""
    assert idmap.container_id(idmap.read_map("uid"), os.geteuid()) is not None


SUBIDS = """\
ann:100000:65536
1000:300000:10
bob:500000:65536
ann:x:1
ann:1
ann:700000:0
ann:4294967290:10
# ann:1:1
 ann:800000:5
"""


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        (("1000", "ann"), [(100000, 65536), (300000, 10), (800000, 5)]),
        (("1000",), [(300000, 10)]),
        (("nobody",), []),
    ],
)
def test_ranges_are_found_when_name_or_uid_matches(owners: tuple[str, ...], expected: list[tuple[int, int]]) -> None:
    """Both spellings of a user count; malformed and impossible lines are skipped."""
    assert expected == idmap.parse_subids(SUBIDS, owners)


@given(st.text())
def test_subid_parser_never_raises_for_any_text(text: str) -> None:
    """An administrator's typo stops nobody."""
    assert isinstance(idmap.parse_subids(text, ("ann", "")), list)


def test_missing_subid_file_holds_nothing_when_read(tmp_path: Path) -> None:
    """No file is the same as no line."""
    assert [] == idmap.read_subids("uid", 0, etc=str(tmp_path))
    (tmp_path / "subgid").write_bytes(b"\xff:1:2\n0:100:7\n")
    assert [(100, 7)] == idmap.read_subids("gid", 0, etc=str(tmp_path))


def test_names_are_number_and_login_when_user_exists() -> None:
    """A user without an account still has a number."""
    assert ("0", "root") == idmap.owner_names(0)
    assert ("3999999999",) == idmap.owner_names(3999999999)


@pytest.mark.parametrize(
    ("mappings", "has_capability", "expected"),
    [
        ([(0, 1000, 1)], False, False),
        ([(5, 1000, 1)], False, False),
        ([(0, 1001, 1)], False, True),
        ([(0, 1000, 2)], False, True),
        (MAP, False, True),
        (MAP, True, False),
    ],
)
def test_helper_is_needed_when_kernel_would_refuse_the_caller(
    mappings: list[tuple[int, int, int]], has_capability: bool, expected: bool
) -> None:
    """Without the capability, only the caller's own single id can be mapped without help."""
    assert expected is idmap.needs_helper(mappings, own_id=1000, has_capability=has_capability)


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        (MAP, None),
        ([(0, 100000, 131072)], None),
        ([(0, 1000, 2)], (0, 1000, 2)),
        ([(0, 1000, 1), (1, 231072, 1)], (1, 231072, 1)),
        ([(0, 99999, 1)], (0, 99999, 1)),
    ],
)
def test_unavailable_mapping_is_named_when_outside_of_the_ranges(
    mappings: list[tuple[int, int, int]], expected: tuple[int, int, int] | None
) -> None:
    """Adjacent ranges count as one; the caller's own id is always free to take."""
    ranges = [(165536, 65536), (100000, 65536)]
    assert expected == idmap.first_unavailable(mappings, ranges, own_id=1000)
