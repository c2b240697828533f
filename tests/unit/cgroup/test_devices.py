"""Rules of corral.cgroup.devices: one meaning for v1 files and for the v2 program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cgroup.devices import compile_devices, device_rules
from corral.cgroup.layout import Hierarchy, Layout
from corral.cgroup.writes import LimitWrite, judge
from corral.linux.bpf_devices import assemble_device_program
from unit.linux.device_machine import run_program

V1 = Layout((Hierarchy(0, 1, ("devices",), mount_point="/cg/devices"), Hierarchy(1, 2, (), mount_point="/cg/u")))
V2 = Layout((Hierarchy(0, 2, ("memory",), mount_point="/cg"),))
DEFAULT_LIST = [
    "b *:* m",
    "c *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
]
DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "type": "a", "major": -1, "minor": -1, "access": "rwm"}
FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}


def v1_files(*entries: dict[str, Any], current: str | None = None) -> list[tuple[str, str]]:
    """(file, value) for v1; there must be no problem."""
    compiled = compile_devices(entries, V1, current=current)
    assert compiled.problems == []
    return [(write.file, write.value) for write in compiled.writes]


@pytest.mark.parametrize("entries", [(), (DENY_ALL,), (DENY_ALL, DENY_ALL)])
def test_defaults_are_allowed_after_deny_all(entries: tuple[dict[str, Any], ...]) -> None:
    """With or without the usual first rule, a container gets the default devices and nothing else."""
    expected = [("devices.deny", "a")] + [("devices.allow", line) for line in DEFAULT_LIST]
    assert v1_files(*entries) == expected


def test_config_rule_is_added_with_what_wider_rules_give() -> None:
    """v1 wants one entry for a whole access, so the mknod right of "c *:* m" is repeated."""
    assert ("devices.allow", "c 10:229 rwm") in v1_files(DENY_ALL, FUSE)


def test_allow_all_is_one_write() -> None:
    """A privileged container: the reset is all there is, and no program is needed on v2."""
    assert v1_files(DENY_ALL, FUSE, ALLOW_ALL) == [("devices.allow", "a")]
    assert compile_devices([ALLOW_ALL], V1).is_allow_all
    assert compile_devices([ALLOW_ALL], V2).is_allow_all
    assert not compile_devices([DENY_ALL], V2).is_allow_all


def test_denial_after_allow_all_is_an_exception() -> None:
    """Everything but one device; the right to make nodes is a default and stays."""
    deny = {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "rwm"}
    assert v1_files(ALLOW_ALL, deny) == [("devices.allow", "a"), ("devices.deny", "b 8:0 rw")]
    assert not compile_devices([ALLOW_ALL, deny], V2).is_allow_all


def test_wide_denial_removes_narrow_permissions() -> None:
    """The last matching rule decides, also when it is the wider one; v1 alone would forget it silently."""
    deny = {"allow": False, "type": "c", "major": 10, "minor": -1, "access": "rw"}
    files = [value for _, value in v1_files(FUSE, deny)]
    assert files == [value for _, value in v1_files()]


def test_hole_is_refused_on_v1() -> None:
    """A narrow denial inside a wide permission cannot be expressed; the kernel would ignore it."""
    wide = {"allow": True, "type": "b", "major": -1, "minor": -1, "access": "rw"}
    hole = {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "w"}
    (problem,) = compile_devices([wide, hole], V1).problems
    assert problem.kind == "unsupported"
    assert problem.pointer == "linux.resources.devices[1]"
    assert problem.message == (
        "compile device rule linux.resources.devices[1]: 'b 8:0 w' would cut a hole into the earlier rule "
        "'allow b *:* rw', which cgroup v1 cannot do"
    )
    assert compile_devices([wide, hole], V2).problems == []


def test_type_a_with_numbers_means_both_kinds() -> None:
    """v1 itself would read it as "everything"."""
    odd = {"allow": True, "type": "a", "major": 7, "minor": 1, "access": "r"}
    rules, problems = device_rules([odd])
    assert problems == []
    assert [rule.raw for rule in rules[1:3]] == [(True, "b", 7, 1, "r"), (True, "c", 7, 1, "r")]


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ({"allow": True, "type": "p", "access": "r"}, "type 'p' is none of 'a', 'b', 'c'"),
        ({"allow": True, "type": "c"}, "access is empty: give letters of 'rwm'"),
        ({"allow": True, "type": "c", "access": "rx"}, "access 'rx' has letters other than 'rwm'"),
        ({"allow": True, "type": "c", "major": -2, "access": "r"}, "major -2 is not a device number"),
        ({"allow": True, "type": "c", "minor": 1 << 32, "access": "r"}, f"minor {1 << 32} is not a device number"),
    ],
)
def test_impossible_rule_is_refused(entry: dict[str, Any], cause: str) -> None:
    """Refused with its place in the config, on every layout."""
    for layout in (V1, V2):
        (problem,) = compile_devices([DENY_ALL, entry], layout).problems
        assert problem.kind == "invalid-argument"
        assert problem.message == f"compile device rule linux.resources.devices[1]: {cause}"
        assert problem.pointer == "linux.resources.devices[1]"


def test_v2_gets_the_ordered_rules() -> None:
    """Deny all, the config's rules, the defaults."""
    compiled = compile_devices([DENY_ALL, FUSE], V2)
    assert compiled.bpf_hierarchy == 0
    assert compiled.writes == []
    assert compiled.bpf_rules[:3] == [
        (False, "a", -1, -1, "rwm"),
        (False, "a", -1, -1, "rwm"),
        (True, "c", 10, 229, "rw"),
    ]
    assert len(compiled.bpf_rules) == 3 + len(DEFAULT_LIST)


