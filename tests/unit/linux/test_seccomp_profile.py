"""Profiles are decoded as the spec says, and each mistake is named with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.linux import seccomp_profile as sp

ERRNO = "SCMP_ACT_ERRNO"
ALLOW = "SCMP_ACT_ALLOW"


def entry(**fields: Any) -> dict[str, Any]:
    """One entry of ``syscalls``, complete unless ``fields`` says otherwise."""
    return {"names": ["read"], "action": ALLOW} | fields


@pytest.mark.parametrize(
    ("action", "errno_ret", "expected"),
    [
        (ERRNO, None, 0x50001),
        (ERRNO, 0, 0x50000),
        (ERRNO, 38, 0x50026),
        ("SCMP_ACT_TRACE", None, 0x7FF00001),
        ("SCMP_ACT_TRACE", 65535, 0x7FF0FFFF),
        (ALLOW, None, 0x7FFF0000),
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
        ("SCMP_ACT_TRAP", None, 0x30000),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
    ],
)
def test_default_action_is_the_kernels_number_when_known(action: str, errno_ret: int | None, expected: int) -> None:
    """The errno goes into the low half; EPERM if none is given."""
    assert expected == sp.parse_profile({"defaultAction": action, "defaultErrnoRet": errno_ret}).default_action


def test_rules_are_flat_when_entries_name_several() -> None:
    """Each name becomes a rule of its own, with its place."""
    profile = sp.parse_profile({"defaultAction": ERRNO, "syscalls": [entry(), entry(names=["a", "b"])]})
    assert [("read", 0), ("a", 1), ("b", 1)] == [(r.name, int(r.pointer.split("[")[1][0])) for r in profile.rules]
    assert "linux.seccomp.syscalls[1].names[1]" == profile.rules[2].pointer


@pytest.mark.parametrize(
    ("indexes", "match_any"), [((), False), ((0,), False), ((0, 1), False), ((0, 0), True), ((0, 1, 0), True)]
)
def test_conditions_are_alternatives_when_two_share_an_argument(indexes: tuple[int, ...], match_any: bool) -> None:
    """All must hold, unless an argument occurs twice."""
    args = [{"index": index, "op": "SCMP_CMP_EQ", "value": 7} for index in indexes]
    [rule] = sp.parse_profile({"defaultAction": ERRNO, "syscalls": [entry(args=args)]}).rules
    assert (match_any, len(indexes)) == (rule.match_any, len(rule.conditions))


def test_condition_has_both_values_when_masked() -> None:
    """value is the mask, valueTwo the result, in libseccomp's order."""
    args = [
        {"index": 2, "op": "SCMP_CMP_MASKED_EQ", "value": 2**64 - 1, "valueTwo": 5},
        {"index": 3, "op": "SCMP_CMP_GT"},
    ]
    [rule] = sp.parse_profile({"defaultAction": ERRNO, "syscalls": [entry(args=args)]}).rules
    assert ((2, 7, 2**64 - 1, 5), (3, 6, 0, 0)) == rule.conditions


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, 4),
        ({"flags": None}, 4),
        ({"flags": []}, 0),
        ({"flags": ["SECCOMP_FILTER_FLAG_TSYNC"]}, 0),
        ({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}, 6),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, 32),
    ],
)
def test_flags_are_the_kernels_when_listed(flags: dict[str, Any], expected: int) -> None:
    """No list means SPEC_ALLOW; an empty list means none."""
    assert expected == sp.parse_flags(flags)


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "defaultAction", "None is not a known action"),
    ({"defaultAction": "ALLOW"}, "defaultAction", "'ALLOW' is not a known action"),
    ({"defaultAction": []}, "defaultAction", "[] is not a known action"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"),
    ({"defaultAction": ALLOW, "defaultErrnoRet": 1}, "defaultErrnoRet", "action SCMP_ACT_ALLOW takes no errno"),
    ({"defaultErrnoRet": 4095}, "defaultErrnoRet", "4095 is not a number from 0 to 4094"),
    ({"defaultErrnoRet": -1}, "defaultErrnoRet", "-1 is not a number from 0 to 4094"),
    ({"defaultErrnoRet": True}, "defaultErrnoRet", "True is not a number from 0 to 4094"),
    ({"defaultErrnoRet": "1"}, "defaultErrnoRet", "'1' is not a number from 0 to 4094"),
    ({"architectures": "x"}, "architectures", "'x' is not a list"),
    ({"architectures": ["SCMP_ARCH_X86", "VAX"]}, "architectures[1]", "'VAX' is not a known architecture"),
    ({"syscalls": {}}, "syscalls", "{} is not a list"),
    ({"syscalls": ["read"]}, "syscalls[0]", "'read' is not an object"),
    ({"syscalls": [{"action": ALLOW}]}, "syscalls[0].names", "no syscall is named"),
    ({"syscalls": [entry(names=[""])]}, "syscalls[0].names[0]", "'' is not a syscall's name"),
    ({"syscalls": [entry(names=["a\0b"])]}, "syscalls[0].names[0]", "'a\\x00b' is not a syscall's name"),
    ({"syscalls": [entry(names=[7])]}, "syscalls[0].names[0]", "7 is not a syscall's name"),
    ({"syscalls": [entry(action=None)]}, "syscalls[0].action", "None is not a known action"),
    ({"syscalls": [entry(errnoRet=1)]}, "syscalls[0].errnoRet", "action SCMP_ACT_ALLOW takes no errno"),
    ({"syscalls": [entry(args=[5])]}, "syscalls[0].args[0]", "5 is not an object"),
    ({"syscalls": [entry(args=[{}])]}, "syscalls[0].args[0].index", "None is not a number from 0 to 5"),
    ({"syscalls": [entry(args=[{"index": 6}])]}, "syscalls[0].args[0].index", "6 is not a number from 0 to 5"),
    ({"syscalls": [entry(args=[{"index": 0, "op": "EQ"}])]}, "syscalls[0].args[0].op", "'EQ' is not a known operator"),
    (
        {"syscalls": [entry(args=[{"index": 0, "op": "SCMP_CMP_EQ", "value": 1 << 64}])]},
        "syscalls[0].args[0].value",
        "18446744073709551616 is not a number from 0 to 18446744073709551615",
    ),
    (
        {"syscalls": [entry(), entry(names=["read", "write"], action="SCMP_ACT_NOTIFY")]},
        "syscalls[1].names[1]",
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    ),
]


