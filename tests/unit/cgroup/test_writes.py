"""Rules of corral.cgroup.writes: the judge of read-backs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.writes import LimitWrite, judge, judge_all, parse_number_set


def write(value: str, *expect: str | int, file: str = "f", one_of: str = "", optional: bool = False) -> LimitWrite:
    """A write with an expectation."""
    return LimitWrite(0, "c", file, value, pointer="p", expect=expect, one_of=one_of, is_optional=optional)


GOOD = [
    (("exact", "a b"), "a b\n"),
    (("integer", -1), "-1\n"),
    (("max",), "max\n"),
    (("bytes", 10000, 4096), "8192\n"),
    (("bytes", 8192, 4096), "8192\n"),
    (("bytes", (1 << 64) - 1, 4096), "9223372036854771712\n"),
    (("bytes", (1 << 64) - 1, 4096), "max\n"),
    (("unlimited",), "9223372036854771712\n"),
    (("unlimited",), "9223372036854710272\n"),
    (("cpus", "0,1,3"), "0-1,3\n"),
    (("cpu_max", "max", "100000"), "max 100000\n"),
    (("line", "8:0 rbps=1"), "8:16 rbps=9\n8:0 rbps=1 wbps=max\n"),
    (("line", "oom_kill_disable 1"), "oom_kill_disable 1\nunder_oom 0\n"),
    (("no_line", "8:0"), "8:16 5\n"),
    (("no_line", "8:0"), ""),
    (("default", 100), "default 100\n8:0 50\n"),
    (("default", 100), "100\n"),
    (("device_list", "c 1:3 rwm\nb *:* m"), "b *:* m\nc 1:3 rwm\n"),
    (("none",), "anything"),
]
BAD = [
    (("exact", "a"), "b\n"),
    (("integer", 5), "6\n"),
    (("integer", 5), "max\n"),
    (("integer", 5), ""),
    (("max",), "5\n"),
    (("bytes", 10000, 4096), "10000\n"),
    (("bytes", 10000, 4096), "max\n"),
    (("unlimited",), "4096\n"),
    (("cpus", "0-1"), "0\n"),
    (("cpus", "0-1"), "junk\n"),
    (("cpu_max", "5", "6"), "max 6\n"),
    (("line", "8:0 rbps=1"), "8:0 rbps=11\n"),
    (("line", "8:0 rbps=1"), "8:1 rbps=1\n"),
    (("no_line", "8:0"), "8:0 1\n"),
    (("default", 100), "default 10\n"),
    (("device_list", "c 1:3 rwm"), "a *:* rwm\n"),
]


@pytest.mark.parametrize(("expect", "text"), GOOD)
def test_judge_agrees_with_documented_rounding(expect: tuple[str | int, ...], text: str) -> None:
    """What the kernel may make of a value is accepted."""
    assert judge(write("v", *expect), text) is None


@pytest.mark.parametrize(("expect", "text"), BAD)
def test_judge_says_what_stands_instead(expect: tuple[str | int, ...], text: str) -> None:
    """Any other difference is told with both values."""
    shown = " ".join(text.split())
    asked = "no entry for '8:0'" if expect[0] == "no_line" else "'v'"
    assert judge(write("v", *expect), text) == f"asked for {asked}, the kernel has {shown!r}"


def test_judge_all_accepts_one_of_two_files() -> None:
    """Of alternative files one is enough; what it holds is still judged."""
    pair = [write("5", "integer", 5, file="a", one_of="w"), write("5", "integer", 5, file="b", one_of="w")]
    assert judge_all(pair, ["5\n", None]) == []
    assert judge_all(pair, [None, "5\n"]) == []
    assert judge_all(pair, [None, "6\n"]) == [(pair[1], "asked for '5', the kernel has '6'")]
    assert judge_all(pair, [None, None]) == [(pair[0], "this kernel has neither 'a' nor 'b'")]


def test_judge_all_tells_missing_files_apart() -> None:
    """A missing file is fine only where it is optional."""
    writes = [write("1", "integer", 1, file="a"), write("1", "integer", 1, file="b", optional=True)]
    assert judge_all(writes, [None, None]) == [(writes[0], "no file 'a'")]


def test_write_without_expectation_has_nothing_to_read() -> None:
    """Write-only files are not read back; others are, by default in the same file."""
    assert write("x", "none").read_file == ""
    assert write("x", "exact", "x").read_file == "f"
    listed = LimitWrite(0, "d", "devices.allow", "a", pointer="p", expect=("exact", "a"), read_file="devices.list")
    assert listed.read_file == "devices.list"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", set()), ("0", {0}), ("0-2,7\n", {0, 1, 2, 7}), ("3,1", {1, 3}), (" 1 , 2 ", {1, 2}), ("5-5", {5})],
)
def test_number_set_is_parsed(text: str, numbers: set[int]) -> None:
    """The kernel's list form."""
    assert parse_number_set(text) == numbers


@pytest.mark.parametrize("text", ["a", "1-", "-1", "2-1", "1-2-3", "0-99999999999", "\u0661"])
def test_number_set_is_refused(text: str) -> None:
    """Nothing else, and nothing that would fill memory."""
    with pytest.raises(ValueError, match="is n"):
        parse_number_set(text)


@given(st.sets(st.integers(0, 4096), max_size=30))
def test_number_set_round_trips(numbers: set[int]) -> None:
    """Any order and form of the same numbers is the same set."""
    assert parse_number_set(",".join(map(str, sorted(numbers, reverse=True)))) == numbers