def test_v1_is_preferred_on_hybrid_hosts() -> None:
    """One mechanism is enough, and v1's list can be read back by anyone."""
    assert compile_devices([], V1).bpf_hierarchy is None


def test_host_without_either_is_a_problem() -> None:
    """Device rules that nothing enforces are not dropped in silence."""
    (problem,) = compile_devices([], Layout(())).problems
    assert problem.kind == "unsupported"


def test_last_v1_write_is_judged_by_the_whole_list() -> None:
    """Only the list as the kernel shows it says whether the rules stand."""
    writes = compile_devices([], V1).writes
    assert [w.read_file for w in writes] == [""] * (len(writes) - 1) + ["devices.list"]
    assert judge(writes[-1], "\n".join(reversed(DEFAULT_LIST)) + "\n") is None
    assert judge(writes[-1], "a *:* rwm\n") is not None
    (allow_all,) = compile_devices([ALLOW_ALL], V1).writes
    assert judge(allow_all, "a *:* rwm\n") is None


def test_update_writes_only_differences() -> None:
    """A running container keeps what it may use: no reset, only what goes and what comes."""
    current = "\n".join([*DEFAULT_LIST, "b 8:0 rwm"]) + "\n"
    assert v1_files(DENY_ALL, FUSE, current=current) == [
        ("devices.deny", "b 8:0 rwm"),
        ("devices.allow", "c 10:229 rwm"),
    ]
    assert v1_files(DENY_ALL, current="\n".join(DEFAULT_LIST)) == []


def test_update_resets_a_group_that_allows_by_default() -> None:
    """Its exceptions are not shown, so nothing can be compared."""
    assert v1_files(DENY_ALL, current="a *:* rwm\n")[0] == ("devices.deny", "a")


NUMBERS = st.integers(-1, 1)
ENTRY = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "type": st.sampled_from("abc"),
        "major": NUMBERS,
        "minor": NUMBERS,
        "access": st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
    }
)


def decided(rules: list[tuple[bool, str, int, int, str]], kind: str, major: int, minor: int, letter: str) -> bool:
    """The meaning of a rule list: the last rule that matches one right decides it."""
    answer = False
    for allow, rule_kind, rule_major, rule_minor, access in rules:
        if rule_kind in ("a", kind) and rule_major in (-1, major) and rule_minor in (-1, minor) and letter in access:
            answer = allow
    return answer


def v1_allows(writes: list[LimitWrite], kind: str, major: int, minor: int, access: str) -> bool:
    """What a v1 kernel makes of the writes: exact removal, and an access must fit one entry (devices.rst)."""
    default = True
    exceptions: dict[tuple[str, ...], str] = {}
    for write in writes:
        allow = write.file == "devices.allow"
        if write.value == "a":
            default, exceptions = allow, {}
            continue
        words = write.value.replace(":", " ").split()
        key = tuple(words[:3])
        have = exceptions.get(key, "")
        exceptions[key] = "".join(set(have) - set(words[3])) if allow == default else have + words[3]
    names = (kind, str(major), str(minor))
    matching = [a for k, a in exceptions.items() if all(x in ("*", y) for x, y in zip(k, names, strict=True))]
    if default:
        return not any(set(a) & set(access) for a in matching)
    return any(set(access) <= set(a) for a in matching)


@given(st.lists(ENTRY, max_size=6))
def test_v1_files_mean_what_the_rules_mean(entries: list[dict[str, Any]]) -> None:
    """For each device and each access: v1's answer is the rule list's, or the list was refused."""
    compiled = compile_devices(entries, V1)
    if compiled.problems:
        return
    rules = [rule.raw for rule in device_rules(entries)[0]]
    for kind in "bc":
        for major, minor in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 3), (2, 2)):
            for access in ("r", "w", "m", "rw"):
                expected = all(decided(rules, kind, major, minor, letter) for letter in access)
                assert v1_allows(compiled.writes, kind, major, minor, access) == expected


@given(st.lists(ENTRY, max_size=4), st.lists(ENTRY, max_size=4))
def test_update_reaches_the_same_list(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """From any list to any other by differences: the final list is what a fresh group would have."""
    old, new = compile_devices(before, V1), compile_devices(after, V1)
    if old.problems or new.problems:
        return
    current = "a *:* rwm"
    if old.writes[0].file == "devices.deny":
        current = "\n".join(w.value for w in old.writes[1:])
    steps = compile_devices(after, V1, current=current).writes
    for kind in "bc":
        for major, minor in ((0, 0), (0, 1), (1, 1), (1, 3)):
            for access in ("r", "w", "m", "rw"):
                assert v1_allows(old.writes + steps, kind, major, minor, access) == v1_allows(
                    new.writes, kind, major, minor, access
                )


@given(st.lists(ENTRY, max_size=6))
def test_v2_program_means_what_the_v1_files_mean(entries: list[dict[str, Any]]) -> None:
    """A config gives the same answers on a v1 and on a v2 host, whenever v1 can express it."""
    v1, v2 = compile_devices(entries, V1), compile_devices(entries, V2)
    if v1.problems:
        return
    program = assemble_device_program(v2.bpf_rules)
    bits = {"m": 1, "r": 2, "w": 4}
    for number, kind in ((1, "b"), (2, "c")):
        for major, minor in ((0, 0), (0, 1), (1, 0), (1, 3)):
            for access in ("r", "w", "m", "rw"):
                mask = sum(bits[letter] for letter in access)
                answer = run_program(program, number, major, minor, mask)
                assert answer == v1_allows(v1.writes, kind, major, minor, access)
