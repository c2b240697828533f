"""Rules of corral.cgroup.location: statements S0.3 and S0.4, and the ADR on relative paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.layout import Hierarchy, Layout
from corral.cgroup.location import CgroupfsLocation, SystemdLocation, parse_cgroups_path, place
from corral.errors import FailedPrecondition, InvalidArgument


def hybrid(*, own_v1: str = "/", own_v2: str = "/", mount_root: str = "/") -> Layout:
    """A layout with one v1 controller, two named hierarchies and v2."""
    return Layout(
        (
            Hierarchy(0, 1, ("memory",), mount_point="/cg/memory", own_path=own_v1, mount_root=mount_root),
            Hierarchy(1, 1, ("name=systemd",), mount_point="/cg/systemd", own_path=own_v1, mount_root=mount_root),
            Hierarchy(2, 1, ("name=elogind",), mount_point="/cg/elogind", own_path=own_v1),
            Hierarchy(3, 2, (), mount_point="/cg/unified", own_path=own_v2, mount_root=mount_root),
        )
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/libpod_parent/libpod-abc", "/libpod_parent/libpod-abc"),
        ("/default/abc", "/default/abc"),
        ("/docker/abc", "/docker/abc"),
        ("/buildah-abc", "/buildah-abc"),
        ("//a/./b/", "/a/b"),
        ("a/b", "a/b"),
        ("/kubepods.slice/kubepods-pod1.slice/x.scope", "/kubepods.slice/kubepods-pod1.slice/x.scope"),
    ],
)
def test_cgroupfs_path_is_kept(text: str, path: str) -> None:
    """What the known callers send stays what it is; only empty and "." components go."""
    location = parse_cgroups_path(text, driver="cgroupfs", container_id="abc")
    assert location == CgroupfsLocation(path)


@pytest.mark.parametrize("text", [None, ""])
def test_default_is_the_id_when_no_path_is_given(text: str | None) -> None:
    """The default is told apart from a path that was asked for."""
    assert parse_cgroups_path(text, driver="cgroupfs", container_id="c1") == CgroupfsLocation("c1", is_explicit=False)
    unit = parse_cgroups_path(text, driver="systemd", container_id="c1")
    assert unit == SystemdLocation("", "corral", "c1", is_explicit=False)


@pytest.mark.parametrize("text", ["system.slice:docker:abc", "::x", "a:b:c", "user.slice::x.slice"])
def test_s0_4_systemd_form_is_refused_by_cgroupfs(text: str) -> None:
    """The systemd form is never read as a path; the error names path and driver."""
    with pytest.raises(InvalidArgument) as caught:
        parse_cgroups_path(text, driver="cgroupfs", container_id="c")
    assert str(caught.value) == (
        f"place group at {text!r} with the cgroupfs driver: it is in the systemd form 'slice:prefix:name' "
        "(config linux.cgroupsPath)"
    )
    assert "--systemd-cgroup" in caught.value.hint


@pytest.mark.parametrize("text", ["/a/b", "a/b", "/a:b:c", "a:b", "a:b:c:d"])
def test_s0_4_path_is_refused_by_systemd(text: str) -> None:
    """A path is never read as a unit; the error names path and driver."""
    with pytest.raises(InvalidArgument) as caught:
        parse_cgroups_path(text, driver="systemd", container_id="c")
    assert caught.value.message == (
        f"place group at {text!r} with the systemd driver: it is not of the form 'slice:prefix:name'"
    )


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("/", "it names the root group"),
        ("//.", "it names the root group"),
        ("/a/../b", "it has a '..' component"),
        ("..", "it has a '..' component"),
        ("/system.slice:docker:x", "a directory name with ':' is never made"),
        ("/a/b:c", "a directory name with ':' is never made"),
        ("/a\nb", "it has a newline or NUL character"),
        ("/a\0b", "it has a newline or NUL character"),
        ("/" + "x" * 256, "a component is longer than 255 bytes"),
        ("/" + "ö" * 128, "a component is longer than 255 bytes"),
        ("/a/cgroup.procs", "'cgroup.procs' is a control file's name"),
        ("/a/tasks", "'tasks' is a control file's name"),
    ],
)
def test_cgroupfs_path_is_refused_when_impossible(text: str, cause: str) -> None:
    """Refused with its cause, never repaired."""
    with pytest.raises(InvalidArgument) as caught:
        parse_cgroups_path(text, driver="cgroupfs", container_id="c")
    assert caught.value.message == f"place group at {text!r} with the cgroupfs driver: {cause}"
    assert caught.value.pointer == "linux.cgroupsPath"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a.slice:b:", "the name after the second colon is empty"),
        ("a:b:c", "'a' is not a slice's name"),
        ("-a.slice:b:c", "'-a.slice' is not a slice's name"),
        ("a--b.slice:b:c", "'a--b.slice' is not a slice's name"),
        (".slice:b:c", "'.slice' is not a slice's name"),
        ("a.slice:b/x:c", "'b/x' cannot be part of a unit's name"),
        ("a.slice:b:..", "'..' cannot be part of a unit's name"),
        ("a.slice:b:c d", "'c d' cannot be part of a unit's name"),
    ],
)
def test_systemd_path_is_refused_when_impossible(text: str, cause: str) -> None:
    """Names that systemd would refuse are refused here, with the cause."""
    with pytest.raises(InvalidArgument) as caught:
        parse_cgroups_path(text, driver="systemd", container_id="c")
    assert caught.value.message == f"place group at {text!r} with the systemd driver: {cause}"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("system.slice:docker:abc", "docker-abc.scope"),
        ("::abc", "abc.scope"),
        (":p:abc", "p-abc.scope"),
        ("kubepods.slice::machine.slice", "machine.slice"),
        ("-.slice:p:a", "p-a.scope"),
    ],
)
def test_systemd_form_gives_unit(text: str, unit: str) -> None:
    """Slice and prefix may be empty; a name ending in .slice is the unit itself."""
    location = parse_cgroups_path(text, driver="systemd", container_id="c")
    assert isinstance(location, SystemdLocation)
    assert location.unit == unit
    assert str(location) == text


def test_unknown_driver_is_refused() -> None:
    """There are two drivers."""
    with pytest.raises(InvalidArgument, match="'podman': it is neither 'cgroupfs' nor 'systemd'"):
        parse_cgroups_path("/a", driver="podman", container_id="c")


def test_absolute_path_is_the_same_in_each_hierarchy() -> None:
    """Own group and mount root do not matter; other programs' named hierarchies are left alone."""
    placement = place(CgroupfsLocation("/a/b"), hybrid(own_v1="/x", own_v2="/y/z", mount_root="/q"))
    assert placement.paths == ("/a/b", "/a/b", None, "/a/b")
    assert placement.directories == ("/cg/memory/a/b", "/cg/systemd/a/b", None, "/cg/unified/a/b")
    assert placement.absences == ("", "", "the hierarchy name=elogind belongs to another program", "")


