"""Seccomp profiles in the OCI's JSON form, decoded to values. Pure: asks neither the kernel nor libseccomp.

Source: runtime-spec config-linux.md#seccomp, seccomp(2).
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Condition = tuple[int, int, int, int]  # argument index, operator, datum a, datum b

ACT_KILL_PROCESS = 0x80000000
ACT_KILL_THREAD = 0x00000000
ACT_TRAP = 0x00030000
ACT_ERRNO = 0x00050000
ACT_NOTIFY = 0x7FC00000
ACT_TRACE = 0x7FF00000
ACT_LOG = 0x7FFC0000
ACT_ALLOW = 0x7FFF0000

ACTIONS = {
    "SCMP_ACT_ALLOW": ACT_ALLOW,
    "SCMP_ACT_ERRNO": ACT_ERRNO,
    "SCMP_ACT_KILL": ACT_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": ACT_KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": ACT_KILL_THREAD,
    "SCMP_ACT_LOG": ACT_LOG,
    "SCMP_ACT_NOTIFY": ACT_NOTIFY,
    "SCMP_ACT_TRACE": ACT_TRACE,
    "SCMP_ACT_TRAP": ACT_TRAP,
}

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# The OCI's names, and those by which libseccomp resolves an architecture.
ARCHITECTURES = {
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_LOONGARCH64": "loongarch64",
    "SCMP_ARCH_M68K": "m68k",
    "SCMP_ARCH_MIPS": "mips",
    "SCMP_ARCH_MIPS64": "mips64",
    "SCMP_ARCH_MIPS64N32": "mips64n32",
    "SCMP_ARCH_MIPSEL": "mipsel",
    "SCMP_ARCH_MIPSEL64": "mipsel64",
    "SCMP_ARCH_MIPSEL64N32": "mipsel64n32",
    "SCMP_ARCH_PARISC": "parisc",
    "SCMP_ARCH_PARISC64": "parisc64",
    "SCMP_ARCH_PPC": "ppc",
    "SCMP_ARCH_PPC64": "ppc64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_SH": "sh",
    "SCMP_ARCH_SHEB": "sheb",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X86_64": "x86_64",
}

FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2
FLAG_NEW_LISTENER = 1 << 3
FLAG_WAIT_KILLABLE_RECV = 1 << 5

FLAGS = {
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    # The filter is loaded by a process with one thread just before exec, so there is nothing to synchronise.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

_ROOT = "linux.seccomp"
_ARGUMENTS = 6
_EPERM = 1
_MAX_U64 = (1 << 64) - 1
# The kernel's highest is 4095, libseccomp refuses that one.
_MAX_ERRNO = 4094
_MAX_TRACE = 0xFFFF


class Rule:
    """What one named syscall gets. Several conditions must all hold, unless two are on the same argument (``any``)."""

    __slots__ = ("action", "conditions", "match_any", "name", "pointer")

    def __init__(self, name: str, pointer: str, action: int, conditions: tuple[Condition, ...]) -> None:
        self.name = name
        self.pointer = pointer
        self.action = action
        self.conditions = conditions
        # libseccomp takes one condition per argument, so runc makes such a list alternatives; profiles rely on it.
        self.match_any = len({condition[0] for condition in conditions}) < len(conditions)


class Profile:
    """A decoded profile: actions and conditions as libseccomp's numbers, flags as the kernel's."""

    __slots__ = ("architectures", "default_action", "rules")

    def __init__(self, default_action: int, architectures: tuple[str, ...], rules: tuple[Rule, ...]) -> None:
        self.default_action = default_action
        self.architectures = architectures
        self.rules = rules


def _refuse(what: str, pointer: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(f"read seccomp profile: {what}", pointer=pointer, hint=hint, phase="config")


def _list(value: object, pointer: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refuse(f"{value!r} is not a list", pointer)
    return value


def _number(value: object, pointer: str, limit: int) -> int:
    # JSON's true is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise _refuse(f"{value!r} is not a number from 0 to {limit}", pointer)
    return value


def _choice(value: object, table: Mapping[str, object], pointer: str, kind: str) -> str:
    if not isinstance(value, str) or value not in table:
        raise _refuse(f"{value!r} is not a known {kind}", pointer, f"known are: {', '.join(sorted(table))}")
    return value


def _action(name: object, errno_ret: object, pointer: str, errno_pointer: str) -> int:
    """The action's number, with the errno in its low half where the action carries one."""
    known = _choice(name, ACTIONS, pointer, "action")
    action = ACTIONS[known]
    if action not in (ACT_ERRNO, ACT_TRACE):
        if errno_ret is not None:
            raise _refuse(f"action {known} takes no errno", errno_pointer, "drop it, or use SCMP_ACT_ERRNO")
        return action
    if errno_ret is None:
        return action | _EPERM
    return action | _number(errno_ret, errno_pointer, _MAX_ERRNO if action == ACT_ERRNO else _MAX_TRACE)


