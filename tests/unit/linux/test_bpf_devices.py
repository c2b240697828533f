"""Device rules mean the same in Python, in our program, and (for what v1 can say) in the v1 controller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.linux.bpf_devices import access_mask, assemble_device_program
from unit.linux.device_machine import BLOCK, CHAR, MKNOD, READ, WRITE, run_program

Rule = tuple[bool, str, int, int, str]

DENY_ALL: Rule = (False, "a", -1, -1, "rwm")
ALLOW_ALL: Rule = (True, "a", -1, -1, "rwm")
NULL: Rule = (True, "c", 1, 3, "rwm")


def matches(rule: Rule, kind: int, major: int, minor: int) -> bool:
    """Whether a rule is about this device."""
    return rule[1] in ("a", "?bc"[kind]) and rule[2] in (-1, major) and rule[3] in (-1, minor)


def allowed(rules: list[Rule], kind: int, major: int, minor: int, access: int) -> bool:
    """The meaning, bit by bit: the last rule that covers a bit decides about it, and all bits must be allowed."""
    for bit in (MKNOD, READ, WRITE):
        if access & bit:
            covering = [r for r in rules if matches(r, kind, major, minor) and access_mask(r[4]) & bit]
            if not covering or not covering[-1][0]:
                return False
    return True


@pytest.mark.parametrize(
    ("rules", "request_", "expected"),
    [
        ([], (CHAR, 1, 3, READ), False),
        ([DENY_ALL], (CHAR, 1, 3, READ), False),
        ([ALLOW_ALL], (BLOCK, 8, 0, READ | WRITE | MKNOD), True),
        ([DENY_ALL, NULL], (CHAR, 1, 3, READ | WRITE), True),
        ([DENY_ALL, NULL], (BLOCK, 1, 3, READ), False),
        ([DENY_ALL, NULL], (CHAR, 1, 5, READ), False),
        ([NULL, DENY_ALL], (CHAR, 1, 3, READ), False),
        ([DENY_ALL, (True, "c", 1, -1, "r")], (CHAR, 1, 9, READ), True),
        ([DENY_ALL, (True, "c", 1, -1, "r")], (CHAR, 1, 9, READ | WRITE), False),
        ([DENY_ALL, (True, "c", -1, -1, "m")], (CHAR, 9, 9, MKNOD), True),
        ([DENY_ALL, (True, "c", 1, 3, "r"), (True, "c", 1, 3, "w")], (CHAR, 1, 3, READ | WRITE), True),
        ([ALLOW_ALL, (False, "c", 1, 3, "w")], (CHAR, 1, 3, READ | WRITE), False),
        ([ALLOW_ALL, (False, "c", 1, 3, "w")], (CHAR, 1, 3, READ), True),
        ([ALLOW_ALL, (False, "c", 1, 3, "w"), ALLOW_ALL], (CHAR, 1, 3, WRITE), True),
        ([DENY_ALL, (True, "c", 1, -1, "rwm"), (False, "c", 1, 3, "w")], (CHAR, 1, 3, WRITE), False),
        ([DENY_ALL, (True, "c", 1, -1, "rwm"), (False, "c", 1, 3, "w")], (CHAR, 1, 3, READ), True),
        ([DENY_ALL, (True, "b", 8, 4294967295, "r")], (BLOCK, 8, 4294967295, READ), True),
        ([DENY_ALL, (True, "c", 1, 3, "")], (CHAR, 1, 3, READ), False),
    ],
)
def test_request_is_decided_by_the_last_rule_when_several_match(
    rules: list[Rule], request_: tuple[int, int, int, int], expected: bool
) -> None:
    """The cases that the documentation of the module promises."""
    assert expected is run_program(assemble_device_program(rules), *request_)
    assert expected is allowed(rules, *request_)


RULES = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from("abc"),
        st.sampled_from([-1, 1, 8, 4294967295]),
        st.sampled_from([-1, 0, 3, 2147483648]),
        st.sets(st.sampled_from("rwm")).map(lambda letters: "".join(sorted(letters))),
    ),
    max_size=8,
)
REQUESTS = st.tuples(
    st.sampled_from([BLOCK, CHAR]),
    st.sampled_from([1, 8, 2, 4294967295]),
    st.sampled_from([0, 3, 5, 2147483648]),
    st.integers(1, 7),
)


@given(rules=RULES, request_=REQUESTS)
def test_program_agrees_with_the_meaning_for_any_rules(rules: list[Rule], request_: tuple[int, int, int, int]) -> None:
    """The instructions and the definition give one answer."""
    assert allowed(rules, *request_) is run_program(assemble_device_program(rules), *request_)


class OldController:
    """The v1 controller: a default, and exceptions to it. Source: admin-guide/cgroup-v1/devices.rst."""

    def __init__(self) -> None:
        self.default_allow = False
        self.exceptions: dict[tuple[str, int, int], int] = {}

    def apply(self, rule: Rule) -> None:
        """Write one line to devices.allow or devices.deny."""
        allow, kind, major, minor, access = rule
        if kind == "a":
            self.default_allow, self.exceptions = allow, {}
            return
        key, mask = (kind, major, minor), access_mask(access)
        old = self.exceptions.get(key, 0)
        self.exceptions[key] = old & ~mask if allow == self.default_allow else old | mask

    def allows(self, kind: int, major: int, minor: int, access: int) -> bool:
        """Whether a request passes."""
        covering = [
            mask for (k, a, i), mask in self.exceptions.items() if matches((True, k, a, i, ""), kind, major, minor)
        ]
        if self.default_allow:
            return not any(mask & access for mask in covering)
        return any(mask & access == access for mask in covering)


@given(
    default=st.booleans(),
    exact=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from("bc"),
            st.sampled_from([1, 8]),
            st.sampled_from([0, 3]),
            st.sampled_from(["r", "w", "rw", "rwm", "m"]),
        ),
        max_size=8,
    ),
    request_=REQUESTS,
)
def test_program_agrees_with_v1_for_rules_about_single_devices(
    default: bool, exact: list[Rule], request_: tuple[int, int, int, int]
) -> None:
    """A reset followed by rules that do not overlap partly: what v1 can express means the same on v2."""
    rules = [ALLOW_ALL if default else DENY_ALL, *exact]
    old = OldController()
    for rule in rules:
        old.apply(rule)
    assert old.allows(*request_) is run_program(assemble_device_program(rules), *request_)


def test_earlier_rules_are_left_out_when_all_is_reset() -> None:
    """Code that cannot be reached would be refused by the verifier."""
    assert assemble_device_program([NULL, ALLOW_ALL]) == assemble_device_program([ALLOW_ALL])
    assert assemble_device_program([NULL, DENY_ALL]) == assemble_device_program([])


def test_program_is_short_when_rules_are_the_usual_ones() -> None:
    """The default list of a container costs less than a hundred instructions."""
    usual: list[Rule] = [DENY_ALL, (True, "c", -1, -1, "m"), (True, "b", -1, -1, "m")]
    usual += [(True, "c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)]
    usual += [(True, "c", 5, minor, "rwm") for minor in (0, 2)] + [(True, "c", 136, -1, "rwm")]
    assert len(assemble_device_program(usual)) < 8 * 100


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((True, "x", 1, 3, "r"), "device type 'x' is none of a, b, c"),
        ((True, "c", -2, 3, "r"), "device number -2 is not -1 to 4294967295"),
        ((True, "c", 1, 1 << 32, "r"), "device number 4294967296 is not -1 to 4294967295"),
        ((True, "c", 1, 3, "rx"), "device access 'rx' has letters other than rwm"),
    ],
)
def test_rule_is_refused_when_it_cannot_be(rule: Rule, message: str) -> None:
    """The value that is wrong is named."""
    with pytest.raises(ValueError, match=message):
        assemble_device_program([rule])
