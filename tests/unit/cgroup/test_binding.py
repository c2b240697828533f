"""Rules of corral.cgroup.binding, on directories that stand for groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cgroup.binding import EffectiveLimit, effective, render_effective
from corral.cgroup.group import open_group
from corral.cgroup.member import Member
from corral.cgroup.writes import LimitWrite
from corral.errors import NotFound

V2 = ("cpuset", "cpu", "memory", "pids", "hugetlb", "io")


def make(top: Path, /, **files: dict[str, str]) -> None:
    """``a__b`` is group /a/b; file names with "_" for "."; ``root`` is the top."""
    for name, texts in files.items():
        directory = top / name.replace("__", "/").replace("root", ".")
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (directory / file).write_text(f"{text}\n")


def limits(root: Path, path: str, *writes: LimitWrite, version: int = 2) -> dict[str, EffectiveLimit]:
    """The limits of ``path`` by name."""
    names = V2 if version == 2 else ("memory", "cpu", "pids", "cpuset")
    with open_group([Member(version, names, str(root), path)]) as group:
        return {limit.name: limit for limit in effective(group, writes)}


def test_own_limit_binds_when_nobody_above_has_less(tmp_path: Path) -> None:
    """Requested, standing and effective agree."""
    make(tmp_path, a={"memory.max": "max"}, a__b={"memory.max": "4096"})
    write = LimitWrite(0, "memory", "memory.max", "4096", pointer="p", expect=("bytes", 4096, 4096))
    found = limits(tmp_path, "/a/b", write)["memory.max"]
    assert (found.requested, found.standing, found.effective, found.unit) == ("4096", "4096", "4096", "bytes")
    assert (found.bound_by, found.is_own, found.problem, found.pointer) == (f"{tmp_path}/a/b", True, "", "p")


def test_nearest_of_the_least_ancestors_binds(tmp_path: Path) -> None:
    """The least limit of the way up counts; of equal ones the nearest is told."""
    make(
        tmp_path,
        root={"pids.max": "50"},
        a={"pids.max": "5"},
        a__b={"pids.max": "5"},
        a__b__c={"pids.max": "7"},
    )
    found = limits(tmp_path, "/a/b/c")["pids.max"]
    assert (found.standing, found.effective, found.bound_by, found.is_own) == ("7", "5", f"{tmp_path}/a/b", False)


def test_cpu_time_is_compared_by_the_ratio(tmp_path: Path) -> None:
    """Half a CPU above beats 60 of 100 ms here."""
    make(tmp_path, a={"cpu.max": "5000 10000"}, a__b={"cpu.max": "60000 100000"})
    found = limits(tmp_path, "/a/b")["cpu.max"]
    assert (found.standing, found.effective, found.unit, found.bound_by) == (
        "60000 100000",
        "0.5",
        "cpus",
        f"{tmp_path}/a",
    )


def test_v1_limits_have_the_same_names(tmp_path: Path) -> None:
    """The host's version is no matter for a reader; v1's largest counter is no limit."""
    make(
        tmp_path,
        a={
            "memory.limit_in_bytes": "9223372036854771712",
            "cpu.cfs_quota_us": "50000",
            "cpu.cfs_period_us": "100000",
            "pids.max": "max",
        },
        a__b={"memory.limit_in_bytes": "8192", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    )
    found = limits(tmp_path, "/a/b", version=1)
    assert {name: (item.effective, item.is_own) for name, item in found.items()} == {
        "memory.max": ("8192", True),
        "cpu.max": ("0.5", False),
    }


def test_v1_memory_without_hierarchy_stands_alone(tmp_path: Path) -> None:
    """memory.use_hierarchy 0, before Linux 5.11: what lies above does not count."""
    make(
        tmp_path,
        a={"memory.limit_in_bytes": "4096", "memory.use_hierarchy": "0"},
        a__b={"memory.limit_in_bytes": "8192", "memory.use_hierarchy": "0"},
    )
    assert limits(tmp_path, "/a/b", version=1)["memory.max"].effective == "8192"


def test_set_is_bound_by_the_topmost_group_that_has_it(tmp_path: Path) -> None:
    """The kernel says what is effective; where it was narrowed is found by comparing upward."""
    make(
        tmp_path,
        root={"cpuset.cpus.effective": "0-3"},
        a={"cpuset.cpus": "0-1", "cpuset.cpus.effective": "0-1"},
        a__b={"cpuset.cpus": "0-3", "cpuset.cpus.effective": "0,1"},
    )
    write = LimitWrite(0, "cpuset", "cpuset.cpus", "0-3", pointer="p", expect=("cpus", "0-3"))
    found = limits(tmp_path, "/a/b", write)["cpuset.cpus"]
    assert (found.requested, found.standing, found.effective, found.bound_by) == (
        "0-3",
        "0-3",
        "0,1",
        f"{tmp_path}/a",
    )


@pytest.mark.parametrize("text", ["0-3", "", "rubbish"])
def test_set_that_nobody_narrowed_is_bound_by_nobody(tmp_path: Path, text: str) -> None:
    """All of the machine, or nothing that can be read."""
    make(tmp_path, root={"cpuset.cpus.effective": text}, a={"cpuset.cpus.effective": text})
    assert "cpuset.cpus" not in limits(tmp_path, "/a")


def test_huge_pages_of_each_size_come_by_themselves(tmp_path: Path) -> None:
    """Reservations and counters are not taken for limits."""
    make(tmp_path, a={"hugetlb.2MB.max": "0", "hugetlb.2MB.rsvd.max": "0", "hugetlb.1GB.max": "max"})
    found = limits(tmp_path, "/a")
    assert {name: item.effective for name, item in found.items()} == {"hugetlb.2MB.max": "0"}


def test_standing_value_that_is_not_the_requested_one_is_a_problem(tmp_path: Path) -> None:
    """Somebody changed it, or systemd's reload did."""
    make(tmp_path, a={"pids.max": "9", "cpu.weight": "50"})
    writes = (
        LimitWrite(0, "pids", "pids.max", "7", pointer="p", expect=("integer", 7)),
        LimitWrite(0, "cpu", "cpu.weight", "100", pointer="q", expect=("integer", 100)),
    )
    found = limits(tmp_path, "/a", *writes)
    assert "asked for '7'" in found["pids.max"].problem
    assert "asked for '100'" in found["cpu.weight"].problem


