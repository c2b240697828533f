"""The container's process, first or exec'd: terminal, identity, limits, scheduling, security, and its exec.

Shared by ``create`` and ``exec``, which differ in how the process is born, not in what it becomes.
Source: runtime-spec config.md "Process", "Linux Process".
"""

from __future__ import annotations

import _struct as struct

from corral.errors import Unsupported
from corral.linux.caps import mask_of
from corral.linux.idmap import host_id
from corral.oci.names import (
    IO_PRIORITY_CLASSES,
    IO_PRIORITY_SHIFT,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
)
from corral.runtime.job import extents
from corral.runtime.plan import (
    INIT,
    SLOT_CONSOLE_MASTER,
    SLOT_CONSOLE_SOCKET,
    SLOT_SECCOMP,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.linux.seccomp import SeccompProgram
    from corral.oci.spec import Linux, Process, Scheduler
    from corral.runtime.host import Host
    from corral.runtime.job import Options
    from corral.runtime.plan import Plan

# CREDENTIALS
CRED_NO_SETGROUPS = 1
CRED_KEEP_GROUPS = 2
CRED_KEEP_ADMIN = 8
CRED_ONLY_CAPS = 16

# WORKDIR
WORKDIR_MAKE = 1
WORKDIR_MAYBE_LATER = 2
WORKDIR_IF_LATER = 4

_CONSOLE_BIND = 1


class Identity:
    """How a process becomes its user: what ``compile_process`` must know beyond the process object itself."""

    __slots__ = ("has_new_userns", "keep_groups", "may_set_groups", "seccomp")

    def __init__(
        self, *, has_new_userns: bool, may_set_groups: bool, keep_groups: bool, seccomp: SeccompProgram | None
    ) -> None:
        self.has_new_userns = has_new_userns
        self.may_set_groups = may_set_groups
        self.keep_groups = keep_groups
        self.seccomp = seccomp


def compile_console(plan: Plan, process: Process, options: Options, *, bind: bool) -> None:
    """Open the terminal inside, and hand its master out: to the console socket, or to a foreground front."""
    size = process.get("consoleSize", {})
    plan.init(
        "CONSOLE",
        size.get("height", 0),
        size.get("width", 0),
        _CONSOLE_BIND if bind else 0,
        SLOT_CONSOLE_MASTER,
        pointer="process.terminal",
    )
    plan.add(INIT, "TAKE_FD", SLOT_CONSOLE_MASTER, pointer="process.terminal")
    if options.console_socket:
        plan.front("CONSOLE_SEND", SLOT_CONSOLE_MASTER, SLOT_CONSOLE_SOCKET, pointer="process.terminal")


def compile_outer(plan: Plan, process: Process) -> None:
    """What the front sets on the stub from outside, with the caller's privileges."""
    for number, limit in enumerate(process.get("rlimits", [])):
        plan.front(
            "PRLIMIT",
            RLIMITS[limit["type"]],
            limit["type"],
            limit["soft"],
            limit["hard"],
            pointer=f"process.rlimits[{number}]",
        )
    if "oomScoreAdj" in process:
        plan.front("OOM_SCORE", process["oomScoreAdj"], 1, pointer="process.oomScoreAdj")


def compile_stdio(plan: Plan, process: Process, linux: Linux) -> None:
    """Give the pipes of the standard streams to the process' user, where a user namespace hides it from the host's."""
    user = process.get("user", {})
    uid = host_id(extents(linux.get("uidMappings", [])), user.get("uid", 0))
    gid = host_id(extents(linux.get("gidMappings", [])), user.get("gid", 0))
    if uid is not None and gid is not None:
        plan.front("OWN_STDIO", uid, gid, pointer="process.user")


def compile_scheduling(plan: Plan, process: Process) -> None:
    """Scheduler and I/O priority, set by the process on itself while it still has its capabilities."""
    scheduler = process.get("scheduler")
    if scheduler:
        plan.init("SCHEDULER", _sched_attr(scheduler), pointer="process.scheduler")
    priority = process.get("ioPriority")
    if priority:
        value = IO_PRIORITY_CLASSES[priority["class"]] << IO_PRIORITY_SHIFT | priority["priority"]
        plan.init("IO_PRIORITY", value, pointer="process.ioPriority")


def _sched_attr(scheduler: Scheduler) -> bytes:
    """struct sched_attr, its first version of 48 bytes. Source: include/uapi/linux/sched/types.h."""
    flags = 0
    for name in scheduler.get("flags", []):
        flags |= SCHEDULER_FLAGS[name]
    return struct.pack(
        "<IIQiIQQQ",
        48,
        SCHEDULER_POLICIES[scheduler["policy"]],
        flags,
        scheduler.get("nice", 0),
        scheduler.get("priority", 0),
        scheduler.get("runtime", 0),
        scheduler.get("deadline", 0),
        scheduler.get("period", 0),
    )


def compile_identity(plan: Plan, process: Process, host: Host, identity: Identity, warnings: list[str]) -> None:
    """From root of the container to the user of the process; the program is looked up with its rights."""
    user = process.get("user", {})
    env = process.get("env", [])
    if not any(entry.startswith("HOME=") and len(entry) > 5 for entry in env):
        plan.init("FIND_HOME", user.get("uid", 0), pointer="process.user.uid")
    if process.get("noNewPrivileges"):
        plan.init("NO_NEW_PRIVS", 0, pointer="process.noNewPrivileges")
    # First as root, then, if that was refused (a home on a root-squashing export), as the user.
    plan.init("WORKDIR", process["cwd"], WORKDIR_MAKE | WORKDIR_MAYBE_LATER, pointer="process.cwd")
    _credentials(plan, process, host, identity, warnings)
    plan.init("WORKDIR", process["cwd"], WORKDIR_IF_LATER, pointer="process.cwd")
    if "umask" in user:
        plan.init("UMASK", user["umask"], pointer="process.user.umask")
    search = next((entry[5:] for entry in reversed(env) if entry.startswith("PATH=")), "")
    plan.init("FIND_PROGRAM", process["args"][0], search, pointer="process.args[0]")


def _credentials(plan: Plan, process: Process, host: Host, identity: Identity, warnings: list[str]) -> None:
    user = process.get("user", {})
    flags = 0
    groups = user.get("additionalGids", [])
    if identity.keep_groups:
        flags |= CRED_KEEP_GROUPS
    elif not identity.may_set_groups:
        flags |= CRED_NO_SETGROUPS
    masks = _capability_masks(process, host, identity, warnings)
    if _needs_admin_later(process, identity):
        flags |= CRED_KEEP_ADMIN
    plan.init(
        "CREDENTIALS",
        user.get("uid", 0),
        user.get("gid", 0),
        struct.pack(f"<{len(groups)}I", *groups),
        *masks,
        flags,
        pointer="process.user",
    )


def _needs_admin_later(process: Process, identity: Identity) -> bool:
    """seccomp(2) without no_new_privs wants CAP_SYS_ADMIN; it comes last, so that it need not allow us much."""
    return identity.seccomp is not None and not process.get("noNewPrivileges")


_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _capability_masks(
    process: Process, host: Host, identity: Identity, warnings: list[str]
) -> tuple[int, int, int, int, int]:
    """The five sets in the order of CREDENTIALS. A config without capabilities asks for none, as with runc."""
    capabilities = process.get("capabilities", {})
    masks = []
    for name in _SETS:
        names: list[str] = capabilities.get(name, [])  # type: ignore[assignment]
        masks.append(mask_of(names)[0] & (1 << (host.cap_last + 1)) - 1)
    if not identity.has_new_userns:
        lacking = (masks[0] | masks[1] | masks[2]) & ~host.permitted
        if lacking:
            from corral.linux.caps import names_of

            warnings.append(f"process.capabilities: this host does not have {', '.join(names_of(lacking))}: left out")
            masks = [mask & host.permitted for mask in masks]
    return masks[0], masks[1], masks[2], masks[3], masks[4]


def check_labels(process: Process, host: Host, pointer: str = "process") -> list[Unsupported]:
    """Security modules that the process asks for and this host lacks."""
    problems = []
    for field, module in (("apparmorProfile", "apparmor"), ("selinuxLabel", "selinux")):
        label = str(process.get(field, ""))
        if label and module not in host.lsms and label != "unconfined":
            problems.append(
                Unsupported(
                    f"set the {module} label {label!r}: {module} is not enabled on this host",
                    hint=f"enable {module} in the kernel, or drop {field} from the config",
                    pointer=f"{pointer}.{field}",
                    phase="security",
                )
            )
    return problems


def compile_seccomp_notify(plan: Plan, identity: Identity) -> None:
    """A filter with a listener is loaded early: its descriptor must reach the agent before ``create`` answers."""
    seccomp = identity.seccomp
    if seccomp is not None and seccomp.has_notify:
        plan.init("SECCOMP", seccomp.bpf, seccomp.flags, SLOT_SECCOMP, pointer="linux.seccomp")
        plan.add(INIT, "TAKE_FD", SLOT_SECCOMP, pointer="linux.seccomp.listenerPath")


def compile_exec(plan: Plan, process: Process, host: Host, identity: Identity, env: list[str]) -> None:
    """The last steps: labels for the exec, the filter, the final capabilities, and the exec itself."""
    if process.get("apparmorProfile") and "apparmor" in host.lsms:
        plan.init(
            "LSM_LABEL", "apparmor", "exec", f"exec {process['apparmorProfile']}", pointer="process.apparmorProfile"
        )
    if process.get("selinuxLabel") and "selinux" in host.lsms:
        plan.init("LSM_LABEL", "selinux", "exec", process["selinuxLabel"], pointer="process.selinuxLabel")
    seccomp = identity.seccomp
    if seccomp is not None and not seccomp.has_notify:
        plan.init("SECCOMP", seccomp.bpf, seccomp.flags, -1, pointer="linux.seccomp")
    if _needs_admin_later(process, identity):
        # Not earlier, not even after a filter with a listener: it may ask its agent, who must have the listener then.
        masks = _capability_masks(process, host, identity, [])
        plan.init("CREDENTIALS", 0, 0, b"", *masks, CRED_ONLY_CAPS, pointer="process.capabilities")
    plan.init("EXEC", process["args"], env, 0, pointer="process.args")
