"""Seccomp: actions, conditions, architectures, flags and notifications, as the filtered program sees them."""

from __future__ import annotations

import errno
import os

import pytest

from conformance.harness import Bundle, Runtime, parse_status
from conformance.runtimes import needs
from conformance.seccomp import ALLOWED, NUMBERS, agent, argument, profile, rule

pytestmark = pytest.mark.skipif(not NUMBERS, reason="host: the numbers of this machine's calls are not listed")
GETSID = f"probe syscall {NUMBERS.get('getsid')} 0"


def errno_of(runtime: Runtime, bundle: Bundle, name: str, *args: int) -> int:
    """The errno of a call in the container; 0 if it succeeds."""
    bundle.process["args"] = ["/bin/probe", "syscall", str(NUMBERS[name]), *[str(a) for a in args]]
    return int(runtime.run(bundle).stdout.split("errno=")[1])


def test_filter_is_in_force(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel says that the program is filtered."""
    bundle.linux["seccomp"] = profile()
    assert parse_status(runtime.run(bundle, "cat /proc/self/status").stdout)["Seccomp"] == "2"


def test_no_filter_without_seccomp(runtime: Runtime, bundle: Bundle) -> None:
    """Without linux.seccomp the program is not filtered."""
    assert parse_status(runtime.run(bundle, "cat /proc/self/status").stdout)["Seccomp"] == "0"


def test_errno_defaults_to_eperm(runtime: Runtime, bundle: Bundle) -> None:
    """SCMP_ACT_ERRNO without errnoRet is EPERM."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO"))
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EPERM
    assert errno_of(runtime, bundle, "getpgid", 0) == 0


@pytest.mark.parametrize("value", [errno.ENOSYS, errno.EXDEV, 1])
def test_errno_of_the_rule(runtime: Runtime, bundle: Bundle, value: int) -> None:
    """errnoRet is what the call fails with."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", errno=value))
    assert errno_of(runtime, bundle, "getsid", 0) == value


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_action_that_ends_the_program(runtime: Runtime, bundle: Bundle, action: str) -> None:
    """The killing actions end the program by SIGSYS: 159."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], action))
    bundle.process["args"] = ["/bin/probe", "syscall", str(NUMBERS["getsid"]), "0"]
    done = runtime.run(bundle, check=False)
    assert (done.returncode, done.stdout) == (159, "")


@pytest.mark.parametrize(("action", "expected"), [("SCMP_ACT_LOG", 0), ("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_TRACE", 38)])
def test_action_that_goes_on(runtime: Runtime, bundle: Bundle, action: str, expected: int) -> None:
    """LOG lets the call happen; TRACE without a tracer is ENOSYS."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], action))
    if action == "SCMP_ACT_ALLOW":
        bundle.linux["seccomp"] = profile(rule([*ALLOWED, "getsid"], action), default="SCMP_ACT_ERRNO")
        bundle.process["noNewPrivileges"] = True
    assert errno_of(runtime, bundle, "getsid", 0) == expected


# Condition on the argument -> the values for which it holds, and those for which it does not.
OPERATORS = {
    "SCMP_CMP_EQ": (argument(0, "SCMP_CMP_EQ", 5), [5], [4, 6]),
    "SCMP_CMP_NE": (argument(0, "SCMP_CMP_NE", 5), [4, 6], [5]),
    "SCMP_CMP_LT": (argument(0, "SCMP_CMP_LT", 5), [4], [5, 6]),
    "SCMP_CMP_LE": (argument(0, "SCMP_CMP_LE", 5), [4, 5], [6]),
    "SCMP_CMP_GE": (argument(0, "SCMP_CMP_GE", 5), [5, 6], [4]),
    "SCMP_CMP_GT": (argument(0, "SCMP_CMP_GT", 5), [6], [5, 4]),
    "SCMP_CMP_MASKED_EQ": (argument(0, "SCMP_CMP_MASKED_EQ", 0xF0, 0x50), [0x51, 0x5F], [0x61, 0x0]),
    "64-bit": (argument(0, "SCMP_CMP_EQ", 1 << 33 | 5), [1 << 33 | 5], [5, 1 << 33]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_condition_on_an_argument(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Each operator, for values on both sides of it."""
    condition, inside, outside = OPERATORS[name]
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", condition, errno=errno.EXDEV))
    calls = "; ".join(f"probe syscall {NUMBERS['getsid']} {value}" for value in [*inside, *outside])
    found = [int(line.split("errno=")[1]) == errno.EXDEV for line in runtime.run(bundle, calls).lines]
    assert found == [True] * len(inside) + [False] * len(outside)