@pytest.mark.parametrize(("fields", "pointer", "cause"), CASES, ids=[f"{p}-{i}" for i, (_, p, _) in enumerate(CASES)])
def test_mistake_is_named_with_its_place_when_profile_is_wrong(
    fields: dict[str, Any], pointer: str, cause: str
) -> None:
    """The error says what is wrong, and where in config.json."""
    base = {} if fields == {} else {"defaultAction": ERRNO}
    with pytest.raises(InvalidArgument) as caught:
        sp.parse_profile(base | fields)
    assert (f"read seccomp profile: {cause}", f"linux.seccomp.{pointer}") == (
        caught.value.message,
        caught.value.pointer,
    )


def test_flag_is_named_when_unknown() -> None:
    """The hint lists what is known."""
    with pytest.raises(InvalidArgument) as caught:
        sp.parse_flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "X"]})
    assert "linux.seccomp.flags[1]" == caught.value.pointer
    assert "SECCOMP_FILTER_FLAG_SPEC_ALLOW" in caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([ERRNO, ALLOW, "read", "SCMP_CMP_EQ"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["names", "action", "args", "index", "op", "errnoRet", "value"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


KEYS = ("defaultErrnoRet", "architectures", "syscalls", "flags")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)))
def test_decoder_refuses_or_answers_for_any_json(fields: dict[str, Any]) -> None:
    """Never anything but a profile or InvalidArgument with its place."""
    try:
        sp.parse_flags(fields)
        sp.parse_profile({"defaultAction": ERRNO} | fields)
        pointer = "linux.seccomp."
    except InvalidArgument as exc:
        pointer = exc.pointer
    assert pointer.startswith("linux.seccomp.")