def test_limit_among_siblings_is_told_without_a_walk(tmp_path: Path) -> None:
    """A weight means nothing beyond its level; a file that is missing is a problem, unless it may be."""
    make(tmp_path, a={"io.weight": "default 50"})
    writes = (
        LimitWrite(0, "io", "io.weight", "50", pointer="p", expect=("default", 50)),
        LimitWrite(0, "cpu", "cpu.idle", "1", pointer="q", expect=("integer", 1)),
        LimitWrite(0, "cpu", "cpu.max.burst", "0", pointer="r", is_optional=True),
    )
    found = limits(tmp_path, "/a", *writes)
    assert (found["io.weight"].effective, found["io.weight"].problem) == ("default 50", "")
    assert found["cpu.idle"].problem == "no file 'cpu.idle'"
    assert (found["cpu.max.burst"].problem, found["cpu.max.burst"].bound_by) == ("", "")


def test_nothing_is_told_of_limits_that_nobody_set(tmp_path: Path) -> None:
    """A group without limits has an empty table."""
    make(tmp_path, a={"memory.max": "max", "pids.max": "max", "cpu.max": "max 100000"})
    assert limits(tmp_path, "/a") == {}


def test_absent_group_is_an_error(tmp_path: Path) -> None:
    """The caller asked for something that is not there."""
    with pytest.raises(NotFound):
        limits(tmp_path, "/absent")


def test_table_is_aligned_and_marks_problems(tmp_path: Path) -> None:
    """One limit a line: what was asked, what stands, what counts, and whose it is."""
    make(tmp_path, a={"pids.max": "5"}, a__b={"pids.max": "7", "memory.max": "max"})
    writes = (
        LimitWrite(0, "pids", "pids.max", "8", pointer="p", expect=("integer", 8)),
        LimitWrite(0, "memory", "memory.max", "max", pointer="q", expect=("max",)),
    )
    with open_group([Member(2, V2, str(tmp_path), "/a/b")]) as group:
        found = effective(group, writes)
    by = f"{tmp_path}/a"
    assert render_effective(found) == (
        "LIMIT       REQUESTED  IN KERNEL  EFFECTIVE    BOUND BY\n"
        "memory.max  max        max        max bytes    -\n"
        f"pids.max    8          7 (!)      5 processes  {by}\n"
    )
    assert found[1].to_record()["bound_by"] == by
    assert repr(found[1]) == f"EffectiveLimit(pids.max: '8' -> '5' by '{by}')"