def test_conditions_on_several_arguments_are_all_to_hold(runtime: Runtime, bundle: Bundle) -> None:
    """Conditions on different arguments of one rule count together."""
    conditions = [argument(0, "SCMP_CMP_EQ", 1), argument(1, "SCMP_CMP_EQ", 2)]
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", *conditions, errno=errno.EXDEV))
    number = NUMBERS["getsid"]
    calls = "; ".join(f"probe syscall {number} {a} {b}" for a, b in [(1, 2), (1, 3), (3, 2)])
    found = [int(line.split("errno=")[1]) == errno.EXDEV for line in runtime.run(bundle, calls).lines]
    assert found == [True, False, False]


def test_rules_for_one_call_are_alternatives(runtime: Runtime, bundle: Bundle) -> None:
    """Two rules for a call: each counts for its own condition."""
    rules = [
        rule(["getsid"], "SCMP_ACT_ERRNO", argument(0, "SCMP_CMP_EQ", value), errno=code)
        for value, code in ((1, errno.EXDEV), (2, errno.ENOTTY))
    ]
    bundle.linux["seccomp"] = profile(*rules)
    calls = "; ".join(f"probe syscall {NUMBERS['getsid']} {value}" for value in (1, 2, 0))
    found = [int(line.split("errno=")[1]) for line in runtime.run(bundle, calls).lines]
    assert found == [errno.EXDEV, errno.ENOTTY, 0]


def test_several_names_in_one_rule(runtime: Runtime, bundle: Bundle) -> None:
    """A rule is for each of its names."""
    bundle.linux["seccomp"] = profile(rule(["getsid", "getpgid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV))
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EXDEV
    assert errno_of(runtime, bundle, "getpgid", 0) == errno.EXDEV


def test_unknown_call_is_ignored(runtime: Runtime, bundle: Bundle) -> None:
    """Names that this machine does not have are not an error: profiles are for all machines."""
    bundle.linux["seccomp"] = profile(rule(["no_such_call", "s390_pci_mmio_read", "getsid"], "SCMP_ACT_ERRNO"))
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EPERM


def deny_by_default(bundle: Bundle, **more: object) -> None:
    """A filter that refuses what is not listed, as the callers' default profiles do."""
    bundle.linux["seccomp"] = profile(rule(ALLOWED, "SCMP_ACT_ALLOW"), default="SCMP_ACT_ERRNO", **more)
    bundle.process["noNewPrivileges"] = True


def test_default_action_refuses_what_is_not_listed(runtime: Runtime, bundle: Bundle) -> None:
    """A default of ERRNO: a known call that is not listed is EPERM."""
    deny_by_default(bundle)
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EPERM


def test_default_errno(runtime: Runtime, bundle: Bundle) -> None:
    """defaultErrnoRet is the default action's errno."""
    deny_by_default(bundle, defaultErrnoRet=errno.EXDEV)
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EXDEV


def test_call_newer_than_the_filter_gets_enosys(runtime: Runtime, bundle: Bundle) -> None:
    """A call that the profile's makers could not know is ENOSYS, so that the C library falls back."""
    native = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[os.uname().machine]
    deny_by_default(bundle, architectures=[native])
    bundle.process["args"] = ["/bin/probe", "syscall", "1000"]
    assert runtime.run(bundle).stdout == f"result=-1 errno={errno.ENOSYS}\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="host: not x86-64")
def test_architectures_of_the_profile(runtime: Runtime, bundle: Bundle) -> None:
    """Several architectures in one profile: the native one is filtered as before."""
    names = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV), architectures=names)
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EXDEV


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="host: not x86-64")
def test_architecture_x32_is_closed_unless_listed(runtime: Runtime, bundle: Bundle) -> None:
    """Calls in x32's numbers do not pass by a filter for x86-64."""
    bundle.linux["seccomp"] = profile(
        rule(["getsid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV), architectures=["SCMP_ARCH_X86_64"]
    )
    bundle.process["args"] = ["/bin/probe", "syscall", str(0x40000000 | NUMBERS["getsid"]), "0"]
    done = runtime.run(bundle, check=False)
    assert done.returncode == 159 or "result=-1" in done.stdout


@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
@needs("seccomp-flags")
def test_flag(runtime: Runtime, bundle: Bundle, flag: str) -> None:
    """Each flag of the specification is taken, and the filter is in force."""
    flags = [f"SECCOMP_FILTER_FLAG_{flag}"]
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV), flags=flags)
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EXDEV


