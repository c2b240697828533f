"""Rules of corral.cgroup.slices."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.location import SystemdLocation
from corral.cgroup.slices import (
    ROOT_SLICE,
    directory_name,
    escape_name,
    escape_path,
    nest_slice,
    parent_slice,
    place_unit,
    slice_from_path,
    slice_path,
    unescape_name,
)
from corral.errors import InvalidArgument

WORD = st.text("abcxyz0189_", min_size=1, max_size=6)
SLICES = st.lists(WORD, min_size=1, max_size=5).map(lambda words: "-".join(words) + ".slice")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("foo/bar baz", r"foo-bar\x20baz"),
        (".hidden", r"\x2ehidden"),
        ("a.b", "a.b"),
        ("a-b", r"a\x2db"),
        ("ä", r"\xc3\xa4"),
        ("a@b", r"a\x40b"),
    ],
)
def test_escape_follows_systemd_escape(text: str, escaped: str) -> None:
    """The rows are what systemd-escape(1) prints."""
    assert escape_name(text) == escaped


@given(st.text())
def test_escape_round_trips_for_every_text(text: str) -> None:
    """Nothing is lost, and what comes out is plain ASCII without slashes."""
    encoded = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    escaped = escape_name(encoded)
    assert escaped.isascii()
    assert "/" not in escaped
    assert unescape_name(escaped) == encoded


@pytest.mark.parametrize(("path", "name"), [("/", "-"), ("//a//b/", "a-b"), ("/dev/sda-1", r"dev-sda\x2d1")])
def test_path_is_escaped_without_outer_and_repeated_slashes(path: str, name: str) -> None:
    """The form of `systemd-escape --path`."""
    assert escape_path(path) == name


@pytest.mark.parametrize("name", ["\\", "a\\x4", "a\\y41", "\\xzz"])
def test_unescape_refuses_half_an_escape(name: str) -> None:
    """A backslash begins \\xNN or the name is nobody's."""
    with pytest.raises(InvalidArgument, match="unescape unit name"):
        unescape_name(name)


def test_path_with_parent_component_is_not_escaped() -> None:
    """'..' has no unit."""
    with pytest.raises(InvalidArgument, match=r"'\.\.' component"):
        escape_path("/a/../b")


@given(SLICES)
def test_slices_nest_by_their_dashes(name: str) -> None:
    """Each slice is the start of the next, one dash more; the last is the slice itself."""
    nested = nest_slice(name)
    assert nested[-1] == name
    assert [part.count("-") for part in nested] == list(range(len(nested)))
    stems = [part.removesuffix(".slice") for part in nested]
    assert all(inner.startswith(f"{outer}-") for outer, inner in pairwise(stems))


@given(SLICES)
def test_slice_path_and_slice_from_path_are_inverse(name: str) -> None:
    """A pod's parent as a path names the slice that lies there."""
    assert slice_from_path("/" + "/".join(nest_slice(name))) == name


@given(SLICES)
def test_parent_slice_is_the_last_but_one(name: str) -> None:
    """a-b-c.slice lies in a-b.slice, a.slice in the root."""
    assert (ROOT_SLICE, *nest_slice(name)) == (ROOT_SLICE, *nest_slice(parent_slice(name)), name)


def test_root_slice_is_its_own_parent_and_has_no_path() -> None:
    """-.slice is the top of the tree."""
    assert (nest_slice("-.slice"), parent_slice("-.slice"), slice_path("-.slice")) == ((), "-.slice", "")
    assert slice_from_path("/") == "-.slice"


@pytest.mark.parametrize("name", ["a", ".slice", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "a b.slice"])
def test_what_is_no_slice_is_refused(name: str) -> None:
    """systemd.slice(5): no dash at an end, no two in a row."""
    with pytest.raises(InvalidArgument, match="slice"):
        nest_slice(name)


