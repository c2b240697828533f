"""Rules of corral.cgroup.limits.order_for_update: at no moment does a running group break a bond between its limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.layout import Layout
from corral.cgroup.limits import amount, compile_limits, order_for_update
from corral.cgroup.writes import LimitWrite
from unit.cgroup.cgroup_hosts import RESOURCES, V1, V2


def order(resources: dict[str, Any], layout: Layout, current: dict[str, str]) -> list[str]:
    """The files in update order when the group has ``current`` values."""
    writes = compile_limits(resources, layout).writes
    by_place = {(w.hierarchy_index, name): text for w in writes for name, text in current.items()}
    return [w.file for w in order_for_update(by_place, writes)]


LIMIT, MEMSW = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((100, 200), (50, 60), [LIMIT, MEMSW]),
        ((100, 200), (300, 400), [MEMSW, LIMIT]),
        ((100, 200), (200, 200), [LIMIT, MEMSW]),
        ((None, None), (50, 60), [LIMIT, MEMSW]),
        ((100, 200), (-1, -1), [MEMSW, LIMIT]),
    ],
    ids=["lower", "raise", "up-to-the-sum", "from-unlimited", "to-unlimited"],
)
def test_memory_pair_is_ordered_by_what_stands(
    old: tuple[int | None, int | None], new: tuple[int, int], expected: list[str]
) -> None:
    """At no moment is memory above memory+swap, which the kernel refuses."""
    current = {
        LIMIT: "9223372036854771712" if old[0] is None else str(old[0]),
        MEMSW: "9223372036854771712" if old[1] is None else str(old[1]),
    }
    assert order({"memory": {"limit": new[0], "swap": new[1]}}, V1, current) == expected


@given(st.tuples(st.integers(1, 50), st.integers(0, 50)), st.tuples(st.integers(1, 50), st.integers(0, 50)))
def test_memory_update_never_breaks_the_bond(old: tuple[int, int], new: tuple[int, int]) -> None:
    """A simulated kernel that refuses limit > sum takes every update in the order given."""
    state = {LIMIT: old[0], MEMSW: old[0] + old[1]}
    writes = compile_limits({"memory": {"limit": new[0], "swap": new[0] + new[1]}}, V1).writes
    for write in order_for_update({(2, k): str(v) for k, v in state.items()}, writes):
        state[write.file] = int(write.value)
        assert state[LIMIT] <= state[MEMSW]


@given(
    st.tuples(st.integers(1000, 9000), st.integers(0, 9000)), st.tuples(st.integers(1000, 9000), st.integers(0, 9000))
)
@pytest.mark.parametrize("layout", [V1, V2], ids=["v1", "v2"])
def test_burst_update_never_exceeds_the_quota(layout: Layout, old: tuple[int, int], new: tuple[int, int]) -> None:
    """A simulated kernel that refuses burst > quota takes every update in the order given."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_burst_us") if layout is V1 else ("cpu.max", "cpu.max.burst")
    state = {names[0]: old[0], names[1]: min(old[1], old[0])}
    wanted = {"quota": new[0], "burst": min(new[1], new[0]), "period": 20000}
    writes = compile_limits({"cpu": wanted}, layout).writes
    index = writes[0].hierarchy_index
    for write in order_for_update({(index, k): str(v) for k, v in state.items()}, writes):
        if write.file in state:
            state[write.file] = amount(write.value)
            assert state[names[1]] <= state[names[0]]


def test_shorter_period_comes_after_its_quota() -> None:
    """The old quota over the new period could be more CPU than the parent has."""
    files = order({"cpu": {"quota": 2000, "period": 10000}}, V1, {"cpu.cfs_period_us": "100000"})
    assert files == ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    files = order({"cpu": {"quota": 2000, "period": 200000}}, V1, {"cpu.cfs_period_us": "100000"})
    assert files == ["cpu.cfs_period_us", "cpu.cfs_quota_us"]


@given(RESOURCES, st.sampled_from([V1, V2]))
def test_update_order_keeps_all_writes(resources: dict[str, Any], layout: Layout) -> None:
    """Ordering loses and invents nothing."""
    writes = compile_limits(resources, layout).writes
    ordered = order_for_update({}, writes)
    assert sorted(w.file + w.value for w in ordered) == sorted(w.file + w.value for w in writes)


@pytest.mark.parametrize(("text", "value"), [("max 100000", 1 << 64), ("-1", 1 << 64), ("", 1 << 64), ("50 9", 50)])
def test_amount_of_a_limit_text(text: str, value: int) -> None:
    """No limit counts as more than any."""
    assert amount(text) == value


def test_writes_are_values() -> None:
    """Equal by what the kernel would see."""
    one, two = (LimitWrite(0, "pids", "pids.max", "1", pointer="p") for _ in range(2))
    assert one == two
    assert len({one, two}) == 1
    assert one != LimitWrite(0, "pids", "pids.max", "2", pointer="p")
