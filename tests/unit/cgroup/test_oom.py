"""Rules of corral.cgroup.oom: whose memory limit it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cgroup.member import Member
from corral.cgroup.oom import OomCounters, OomSample, OomVerdict, attribute_oom
from corral.errors import NotFound


def chain(*rows: tuple[int, int, int, int]) -> list[OomSample]:
    """Samples of /g/c, /g and / with (limit hits, kills, hits in the tree, kills in the tree)."""
    names = ("/g/c", "/g", "")
    return [
        OomSample(name, hits, kills, tree_hits=tree_hits, tree_kills=tree_kills)
        for name, (hits, kills, tree_hits, tree_kills) in zip(names, rows, strict=False)
    ]


BEFORE = chain((1, 1, 1, 1), (5, 0, 6, 1), (0, 0, 6, 1))


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (BEFORE, OomVerdict(0, "none")),
        (chain((2, 2, 2, 2), (5, 0, 7, 2)), OomVerdict(1, "own", "/g/c")),
        (chain((1, 1, 2, 2), (5, 0, 7, 2)), OomVerdict(1, "below")),
        (chain((1, 2, 1, 2), (6, 0, 7, 2)), OomVerdict(1, "ancestor", "/g")),
        (chain((1, 1, 1, 3), (6, 0, 7, 3)), OomVerdict(2, "ancestor", "/g")),
        (chain((1, 2, 1, 2), (5, 0, 6, 2)), OomVerdict(1, "host")),
        (chain((1, 1, 1, 1), (9, 3, 9, 9)), OomVerdict(0, "none")),
        (chain((3, 1, 3, 1), (5, 0, 8, 1)), OomVerdict(0, "none")),
        ([], OomVerdict(0, "none")),
    ],
    ids=["nothing", "own", "below", "above", "above-kills-below", "host", "neighbour", "hit-without-kill", "empty"],
)
def test_s4_9_kill_is_attributed_to_the_limit_that_was_hit(after: list[OomSample], verdict: OomVerdict) -> None:
    """memory.events.local tells the group's own limit from one below, the groups above theirs."""
    assert attribute_oom(BEFORE, after) == verdict


def test_v1_kill_is_attributed_by_failcnt() -> None:
    """The counters of v1 are each group's own."""
    before = [OomSample("/m/a", 0, 0), OomSample("/m", 7, 0)]
    assert attribute_oom(before, [OomSample("/m/a", 3, 1), OomSample("/m", 7, 0)]) == OomVerdict(1, "own", "/m/a")
    assert attribute_oom(before, [OomSample("/m/a", 0, 1), OomSample("/m", 8, 0)]) == OomVerdict(1, "ancestor", "/m")
    silent = [OomSample("/m/a", 0, 1, is_exact=False), OomSample("/m", 7, 0, is_exact=False)]
    assert attribute_oom(before, silent) == OomVerdict(1, "unknown")


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (OomVerdict(0, "none"), "no process was killed for want of memory"),
        (OomVerdict(2, "own", "/a"), "2 process(es) killed by the group's own limit"),
        (OomVerdict(1, "below"), "1 process(es) killed by a limit of a group below"),
        (OomVerdict(1, "ancestor", "/a"), "1 process(es) killed by the limit of '/a' above"),
        (OomVerdict(1, "unknown"), "1 process(es) killed by a limit that this kernel does not tell"),
        (OomVerdict(1, "host"), "1 process(es) killed by the host, which ran out of memory"),
    ],
)
def test_verdict_reads_like_a_sentence(verdict: OomVerdict, text: str) -> None:
    """For events and state."""
    assert str(verdict) == text


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A v2 group below another, with the root's lack of event files."""
    for name in ("g", "g/c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.events").write_text("low 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n")
        (tmp_path / name / "memory.events.local").write_text("low 0\nmax 1\noom 2\noom_kill 1\n")
    return tmp_path


def test_counters_are_read_from_the_group_up_to_the_top(tree: Path) -> None:
    """The group first; the root, which has no counters, counts as 0."""
    with OomCounters(Member(2, ("memory",), str(tree), "/g/c")) as counters:
        found = counters.sample()
        (tree / "g/c/memory.events.local").write_text("oom 3\noom_kill 2\n")
        later = counters.sample()
    assert [(s.directory, s.limit_hits, s.kills, s.tree_hits, s.tree_kills) for s in found] == [
        (f"{tree}/g/c", 2, 1, 4, 3),
        (f"{tree}/g", 2, 1, 4, 3),
        (str(tree), 0, 0, 0, 0),
    ]
    assert attribute_oom(found, later) == OomVerdict(1, "own", f"{tree}/g/c")
    assert repr(found[0]) == f"OomSample('{tree}/g/c': limit hit 2, killed 1)"


def test_v1_counters_are_failcnt_and_oom_control(tmp_path: Path) -> None:
    """One is a bare number, the other a flat keyed file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/memory.failcnt").write_text("8\n")
    (tmp_path / "a/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    with OomCounters(Member(1, ("memory",), str(tmp_path), "/a")) as counters:
        own = counters.sample()[0]
    assert (own.limit_hits, own.kills, own.tree_kills, own.is_gone, own.is_exact) == (8, 2, 0, False, False)


def test_s4_7_counters_of_a_removed_group_keep_their_last_values(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel answers ENODEV for them; what was read last still counts."""
    with OomCounters(Member(2, ("memory",), str(tree), "/g/c")) as counters:
        counters.sample()

        def gone(fd: int, size: int, offset: int) -> bytes:
            raise OSError(19, "No such device")

        monkeypatch.setattr(os, "pread", gone)
        own = counters.sample()[0]
    assert (own.kills, own.is_gone) == (1, True)


def test_counters_of_an_absent_group_are_an_error(tmp_path: Path) -> None:
    """Nothing stays open."""
    with pytest.raises(NotFound, match="open group"):
        OomCounters(Member(2, ("memory",), str(tmp_path), "/absent"))
