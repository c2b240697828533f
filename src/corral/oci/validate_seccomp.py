"""What may stand in ``linux.seccomp``.

Names of system calls are not checked: which of them exist is for the seccomp library to say, and unknown ones are
skipped by every runtime, since profiles are written for newer kernels too.

Source: runtime-spec config-linux.md "Seccomp"; seccomp(2), seccomp_rule_add(3).
"""

from __future__ import annotations

from corral.oci.names import SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS, SECCOMP_OPERATORS
from corral.oci.shape import STRING, TEXT, UINT64, Problem, integer, list_of, object_of, quote, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Rule
    from corral.oci.spec import Seccomp, SeccompRule

_ACTION = word(SECCOMP_ACTIONS)
# The kernel hands 16 bits back to the program (SECCOMP_RET_DATA).
_ERRNO = integer(0, 0xFFFF)
_ACTIONS_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_NOTIFY = "SCMP_ACT_NOTIFY"

SECCOMP_RULE: Rule = object_of(
    {
        "defaultAction": _ACTION,
        "defaultErrnoRet": _ERRNO,
        "architectures": list_of(word(SECCOMP_ARCHITECTURES)),
        "flags": list_of(word(SECCOMP_FLAGS)),
        "listenerPath": STRING,
        "listenerMetadata": TEXT,
        "syscalls": list_of(
            object_of(
                {
                    "names": list_of(STRING),
                    "action": _ACTION,
                    "errnoRet": _ERRNO,
                    "args": list_of(
                        object_of(
                            {
                                "index": integer(0, 5),
                                "value": UINT64,
                                "valueTwo": UINT64,
                                "op": word(SECCOMP_OPERATORS),
                            },
                            required=("index", "value", "op"),
                        )
                    ),
                },
                required=("names", "action"),
            )
        ),
    },
    required=("defaultAction",),
)


def check_seccomp(seccomp: Seccomp, pointer: str, out: list[Problem]) -> None:
    """Add the problems of meaning of a ``linux.seccomp`` whose types conform."""
    default = seccomp.get("defaultAction", "")
    if default == _NOTIFY:
        # The agent could never be reached: handing it the listener takes system calls that would wait for it.
        message = f"{_NOTIFY} cannot be the default action"
        out.append(Problem(f"{pointer}.defaultAction", message, "name the system calls to notify of"))
    if "defaultErrnoRet" in seccomp and default and default not in _ACTIONS_WITH_ERRNO:
        out.append(Problem(f"{pointer}.defaultErrnoRet", f"{default} returns no errno"))
    is_notifying = False
    for index, rule in enumerate(seccomp.get("syscalls", [])):
        _check_rule(rule, f"{pointer}.syscalls[{index}]", out)
        is_notifying = is_notifying or rule.get("action", "") == _NOTIFY
    listener = seccomp.get("listenerPath", "")
    if listener and listener[:1] != "/":
        out.append(Problem(f"{pointer}.listenerPath", f"{quote(listener)} is not an absolute path"))
    if is_notifying and not listener:
        out.append(Problem(f"{pointer}.listenerPath", f"missing, but {_NOTIFY} is used", "name the agent's socket"))
    if seccomp.get("listenerMetadata", "") and not listener:
        out.append(Problem(f"{pointer}.listenerMetadata", "set without listenerPath"))


def _check_rule(rule: SeccompRule, pointer: str, out: list[Problem]) -> None:
    action = rule.get("action", "")
    if "errnoRet" in rule and action and action not in _ACTIONS_WITH_ERRNO:
        out.append(Problem(f"{pointer}.errnoRet", f"{action} returns no errno"))
    if "names" not in rule:
        return
    names = rule["names"]
    if not names:
        out.append(Problem(f"{pointer}.names", "empty", "name at least one system call"))
    elif action == _NOTIFY and "write" in names:
        # The runtime itself reports with write(2) after the filter is in place, and would wait for the agent forever.
        message = "write cannot be notified of: the runtime needs it after the filter is loaded"
        out.append(Problem(f"{pointer}.names[{names.index('write')}]", message))
