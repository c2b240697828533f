"""corral.oci.validate_seccomp: the filter's description."""

from __future__ import annotations

from typing import Any

import pytest

from corral.oci.validate import validate
from unit.oci.documents import linux_spec, problems_as_pairs

ACTIONS = (
    "SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, "
    "SCMP_ACT_NOTIFY, SCMP_ACT_TRACE, SCMP_ACT_TRAP"
)
EQUAL = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


def _seccomp(*rules: Any, **members: Any) -> dict[str, Any]:
    return linux_spec(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **members})


def _rule(**members: Any) -> dict[str, Any]:
    return {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **members}


def _check(spec: dict[str, Any], pointer: str, message: str) -> None:
    assert [(f"linux.seccomp{pointer}", message)] == problems_as_pairs(validate(spec))


@pytest.mark.parametrize(
    ("members", "pointer", "message"),
    [
        pytest.param({"defaultAction": None}, ".defaultAction", "missing", id="no default"),
        pytest.param({"defaultAction": ""}, ".defaultAction", f"'' is none of {ACTIONS}", id="empty default"),
        pytest.param(
            {"defaultAction": "ALLOW"}, ".defaultAction", f"'ALLOW' is none of {ACTIONS}", id="unknown default"
        ),
        pytest.param(
            {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/s"},
            ".defaultAction",
            "SCMP_ACT_NOTIFY cannot be the default action",
            id="notify by default",
        ),
        pytest.param(
            {"defaultErrnoRet": 1}, ".defaultErrnoRet", "SCMP_ACT_ALLOW returns no errno", id="errno with allow"
        ),
        pytest.param(
            {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536},
            ".defaultErrnoRet",
            "65536 is not between 0 and 65535",
            id="errno too large",
        ),
        pytest.param({"listenerPath": "s"}, ".listenerPath", "'s' is not an absolute path", id="relative listener"),
        pytest.param({"listenerPath": "/s\0"}, ".listenerPath", "NUL character in '/s\\x00'", id="NUL in listener"),
        pytest.param(
            {"listenerMetadata": "m"}, ".listenerMetadata", "set without listenerPath", id="metadata without listener"
        ),
        pytest.param({"syscalls": {}}, ".syscalls", "want an array, got an object", id="syscalls of wrong type"),
        pytest.param(
            {"flags": ["SECCOMP_FILTER_FLAG_NEW"]},
            ".flags[0]",
            "'SECCOMP_FILTER_FLAG_NEW' is none of SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, "
            "SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            id="unknown flag",
        ),
    ],
)
def test_seccomp_members_are_checked(members: dict[str, Any], pointer: str, message: str) -> None:
    """One mistake, one problem, at its place."""
    _check(_seccomp(**members), pointer, message)


def test_unknown_architectures_are_answered_with_the_known() -> None:
    """The message lists them all."""
    (problem,) = validate(_seccomp(architectures=["SCMP_ARCH_X86_64", "x86_64"]))

    assert "linux.seccomp.architectures[1]" == problem.pointer
    assert problem.message.startswith("'x86_64' is none of SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, ")


@pytest.mark.parametrize(
    ("rule", "pointer", "message"),
    [
        pytest.param({"action": "SCMP_ACT_LOG"}, ".names", "missing", id="no names"),
        pytest.param({"names": ["mkdir"]}, ".action", "missing", id="no action"),
        pytest.param(_rule(names=[]), ".names", "empty", id="empty names"),
        pytest.param(_rule(names=["mkdir", 3]), ".names[1]", "want a string, got 3", id="number as name"),
        pytest.param(_rule(action="DENY"), ".action", f"'DENY' is none of {ACTIONS}", id="unknown action"),
        pytest.param(
            _rule(action="SCMP_ACT_ALLOW", errnoRet=1), ".errnoRet", "SCMP_ACT_ALLOW returns no errno", id="errno"
        ),
        pytest.param(_rule(errnoRet=-1), ".errnoRet", "-1 is not between 0 and 65535", id="negative errno"),
        pytest.param(_rule(args=[{}]), ".args[0].index", "missing", id="empty condition"),
        pytest.param(_rule(args=[{**EQUAL, "index": 6}]), ".args[0].index", "6 is not between 0 and 5", id="index"),
        pytest.param(
            _rule(args=[{**EQUAL, "value": -1}]),
            ".args[0].value",
            "-1 is not between 0 and 18446744073709551615",
            id="negative value",
        ),
        pytest.param(
            _rule(args=[{**EQUAL, "op": "=="}]),
            ".args[0].op",
            "'==' is none of SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, SCMP_CMP_MASKED_EQ, "
            "SCMP_CMP_NE",
            id="unknown operator",
        ),
    ],
)
def test_seccomp_rules_are_checked(rule: dict[str, Any], pointer: str, message: str) -> None:
    """Each rule by its index; of several problems the first is compared."""
    first = validate(_seccomp(_rule(), rule))[0]

    assert (f"linux.seccomp.syscalls[1]{pointer}", message) == (first.pointer, first.message)


def test_notify_needs_a_listener() -> None:
    """Nobody would answer."""
    rule = _rule(action="SCMP_ACT_NOTIFY")

    _check(_seccomp(rule), ".listenerPath", "missing, but SCMP_ACT_NOTIFY is used")
    assert [] == validate(_seccomp(rule, listenerPath="/run/agent.sock", listenerMetadata="m"))


def test_notify_is_refused_when_it_covers_write() -> None:
    """The runtime itself writes after the filter is loaded, and would wait for ever."""
    rule = _rule(action="SCMP_ACT_NOTIFY", names=["mkdir", "write"])
    message = "write cannot be notified of: the runtime needs it after the filter is loaded"

    _check(_seccomp(rule, listenerPath="/s"), ".syscalls[0].names[1]", message)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"listenerPath": "/s"}, id="a listener nobody notifies is ignored"),
        pytest.param({"listenerPath": "", "listenerMetadata": ""}, id="empty strings"),
        pytest.param({"architectures": None, "flags": None, "syscalls": None}, id="nulls"),
        pytest.param({"syscalls": [_rule(names=["no_such_call"], args=[], errnoRet=None)]}, id="unknown system call"),
        pytest.param({"syscalls": [_rule(action="SCMP_ACT_TRACE", errnoRet=1)]}, id="errno with trace"),
        pytest.param({"architectures": ["SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64"]}, id="newer architectures"),
        pytest.param(
            {"syscalls": [_rule(args=[EQUAL, {**EQUAL, "valueTwo": 3}])]}, id="two conditions on one argument"
        ),
    ],
)
def test_seccomp_takes_what_callers_send(members: dict[str, Any]) -> None:
    """As runc does."""
    assert [] == validate(_seccomp(**members))