def test_relative_path_is_below_own_group_on_v1_and_beside_it_on_v2() -> None:
    """docs/adr/0005-relative-cgroups-path.md."""
    placement = place(CgroupfsLocation("c1"), hybrid(own_v1="/jobs/7", own_v2="/user/me.scope"))
    assert placement.paths == ("/jobs/7/c1", "/jobs/7/c1", None, "/user/c1")


def test_relative_path_is_below_the_root_when_we_are_there() -> None:
    """The root has no parent, and may give controllers to children although it holds processes."""
    assert place(CgroupfsLocation("c1"), hybrid()).directories == (
        "/cg/memory/c1",
        "/cg/systemd/c1",
        None,
        "/cg/unified/c1",
    )


def test_relative_path_is_refused_when_own_group_is_not_shown() -> None:
    """A nested host whose mounts show some other tree: the error says what to do."""
    with pytest.raises(FailedPrecondition) as caught:
        place(CgroupfsLocation("c1"), hybrid(own_v1="/a", own_v2="/a", mount_root="/b"))
    assert caught.value.message == (
        "resolve cgroup path 'c1': it is relative, and no mounted hierarchy shows this process's own group"
    )


def test_relative_path_is_absent_where_own_group_is_not_shown() -> None:
    """One hierarchy that does not show us is left out with the reason; the others are used."""
    layout = Layout(
        (
            Hierarchy(0, 1, ("pids",), mount_point="/p", own_path="/a", mount_root="/b"),
            Hierarchy(1, 1, ("cpu",), mount_point="/c", own_path="/a"),
        )
    )
    placement = place(CgroupfsLocation("x"), layout)
    assert placement.directories == (None, "/c/a/x")
    assert placement.absences == ("the mount '/p' does not show this process's group '/a'", "")


def test_place_without_hierarchies_is_empty() -> None:
    """A host without groups has nowhere to place, which is for the caller to judge."""
    assert place(CgroupfsLocation("x"), Layout(())).directories == ()


@given(st.text(max_size=40))
def test_s0_3_no_directory_ever_has_a_colon_or_leaves_the_mount(text: str) -> None:
    """Any text either is refused or gives clean directories below each mount point."""
    try:
        location = parse_cgroups_path(text, driver="cgroupfs", container_id="c1")
    except InvalidArgument as refused:
        named = [word for word in (repr(text), "cgroupfs") if word not in refused.message]
        if named:
            raise AssertionError(f"not named: {named}") from refused
        return
    assert isinstance(location, CgroupfsLocation)
    for directory, hierarchy in zip(place(location, hybrid()).directories, hybrid().hierarchies, strict=True):
        if directory is None:
            continue
        assert directory.startswith(hierarchy.mount_point + "/")
        assert ":" not in directory
        assert not {"..", ".", ""} & set(directory[1:].split("/"))


@given(st.text(max_size=40))
def test_only_one_driver_takes_a_path(text: str) -> None:
    """No text is valid for both drivers, so none can be misread."""
    taken = []
    for driver in ("cgroupfs", "systemd"):
        try:
            taken.append(parse_cgroups_path(text or "x", driver=driver, container_id="c"))
        except InvalidArgument:
            continue
    assert len(taken) <= 1


def test_locations_are_values() -> None:
    """Equal by content, usable as keys, never equal across kinds."""
    assert len({CgroupfsLocation("/a"), CgroupfsLocation("/a"), CgroupfsLocation("/a", is_explicit=False)}) == 2
    assert len({SystemdLocation("a.slice", "b", "c"), SystemdLocation("a.slice", "b", "c")}) == 1
    assert CgroupfsLocation("/a") != SystemdLocation("", "", "a")
