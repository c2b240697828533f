"""Samples through descriptors that stay open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cgroup.group import open_group
from corral.cgroup.member import Member
from corral.cgroup.removal import remove_group
from corral.cgroup.sampler import StatsSampler
from corral.cgroup.stats import read_stats
from corral.errors import NotFound

pytestmark = pytest.mark.requires("root")


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def test_sample_tells_what_a_single_look_tells(members: list[Member], spawn: Callable[..., object]) -> None:
    """All but the cpuset and huge pages, which a sampler leaves out."""
    spawn("sleep", "600")
    with open_group(members) as group:
        sampler = StatsSampler(group)
        once = read_stats(group)
    with sampler:
        again = sampler.sample()
    assert (again.pids_current, again.pids_limit) == (once.pids_current, once.pids_limit)
    assert again.memory.usage.limit_bytes == once.memory.usage.limit_bytes
    assert sorted(again.memory.raw) == sorted(once.memory.raw)
    assert sorted(again.cpu.pressure) == sorted(once.cpu.pressure)
    assert (again.cpus, again.hugepages) == ([], {})


def test_sample_opens_nothing_and_closing_leaves_nothing(members: list[Member]) -> None:
    """Whatever is read has been opened at the start."""
    before = open_files()
    with open_group(members) as group:
        sampler = StatsSampler(group)
    held = open_files()
    sampler.sample()
    assert open_files() == held
    sampler.close()
    sampler.close()
    assert open_files() == before


def test_sample_of_a_removed_group_is_an_error(members: list[Member]) -> None:
    """Which names a file of it."""
    with open_group(members) as group:
        sampler = StatsSampler(group)
    assert remove_group(members, deadline_s=5).pending == []
    with sampler, pytest.raises(NotFound, match=Path(members[0].path).name):
        sampler.sample()
    for member in members:
        Path(member.directory).mkdir()