def test_path_that_does_not_nest_is_refused_with_the_right_one() -> None:
    """/a.slice/b.slice is no place that systemd would make."""
    with pytest.raises(InvalidArgument, match=r"slice 'b\.slice' lies at '/b\.slice'"):
        slice_from_path("/a.slice/b.slice")
    with pytest.raises(InvalidArgument, match="not absolute"):
        slice_from_path("a.slice")


@pytest.mark.parametrize(
    ("unit", "directory"),
    [
        ("corral-x.scope", "corral-x.scope"),
        ("memory.scope", "_memory.scope"),
        ("cgroup.scope", "_cgroup.scope"),
        ("_x.scope", "__x.scope"),
        (".x.scope", "_.x.scope"),
        ("memory-x.scope", "memory-x.scope"),
    ],
)
def test_directory_of_a_unit_never_reads_like_a_control_file(unit: str, directory: str) -> None:
    """A unit named after a controller gets an underscore, as systemd does it."""
    assert directory_name(unit) == directory


def test_s0_2_pod_slice_leads_to_the_scope_below_it() -> None:
    """kubelet's slice, containerd's prefix: one place, whatever the pod's namespaces."""
    location = SystemdLocation("kubepods-besteffort-podX.slice", "cri-corral", "abc")
    place = place_unit(location)
    assert (place.unit, place.slice, place.path) == (
        "cri-corral-abc.scope",
        "kubepods-besteffort-podX.slice",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice/cri-corral-abc.scope",
    )
    assert place.parents == ("kubepods.slice", "kubepods-besteffort.slice", "kubepods-besteffort-podX.slice")
    assert not place.is_slice


@pytest.mark.parametrize(
    ("is_user", "manager", "path"),
    [
        (False, "", "/system.slice/corral-c.scope"),
        (False, "/", "/system.slice/corral-c.scope"),
        (
            True,
            "/user.slice/user-7.slice/user@7.service",
            "/user.slice/user-7.slice/user@7.service/user.slice/corral-c.scope",
        ),
    ],
    ids=["system", "system-root", "user"],
)
def test_empty_slice_is_the_managers_default(is_user: bool, manager: str, path: str) -> None:
    """system.slice for the system's manager, user.slice below a user's."""
    place = place_unit(SystemdLocation("", "corral", "c"), is_user=is_user, manager_path=manager)
    assert place.path == path


def test_unit_in_the_root_slice_lies_at_the_top() -> None:
    """-.slice adds no directory."""
    assert place_unit(SystemdLocation("-.slice", "", "c")).path == "/c.scope"


def test_slice_unit_lies_where_its_name_says() -> None:
    """The name decides; a slice asked for that contradicts it is refused."""
    place = place_unit(SystemdLocation("", "x", "a-b.slice"))
    assert (place.unit, place.slice, place.path, place.is_slice) == ("a-b.slice", "a.slice", "/a.slice/a-b.slice", True)
    assert place_unit(SystemdLocation("a.slice", "x", "a-b.slice")).path == "/a.slice/a-b.slice"
    with pytest.raises(InvalidArgument, match=r"its name puts it into 'a\.slice'") as caught:
        place_unit(SystemdLocation("c.slice", "x", "a-b.slice"))
    assert caught.value.pointer == "linux.cgroupsPath"
    with pytest.raises(InvalidArgument, match="root"):
        place_unit(SystemdLocation("", "", "-.slice"))


@pytest.mark.parametrize(
    ("name", "cause"),
    [("a b", "has no place"), ("x" * 255, "longer than 255"), ("ä", "has no place"), ("a@.slice", "no instances")],
    ids=["blank", "long", "letter", "instance"],
)
def test_names_that_systemd_refuses_are_refused_first(name: str, cause: str) -> None:
    """An error of ours names unit and cause; systemd's would say 'invalid argument'."""
    with pytest.raises(InvalidArgument, match=cause):
        place_unit(SystemdLocation("", "", name))


def test_place_shows_itself() -> None:
    """For logs."""
    assert (
        repr(place_unit(SystemdLocation("", "", "c")))
        == "UnitPlace('c.scope' in 'system.slice' at '/system.slice/c.scope')"
    )
