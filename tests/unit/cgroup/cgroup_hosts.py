"""Layouts to compile for, and resources of any size, for the tests of limits."""

from __future__ import annotations

from hypothesis import strategies as st

from corral.cgroup.layout import Hierarchy, Layout

__all__ = ["HYBRID", "RESOURCES", "V1", "V2"]

V1_NAMES = ("cpu", "cpuset", "memory", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "rdma")
V1 = Layout(tuple(Hierarchy(i, 1, (name,), mount_point=f"/cg/{name}") for i, name in enumerate(V1_NAMES)))
V2_NAMES = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")
V2 = Layout((Hierarchy(0, 2, V2_NAMES, mount_point="/cg"),))
HYBRID = Layout(
    (
        Hierarchy(0, 1, ("memory",), mount_point="/cg/memory"),
        Hierarchy(1, 1, ("cpu", "cpuacct"), mount_point="/cg/cpu"),
        Hierarchy(2, 2, ("hugetlb",), mount_point="/cg/unified"),
    )
)


RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.dictionaries(
            st.sampled_from(["limit", "swap", "reservation", "kernel", "kernelTCP", "swappiness"]),
            st.integers(-3, 1 << 64),
        ),
        "cpu": st.dictionaries(
            st.sampled_from(["shares", "quota", "period", "burst", "idle", "realtimeRuntime", "realtimePeriod"]),
            st.integers(-2, 1 << 33),
        ),
        "pids": st.dictionaries(st.just("limit"), st.integers(-3, 1 << 40)),
        "unified": st.dictionaries(st.text(max_size=20), st.text(max_size=10), max_size=3),
        "hugepageLimits": st.lists(
            st.fixed_dictionaries({"pageSize": st.text(max_size=5), "limit": st.integers(0, 1 << 64)}), max_size=2
        ),
    },
)