@needs("seccomp-flags")
def test_flag_spec_allow_leaves_speculation_alone(runtime: Runtime, bundle: Bundle) -> None:
    """With SPEC_ALLOW the filter does not force the mitigation upon the program."""
    bundle.linux["seccomp"] = profile(flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
    with_flag = parse_status(runtime.run(bundle, "cat /proc/self/status").stdout)["Speculation_Store_Bypass"]
    assert "mitigated" not in with_flag


WRONG = {
    "action": profile(rule(["getsid"], "SCMP_ACT_MAYBE")),
    "default": profile(default="SCMP_ACT_MAYBE"),
    "operator": profile(rule(["getsid"], "SCMP_ACT_ERRNO", argument(0, "SCMP_CMP_ALMOST", 1))),
    "architecture": profile(architectures=["SCMP_ARCH_ABACUS"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_profile_is_refused(runtime: Runtime, bundle: Bundle, case: str) -> None:
    """A name that does not exist is an error, never a weaker filter."""
    bundle.linux["seccomp"] = WRONG[case]
    runtime.refuse(bundle)


@needs("seccomp-flags")
def test_unknown_flag_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A flag that does not exist is an error."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO"), flags=["SECCOMP_FILTER_FLAG_NONE"])
    runtime.refuse(bundle)


def test_filter_holds_for_exec(runtime: Runtime, bundle: Bundle) -> None:
    """A process that exec adds has the container's filter."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV))
    with runtime.start(bundle) as c:
        done = c.exec("/bin/probe", "syscall", str(NUMBERS["getsid"]), "0")
        assert f"errno={errno.EXDEV}" in done.stdout


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("uid", [0, 1000])
def test_filter_with_each_user(runtime: Runtime, bundle: Bundle, uid: int, no_new_privileges: bool) -> None:
    """The filter is set for root and others, with and without noNewPrivileges."""
    bundle.process["user"] = {"uid": uid, "gid": uid}
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_ERRNO", errno=errno.EXDEV))
    assert errno_of(runtime, bundle, "getsid", 0) == errno.EXDEV


def test_notification_reaches_the_listener(runtime: Runtime, bundle: Bundle) -> None:
    """SCMP_ACT_NOTIFY: the listener gets the descriptor and the state, and decides the call's result."""
    with agent(bundle.path / "agent.sock") as listener:
        bundle.linux["seccomp"] = profile(
            rule(["getsid"], "SCMP_ACT_NOTIFY"), listenerPath=str(listener.path), listenerMetadata="some data"
        )
        bundle.process["args"] = ["/bin/probe", "syscall", str(NUMBERS["getsid"]), "77"]
        with runtime.create(bundle) as c, runtime.background("start", c.id) as (starting, _):
            with listener.receive() as (fd, state):
                assert state["metadata"] == "some data"
                assert state["pid"] == c.pid
                assert state["state"]["id"] == c.id
                assert state["state"]["bundle"] == str(bundle.path)
                assert state["ociVersion"].startswith("1.")
                call = listener.next(fd)
                assert (call.number, call.args[0], call.pid) == (NUMBERS["getsid"], 77, c.pid)
                listener.answer(fd, call, value=4242)
            assert starting.wait(30) == 0
            assert c.wait() == 0
            assert c.output == "result=4242 errno=0\n"


def test_notification_of_an_exec_comes_on_its_own_descriptor(runtime: Runtime, bundle: Bundle) -> None:
    """Each exec sends a descriptor of its own, with its own pid."""
    with agent(bundle.path / "agent.sock") as listener:
        bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_NOTIFY"), listenerPath=str(listener.path))
        bundle.shell("exec sleep 1000")
        with runtime.create(bundle) as c:
            with runtime.background("start", c.id) as (starting, _), listener.receive():
                assert starting.wait(30) == 0
            command = ["exec", c.id, "/bin/probe", "syscall", str(NUMBERS["getsid"]), "0"]
            with runtime.background(*command) as (process, out), listener.receive() as (fd, state):
                call = listener.next(fd)
                assert state["pid"] == call.pid != c.pid
                assert state["state"]["pid"] == c.pid
                listener.answer(fd, call, errno=errno.EXDEV)
                assert out.readline() == f"result=-1 errno={errno.EXDEV}\n".encode()
                assert process.wait(30) == 0


def test_notification_without_a_listener_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """NOTIFY without listenerPath, or with one where nobody listens, makes no container."""
    bundle.linux["seccomp"] = profile(rule(["getsid"], "SCMP_ACT_NOTIFY"), listenerPath=str(bundle.path / "none"))
    runtime.refuse(bundle)


def test_notification_as_default_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Every call, also the runtime's own last ones, would wait for the agent."""
    with agent(bundle.path / "agent.sock") as listener:
        bundle.linux["seccomp"] = profile(default="SCMP_ACT_NOTIFY", listenerPath=str(listener.path))
        runtime.refuse(bundle)
