"""Rules of corral.cgroup.layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.layout import parse_layout, read_layout

V2_HOST = "25 23 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V2_SELF = "0::/user.slice/session.scope\n"

HYBRID_HOST = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_SELF = "9:name=systemd:/\n4:memory:/jobs/7\n2:cpu,cpuacct:/\n0::/\n"

V1_HOST = "\n".join(HYBRID_HOST.splitlines()[:4]) + "\n"


def controllers_of(text: str) -> Callable[[str], str]:
    """What stands in cgroup.controllers, wherever it is asked for."""
    return lambda mount_point: text


def test_mode_is_v2_when_only_cgroup2_is_mounted() -> None:
    """A pure v2 host has one hierarchy with the controllers of the mount's root."""
    layout = parse_layout(V2_HOST, V2_SELF, controllers_of("cpuset cpu io memory pids\n"))
    assert layout.mode == "v2"
    assert [h.controllers for h in layout.hierarchies] == [("cpuset", "cpu", "io", "memory", "pids")]
    assert layout.hierarchies[0].own_path == "/user.slice/session.scope"


def test_mode_is_hybrid_when_both_kinds_are_mounted() -> None:
    """v1 controllers beside a v2 hierarchy: each controller is found where it is."""
    layout = parse_layout(HYBRID_HOST, HYBRID_SELF, controllers_of("hugetlb"))
    assert layout.mode == "hybrid"
    found = {name: layout.hierarchy_for(name) for name in ("cpu", "cpuacct", "memory", "hugetlb", "name=systemd")}
    points = {name: h.mount_point for name, h in found.items() if h is not None}
    assert points == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "hugetlb": "/sys/fs/cgroup/unified",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert [h.index for h in layout.hierarchies] == [0, 1, 2, 3]


def test_mode_is_v1_when_cgroup2_is_not_mounted() -> None:
    """The kernel always prints a "0::" line; without a mount it is no hierarchy for us."""
    layout = parse_layout(V1_HOST, HYBRID_SELF)
    assert layout.mode == "v1"
    assert layout.unified is None


def test_mode_is_none_when_nothing_is_mounted() -> None:
    """No mounts: no hierarchies, and no controller is found."""
    layout = parse_layout("23 1 0:1 / / rw - ext4 /dev/vda rw\n", HYBRID_SELF)
    assert (layout.mode, layout.hierarchies, layout.hierarchy_for("memory")) == ("none", (), None)


@pytest.mark.parametrize("controller", ["pids", "net_cls", "devices", "nonsense"])
def test_hierarchy_for_is_none_when_controller_is_absent(controller: str) -> None:
    """A controller that no hierarchy carries is absent."""
    assert parse_layout(HYBRID_HOST, HYBRID_SELF).hierarchy_for(controller) is None


def test_hierarchy_for_finds_core_files_on_v2() -> None:
    """Freezing and CPU accounting are files of the v2 core, whatever cgroup.controllers says."""
    layout = parse_layout(V2_HOST, V2_SELF)
    assert layout.hierarchy_for("freezer") is layout.unified
    assert layout.hierarchy_for("cpuacct") is layout.unified


def test_named_hierarchy_is_told_from_controllers() -> None:
    """name=systemd carries no controller."""
    layout = parse_layout(HYBRID_HOST, HYBRID_SELF)
    assert [h.label for h in layout.hierarchies if h.is_named] == ["name=systemd"]
    assert [h.label for h in layout.hierarchies] == ["name=systemd", "memory", "cpu,cpuacct", "cgroup2"]


NESTED = "90 80 0:22 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "own", "visible"),
    [
        (NESTED, "0::/docker/abc\n", "/"),
        (NESTED, "0::/docker/abc/x/y\n", "/x/y"),
        (NESTED, "0::/docker/abcd\n", None),
        (NESTED, "0::/\n", None),
        (NESTED.replace("/docker/abc", "/"), "0::/\n", "/"),
        (NESTED.replace("/docker/abc", "/.."), "0::/\n", None),
        (NESTED.replace("/docker/abc", "/"), "0::/../sibling\n", None),
        (NESTED.replace("/docker/abc", "/"), "0::/gone (deleted)\n", "/gone"),
    ],
    ids=["bind-root", "bind-below", "prefix-confusion", "other-tree", "cgroupns", "above-ns", "moved-out", "deleted"],
)
def test_visible_own_path_in_nested_containers(mountinfo: str, own: str, visible: str | None) -> None:
    """The own group is told relative to what the mount shows, component-wise, or not at all."""
    (hierarchy,) = parse_layout(mountinfo, own).hierarchies
    assert hierarchy.visible_own_path == visible