def parse_flags(seccomp: Mapping[str, object]) -> int:
    """The flags asked for, as seccomp(2) takes them. With no list at all: SPEC_ALLOW, as runc and crun have it.

    Raises: InvalidArgument.
    """
    if seccomp.get("flags") is None:
        return FLAG_SPEC_ALLOW
    flags = 0
    for index, name in enumerate(_list(seccomp["flags"], f"{_ROOT}.flags")):
        flags |= FLAGS[_choice(name, FLAGS, f"{_ROOT}.flags[{index}]", "flag")]
    return flags


def _parse_condition(value: object, pointer: str) -> Condition:
    if not isinstance(value, dict):
        raise _refuse(f"{value!r} is not an object", pointer)
    index = _number(value.get("index"), f"{pointer}.index", _ARGUMENTS - 1)
    operator = OPERATORS[_choice(value.get("op"), OPERATORS, f"{pointer}.op", "operator")]
    first = _number(value.get("value", 0), f"{pointer}.value", _MAX_U64)
    second = value.get("valueTwo")
    return (index, operator, first, 0 if second is None else _number(second, f"{pointer}.valueTwo", _MAX_U64))


def _parse_entry(value: object, pointer: str) -> list[Rule]:
    """One entry of ``syscalls``: a rule for each of its names."""
    if not isinstance(value, dict):
        raise _refuse(f"{value!r} is not an object", pointer)
    names = _list(value.get("names"), f"{pointer}.names")
    if not names:
        raise _refuse("no syscall is named", f"{pointer}.names")
    action = _action(value.get("action"), value.get("errnoRet"), f"{pointer}.action", f"{pointer}.errnoRet")
    conditions = tuple(
        _parse_condition(condition, f"{pointer}.args[{index}]")
        for index, condition in enumerate(_list(value.get("args"), f"{pointer}.args"))
    )
    rules = []
    for index, name in enumerate(names):
        at = f"{pointer}.names[{index}]"
        if not isinstance(name, str) or not name or not name.isascii() or "\0" in name:
            raise _refuse(f"{name!r} is not a syscall's name", at)
        if name == "write" and action == ACT_NOTIFY:
            # Whoever loads the filter must still write to say so, before anybody can listen.
            raise _refuse("SCMP_ACT_NOTIFY cannot be used for the write syscall", at)
        rules.append(Rule(name, at, action, conditions))
    return rules


def parse_profile(seccomp: Mapping[str, object]) -> Profile:
    """Decode and check ``linux.seccomp`` of a config.json, all but what only libseccomp can know.

    Raises: InvalidArgument with the pointer of the first thing wrong.
    """
    pointer = f"{_ROOT}.defaultAction"
    default = _action(seccomp.get("defaultAction"), seccomp.get("defaultErrnoRet"), pointer, f"{_ROOT}.defaultErrnoRet")
    if default == ACT_NOTIFY:
        raise _refuse("SCMP_ACT_NOTIFY cannot be used as default action", pointer)
    architectures = tuple(
        _choice(name, ARCHITECTURES, f"{_ROOT}.architectures[{index}]", "architecture")
        for index, name in enumerate(_list(seccomp.get("architectures"), f"{_ROOT}.architectures"))
    )
    rules: list[Rule] = []
    for index, entry in enumerate(_list(seccomp.get("syscalls"), f"{_ROOT}.syscalls")):
        rules += _parse_entry(entry, f"{_ROOT}.syscalls[{index}]")
    return Profile(default, architectures, tuple(rules))
