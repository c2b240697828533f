"""Rules of corral.cgroup.stats on this host's real controllers, and beside runc where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import Popen

import pytest

from corral.cgroup.group import open_group
from corral.cgroup.layout import Layout
from corral.cgroup.member import Member
from corral.cgroup.runc_events import to_runc_events
from corral.cgroup.stats import read_stats

pytestmark = pytest.mark.requires("root")


def test_sample_counts_what_a_process_used(
    members: list[Member], layout: Layout, spawn: Callable[..., Popen[bytes]]
) -> None:
    """A process that did something shows up in the controllers that this host has."""
    process = spawn("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"
    with open_group(members) as group:
        stats = read_stats(group)
    assert stats.cpu.usage_ns > 0
    if layout.hierarchy_for("memory") is not None:
        assert stats.memory.usage.usage_bytes > 0
        assert stats.memory.raw != {}
    if layout.hierarchy_for("pids") is not None:
        assert (stats.pids_current, stats.pids_limit) == (1, 0)
    event = to_runc_events(stats, "x")
    assert event["data"]["cpu"]["usage"]["total"] == stats.cpu.usage_ns