def test_read_only_is_seen_from_mount_and_superblock() -> None:
    """Either being read-only makes the hierarchy so."""
    writable = parse_layout(V2_HOST, V2_SELF).hierarchies[0]
    bind = parse_layout(NESTED, V2_SELF).hierarchies[0]
    whole = parse_layout(V2_HOST.replace("cgroup2 rw", "cgroup2 ro"), V2_SELF).hierarchies[0]
    assert [h.is_read_only for h in (writable, bind, whole)] == [False, True, True]


def test_duplicate_mounts_prefer_own_group_then_writable() -> None:
    """Of several mounts of one hierarchy, the one that shows our group and can be written is taken."""
    text = (
        "50 1 0:22 / /a ro - cgroup2 cgroup2 rw\n"
        "51 1 0:22 /other /b rw - cgroup2 cgroup2 rw\n"
        "52 1 0:22 / /c rw - cgroup2 cgroup2 rw\n"
        "53 1 0:22 / /d rw - cgroup2 cgroup2 rw\n"
    )
    layout = parse_layout(text, "0::/mine\n")
    assert [h.mount_point for h in layout.hierarchies] == ["/c"]


def test_hidden_mount_does_not_count() -> None:
    """A later mount at or above the mount point covers the group mount, unless the group stands on it."""
    hidden = HYBRID_HOST + "70 23 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    assert parse_layout(hidden, HYBRID_SELF).mode == "none"
    renewed = hidden + "71 70 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    assert [h.mount_point for h in parse_layout(renewed, HYBRID_SELF).hierarchies] == ["/sys/fs/cgroup/unified"]
    assert parse_layout(renewed, HYBRID_SELF).mode == "v2"


def test_directory_joins_path_below_the_mount() -> None:
    """Paths are counted from what the mount shows; the root is the mount point itself."""
    (hierarchy,) = parse_layout(V2_HOST, V2_SELF).hierarchies
    assert hierarchy.directory("/") == "/sys/fs/cgroup"
    assert hierarchy.directory("/a/b") == "/sys/fs/cgroup/a/b"


def test_escaped_mount_point_is_decoded() -> None:
    """The kernel writes blanks as octal; the directory has them plain."""
    (hierarchy,) = parse_layout("25 23 0:22 / /my\\040groups rw - cgroup2 none rw\n", V2_SELF).hierarchies
    assert hierarchy.directory("/x") == "/my groups/x"


def test_controllers_are_read_from_the_chosen_mount() -> None:
    """cgroup.controllers is asked of the mount point that was chosen, once."""
    asked: list[str] = []

    def read(mount_point: str) -> str:
        asked.append(mount_point)
        return "pids"

    parse_layout(V2_HOST + V2_HOST.replace("25 23", "26 23").replace("/sys/fs/cgroup", "/x"), V2_SELF, read)
    assert asked == ["/sys/fs/cgroup"]


def test_co_mounted_controllers_need_all_names() -> None:
    """A mount that carries only some of a hierarchy's controllers is another hierarchy."""
    text = "32 31 0:29 / /cpu rw - cgroup cgroup rw,cpu\n"
    assert parse_layout(text, "2:cpu,cpuacct:/\n").hierarchies == ()


def test_read_layout_without_proc_is_none(tmp_path: Path) -> None:
    """A missing /proc is a host without groups, not a traceback."""
    assert read_layout(str(tmp_path)).mode == "none"


def test_read_layout_reads_this_host() -> None:
    """Whatever this host is, it is described without an exception."""
    layout = read_layout()
    assert layout.mode in ("v1", "hybrid", "v2", "none")
    assert all(h.mount_point.startswith("/") for h in layout.hierarchies)


@given(st.text(max_size=300), st.text(max_size=200))
def test_any_text_is_parsed(mountinfo: str, own: str) -> None:
    """Odd lines are skipped; nothing raises."""
    assert parse_layout(mountinfo, own).mode in ("v1", "hybrid", "v2", "none")


def test_layout_is_the_same_among_thousands_of_mounts() -> None:
    """Mounts elsewhere, before and after, change nothing."""
    noise = [f"{1000 + n} 23 0:{n} / /var/lib/pods/{n} rw shared:{n} - tmpfs tmpfs rw" for n in range(2000)]
    crowded = "\n".join([*noise[:1000], HYBRID_HOST.rstrip(), *noise[1000:]])
    alone = parse_layout(HYBRID_HOST, HYBRID_SELF)
    assert repr(parse_layout(crowded, HYBRID_SELF)) == repr(alone)
