"""corral.runtime.wire: a plan as bytes, and back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import Internal, InvalidArgument
from corral.runtime.plan import Plan, Step, show_argument
from corral.runtime.steps import STEPS
from corral.runtime.wire import MAX_BYTES, MAX_STEPS, decode, encode

_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)
_ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(0, (1 << 64) - 1),
    "s": _TEXT,
    "v": st.lists(_TEXT, max_size=4).map(tuple),
    "b": st.binary(max_size=100),
}


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Any step with arguments of its signature."""
    op = draw(st.sampled_from(sorted(STEPS)))
    arguments = tuple(draw(_ARGUMENTS[kind]) for kind in STEPS[op][1])
    return Step(draw(st.integers(0, 2)), op, arguments, draw(_TEXT), draw(st.integers(0, 1)))


def plan_of(*items: Step) -> Plan:
    """A plan with these steps."""
    plan = Plan()
    for item in items:
        plan.add(item.actor, item.op, *item.args, pointer=item.pointer, flags=item.flags)
    return plan


@given(st.lists(steps(), max_size=20))
def test_decode_gives_back_what_was_encoded(items: list[Step]) -> None:
    """Every step with all of its arguments, whatever they are."""
    assert items == decode(encode(plan_of(*items))).steps


@given(st.lists(steps(), min_size=1, max_size=4), st.data())
def test_decode_refuses_damage_by_name(items: list[Step], data: st.DataObject) -> None:
    """A plan that was cut short is refused; one with a changed byte is refused or decoded, and nothing else happens."""
    raw = encode(plan_of(*items))
    with pytest.raises(InvalidArgument, match="decode plan: it is damaged"):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    at = data.draw(st.integers(0, len(raw) - 1))
    with suppress(InvalidArgument):
        decode(raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :])


@given(st.binary(max_size=200))
def test_decode_takes_no_other_bytes(raw: bytes) -> None:
    """Noise is no plan."""
    with pytest.raises(InvalidArgument):
        decode(raw)


def test_encode_stores_equal_strings_once() -> None:
    """A string used a hundred times costs its bytes once."""
    one = encode(plan_of(*[Step(0, "PID_FILE", ("x" * 1000,), "", 0)]))
    hundred = encode(plan_of(*[Step(0, "PID_FILE", ("x" * 1000,), "", 0)] * 100))

    assert len(hundred) - len(one) == 99 * 16


def test_encode_refuses_a_nul_character() -> None:
    """C would take the string for shorter than it is."""
    with pytest.raises(InvalidArgument, match=r"encode PID_FILE: 'a\\x00b' holds a NUL character"):
        encode(plan_of(Step(0, "PID_FILE", ("a\0b",), "", 0)))


def test_encode_keeps_bytes_that_are_no_utf8() -> None:
    """Paths of the host come with surrogate escapes, and leave as the bytes they were."""
    path = b"/tmp/\xff".decode("utf-8", "surrogateescape")
    raw = encode(plan_of(Step(0, "PID_FILE", (path,), "", 0)))

    assert b"/tmp/\xff\0" in raw
    assert path == decode(raw).steps[0].args[0]


def test_negative_numbers_travel_as_64_bits() -> None:
    """-1 is all ones, as C reads it back."""
    plan = decode(encode(plan_of(Step(0, "SPAWN", (0, -1), "", 0))))

    assert (0, (1 << 64) - 1) == plan.steps[0].args


def test_plan_refuses_a_step_with_too_few_arguments() -> None:
    """A malformed plan is a defect, found before it is sent."""
    with pytest.raises(Internal, match="add step SPAWN: 1 arguments for the signature 'ii'"):
        Plan().front("SPAWN", 1)


@pytest.mark.parametrize(
    ("argument", "text"),
    [(5, "5"), ("a b", "a b"), (b"xyz", "<3 bytes>"), (["a", "b"], "a b")],
    ids=["number", "text", "blob", "vector"],
)
def test_arguments_are_shown_on_one_line(argument: Any, text: str) -> None:
    """Blobs by their size, vectors joined."""
    assert text == show_argument(argument)


def test_steps_compare_by_all_their_members() -> None:
    """Equal only with the same actor, arguments, pointer and flags."""
    step = Step(0, "SYNC", ("a",), "x", 0)

    assert step == Step(0, "SYNC", ("a",), "x", 0)
    assert step != Step(2, "SYNC", ("a",), "x", 0)
    assert step != Step(0, "SYNC", ("a",), "y", 0)
    assert step != "SYNC"
    assert repr(step) == "Step(front, SYNC, ('a',), 'x', 0)"


def test_plan_that_the_executor_would_not_take_is_refused_in_words() -> None:
    """Whoever asked for too much is told so, and not that two versions were mixed."""
    plan = plan_of(*[Step(0, "WARN", ("x",), "", 0)] * 4097)
    with pytest.raises(InvalidArgument, match="it has 4097 steps, the executor takes at most 4096"):
        encode(plan)
    with pytest.raises(InvalidArgument, match="the executor takes at most 16777216"):
        encode(plan_of(Step(0, "WARN", ("x" * (16 << 20),), "", 0)))


def test_bounds_are_those_of_the_executor() -> None:
    """Written down on both sides, as the planner refuses in better words."""
    header = (Path(__file__).parents[3] / "native/executor/plan.h").read_text()

    assert f"PLAN_STEPS   {MAX_STEPS}\n" in header
    assert f"PLAN_MAX     ({MAX_BYTES >> 20}u << 20)\n" in header
