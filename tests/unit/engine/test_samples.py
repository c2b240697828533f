"""Whether a kill for want of memory was counted well before a run's end: by the clock since boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine import status
from corral.engine.places import Places
from corral.engine.settle import was_sampled
from unit.engine.containers import ID, make

S = 10**9


@pytest.mark.parametrize(
    ("sample", "record", "expected"),
    [
        (b'100000000000 0 {"oom_kill":1}\n', {"boot_ns": 101 * S}, True),
        (b'100000000000 0 {"oom_kill":1}\n', {"boot_ns": 100 * S + 1}, False),
        # Whoever set the wall clock meanwhile has not made it longer ago.
        (b'100000000000 0 {"oom_kill":1}\n', {"boot_ns": 100 * S + 1, "finished_ns": 2**62}, False),
        (b'100000000000 0 {"oom_kill":1}\n', {"boot_ns": 101 * S, "finished_ns": 1}, True),
        # Another one was counted since.
        (b'100000000000 0 {"oom_kill":0}\n', {"boot_ns": 101 * S}, False),
        (b'100000000000 1 {"oom_kill":1}\n', {"boot_ns": 101 * S}, False),
        (b'100000000000 0 {"oom_', {"boot_ns": 101 * S}, False),
        (b"", {"boot_ns": 101 * S}, False),
    ],
)
def test_kill_was_a_childs_when_it_was_counted_before(
    places: Places, sample: bytes, record: dict[str, int], expected: bool
) -> None:
    """Half a second before the end at least, as the last sample of the container's own group."""
    make(places, state={"runs": 1})
    Path(places.container(ID), "oom").write_bytes(sample)
    counters = [{"path": "/a", "before": {"oom_kill": 0}, "after": {"oom_kill": 1}}]
    assert was_sampled(status.look(places, ID), {**record, "oom": counters}) == expected
