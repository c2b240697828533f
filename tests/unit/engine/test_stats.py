"""Samples of containers: which files are read, and what they come to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from corral.engine import files
from corral.engine.places import Places
from corral.engine.stats import Counters, add_rates, sample
from corral.engine.verbs.stats import stats
from corral.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

    from corral.engine.status import Facts

V2 = {
    "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n",
    "memory.current": "8192\n",
    "memory.max": "max\n",
    "memory.stat": "inactive_file 4096\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "cgroup.procs": "1\n",
}


def facts_of(mount_point: Path, *, inode: int = 0) -> Facts:
    """A look at a container with one v2 group, whose process cannot be asked for its network."""
    group = {
        "version": 2,
        "controllers": ["cpu", "memory", "pids", "io"],
        "mount_point": str(mount_point),
        "path": "/c1",
        "inode": inode,
        "fate": "created",
    }
    record = SimpleNamespace(state={"cgroups": [group]})
    found = SimpleNamespace(container_id="c1", definition={"name": "one"}, status="running", pid=0, record=record)
    return cast("Facts", found)


def make_group(mount_point: Path) -> Path:
    """The group of ``facts_of``."""
    group = mount_point / "c1"
    group.mkdir()
    for name, text in V2.items():
        (group / name).write_text(text)
    return group


def test_sample_tells_what_the_group_uses_when_it_is_there(tmp_path: Path) -> None:
    """What the kernel could give back at once is not used; no limit is 0."""
    make_group(tmp_path)

    found = sample(facts_of(tmp_path))

    assert found is not None
    assert (5_000_000, 4096, 8192, 0, 3) == tuple(
        found[key] for key in ("cpu_ns", "memory_bytes", "memory_total_bytes", "memory_limit_bytes", "pids")
    )


def test_sample_is_none_when_the_group_is_gone(tmp_path: Path) -> None:
    """A container that ended while it was looked at is no row of zeros."""
    assert sample(facts_of(tmp_path)) is None


def test_sample_is_none_when_another_group_has_taken_the_place(tmp_path: Path) -> None:
    """A recorded inode that is not there any more is not this container's group."""
    inode = make_group(tmp_path).stat().st_ino

    assert sample(facts_of(tmp_path, inode=inode)) is not None
    assert sample(facts_of(tmp_path, inode=inode + 1)) is None


def test_counters_ask_once_for_what_the_host_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over many containers opens no file that the first of them did not have."""
    make_group(tmp_path)
    asked: list[str] = []
    read = files.read_bytes_or_none

    def listen(path: str, **options: Any) -> bytes | None:
        asked.append(path.rpartition("/")[2])
        return read(path, **options)

    monkeypatch.setattr(files, "read_bytes_or_none", listen)
    missing: set[str] = set()
    Counters(facts_of(tmp_path), missing).read()
    assert "memory.peak" in missing
    assert "cgroup.procs" not in asked
    asked.clear()

    Counters(facts_of(tmp_path), missing).read()

    assert not missing & set(asked)
    assert len(asked) == len(set(asked))


def test_rates_are_of_the_time_between_two_samples() -> None:
    """100 is one CPU all the time; without an earlier sample there is no rate."""
    now = {"time_ns": 3_000, "cpu_ns": 1_500, "memory_limit_bytes": 200, "memory_bytes": 50}

    rated = add_rates(now, {"time_ns": 1_000, "cpu_ns": 500})

    assert (50.0, 25.0) == (rated["cpu_percent"], rated["memory_percent"])
    assert 0.0 == add_rates(now, None)["cpu_percent"]


@pytest.mark.parametrize("window_s", [-1.0, 61.0, float("nan")])
def test_window_is_refused_when_nobody_would_wait_so_long(tmp_path: Path, window_s: float) -> None:
    """A caller of the service must not hold one of its threads for as long as it likes."""
    with pytest.raises(InvalidArgument, match="between 0 and 60 s"):
        stats(Places(str(tmp_path)), window_s=window_s)
