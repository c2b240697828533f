"""What may stand in ``process``, and in exec's process.json.

Source: runtime-spec config.md "Process", "Linux Process", "User"; sched(7), ioprio_set(2), setrlimit(2).
"""

from __future__ import annotations

from corral.oci.names import (
    CAPABILITIES,
    IO_PRIORITY_CLASSES,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
    parse_id_list,
)
from corral.oci.shape import (
    BOOLEAN,
    ID,
    INT32,
    LINE,
    STRING,
    UINT64,
    Problem,
    conform_object,
    integer,
    list_of,
    object_of,
    quote,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Shape
    from corral.oci.spec import Capabilities, ExecCPUAffinity, Process, Rlimit, Scheduler, User

# NGROUPS_MAX, include/uapi/linux/limits.h
_MAX_GROUPS = 65536
# The kernel keeps a terminal's size in 16 bits each (struct winsize).
_CONSOLE_CELLS = integer(0, 0xFFFF)
_STRINGS = list_of(STRING)

PROCESS_SHAPE: Shape = {
    "terminal": BOOLEAN,
    "consoleSize": object_of({"height": _CONSOLE_CELLS, "width": _CONSOLE_CELLS}),
    "user": object_of({"uid": ID, "gid": ID, "umask": integer(0, 0xFFFFFFFF), "additionalGids": list_of(ID)}),
    "args": _STRINGS,
    "env": _STRINGS,
    "cwd": STRING,
    "capabilities": object_of(
        {
            "bounding": _STRINGS,
            "effective": _STRINGS,
            "inheritable": _STRINGS,
            "permitted": _STRINGS,
            "ambient": _STRINGS,
        }
    ),
    "rlimits": list_of(
        object_of({"type": word(RLIMITS), "soft": UINT64, "hard": UINT64}, required=("type", "soft", "hard"))
    ),
    "noNewPrivileges": BOOLEAN,
    "apparmorProfile": LINE,
    "oomScoreAdj": integer(-1000, 1000),
    "scheduler": object_of(
        {
            "policy": word(SCHEDULER_POLICIES),
            "nice": integer(-20, 19),
            "priority": INT32,
            "flags": list_of(word(SCHEDULER_FLAGS)),
            "runtime": UINT64,
            "deadline": UINT64,
            "period": UINT64,
        },
        required=("policy",),
    ),
    "selinuxLabel": LINE,
    "ioPriority": object_of(
        {"class": word(IO_PRIORITY_CLASSES), "priority": integer(0, 7)}, required=("class", "priority")
    ),
    "execCPUAffinity": object_of({"initial": LINE, "final": LINE}),
}
PROCESS_REQUIRED = ("args", "cwd")


def validate_process(process: object, pointer: str = "process") -> list[Problem]:
    """All problems of a process, errors and warnings, in the order of the document. Never raises."""
    out: list[Problem] = []
    clean: Process = conform_object(process, PROCESS_SHAPE, PROCESS_REQUIRED, pointer, out)  # type: ignore[assignment]
    check_process(clean, pointer, out)
    return out


def check_process(process: Process, pointer: str, out: list[Problem]) -> None:
    """Add the problems of meaning of a ``process`` whose types conform."""
    prefix = pointer + "." if pointer else ""
    if "args" in process:
        args = process["args"]
        if not args:
            out.append(Problem(f"{prefix}args", "empty", "name the program to run"))
        elif not args[0]:
            out.append(Problem(f"{prefix}args[0]", "empty program name"))
    if "cwd" in process and process["cwd"][:1] != "/":
        out.append(Problem(f"{prefix}cwd", f"{quote(process['cwd'])} is not an absolute path"))
    _check_environment(process.get("env", []), f"{prefix}env", out)
    if "user" in process:
        _check_user(process["user"], f"{prefix}user", out)
    if "capabilities" in process:
        _check_capabilities(process["capabilities"], f"{prefix}capabilities", out)
    _check_rlimits(process.get("rlimits", []), f"{prefix}rlimits", out)
    if "scheduler" in process:
        _check_scheduler(process["scheduler"], f"{prefix}scheduler", out)
    if "execCPUAffinity" in process:
        _check_affinity(process["execCPUAffinity"], f"{prefix}execCPUAffinity", out)


def _check_environment(env: list[str], pointer: str, out: list[Problem]) -> None:
    # runc refuses both; the program would see an entry that no getenv() finds.
    for index, entry in enumerate(env):
        if entry.find("=") < 1:
            cause = "has no name before '='" if entry[:1] == "=" else "is not of the form NAME=VALUE"
            out.append(Problem(f"{pointer}[{index}]", f"{quote(entry)} {cause}"))


def _check_user(user: User, pointer: str, out: list[Problem]) -> None:
    if user.get("umask", 0) > 0o777:
        message = f"{user['umask']:#o} has bits beyond 0777, which the kernel drops"
        out.append(Problem(f"{pointer}.umask", message, is_warning=True))
    if len(user.get("additionalGids", [])) > _MAX_GROUPS:
        out.append(Problem(f"{pointer}.additionalGids", f"more than {_MAX_GROUPS} groups"))


def _check_capabilities(capabilities: Capabilities, pointer: str, out: list[Problem]) -> None:
    sets: dict[str, list[str]] = capabilities  # type: ignore[assignment]
    for name in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        for index, capability in enumerate(sets.get(name, ())):
            if capability not in CAPABILITIES:
                # A caller newer than this runtime may know more of them; so runc ignores what it does not know.
                message = f"unknown capability {quote(capability)} is ignored"
                out.append(Problem(f"{pointer}.{name}[{index}]", message, is_warning=True))
    permitted = capabilities.get("permitted", [])
    inheritable = capabilities.get("inheritable", [])
    ambient = [name for name in capabilities.get("ambient", []) if name in CAPABILITIES]
    idle = [name for name in ambient if name not in permitted or name not in inheritable]
    if idle:
        # Buildah asks for all of its set: one line, not one for each.
        message = f"not raised by the kernel, as not both permitted and inheritable: {', '.join(idle)}"
        out.append(Problem(f"{pointer}.ambient", message, is_warning=True))
    for index, capability in enumerate(capabilities.get("effective", [])):
        if capability in CAPABILITIES and capability not in permitted:
            out.append(Problem(f"{pointer}.effective[{index}]", f"{capability} is not in the permitted set"))


def _check_rlimits(rlimits: list[Rlimit], pointer: str, out: list[Problem]) -> None:
    seen: set[str] = set()
    for index, limit in enumerate(rlimits):
        if "type" in limit:
            if limit["type"] in seen:
                out.append(Problem(f"{pointer}[{index}].type", f"{limit['type']} is given twice"))
            seen.add(limit["type"])
        if "soft" in limit and "hard" in limit and limit["soft"] > limit["hard"]:
            message = f"soft limit {limit['soft']} is above the hard limit {limit['hard']}"
            out.append(Problem(f"{pointer}[{index}].soft", message))


def _check_scheduler(scheduler: Scheduler, pointer: str, out: list[Problem]) -> None:
    if "policy" not in scheduler:
        return
    policy = scheduler["policy"]
    priority = scheduler.get("priority", 0)
    if policy == "SCHED_ISO":
        out.append(Problem(f"{pointer}.policy", "no Linux kernel implements SCHED_ISO"))
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            out.append(Problem(f"{pointer}.priority", f"{policy} needs a priority between 1 and 99, not {priority}"))
    elif priority:
        out.append(Problem(f"{pointer}.priority", f"{policy} takes no priority, only SCHED_FIFO and SCHED_RR do"))
    runtime = scheduler.get("runtime", 0)
    deadline = scheduler.get("deadline", 0)
    period = scheduler.get("period", 0)
    if policy != "SCHED_DEADLINE":
        for name, value in (("runtime", runtime), ("deadline", deadline), ("period", period)):
            if value:
                out.append(Problem(f"{pointer}.{name}", f"{policy} takes no {name}, only SCHED_DEADLINE does"))
    elif not 0 < runtime <= deadline <= (period or deadline):
        # kernel/sched/deadline.c __checkparam_dl; a period of 0 stands for the deadline
        message = f"want 0 < runtime <= deadline <= period, got {runtime}, {deadline}, {period}"
        out.append(Problem(pointer, message))


def _check_affinity(affinity: ExecCPUAffinity, pointer: str, out: list[Problem]) -> None:
    for name, text in (("initial", affinity.get("initial", "")), ("final", affinity.get("final", ""))):
        if text:
            try:
                parse_id_list(text)
            except ValueError as exc:
                out.append(Problem(f"{pointer}.{name}", f"{quote(text)} is not a list of CPUs: {exc}"))
