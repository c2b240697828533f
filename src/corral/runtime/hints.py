"""What to do about a step that the kernel refused. Only the cause that a user can mend gets a hint.

Callers match on the words of errno texts, so a hint never repeats one.
"""

from __future__ import annotations

import errno
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.spec import Spec
    from corral.runtime.plan import Step

_BY_STEP: dict[tuple[str, int], str] = {
    ("FIND_PROGRAM", errno.ENOENT): "process.args[0] is looked up in PATH of process.env, inside the container",
    ("FIND_PROGRAM", errno.EACCES): "the file needs the execute bit for the user of the process",
    ("EXEC", errno.ENOENT): "if the file is there, its interpreter (#! line, or ELF loader) is missing in the rootfs",
    ("EXEC", errno.ENOEXEC): "the program is for another architecture, or a script without a #! line",
    ("EXEC", errno.EACCES): "the file needs the execute bit, and its mount must not be noexec",
    ("CG_MAKE", errno.EROFS): "the cgroup filesystem is read-only here: mount it writable, or give no limits and no "
    "cgroupsPath, rootless",
    ("CG_MAKE", errno.EACCES): "have the parent cgroup delegated to this user, or give no limits and no cgroupsPath",
    ("CG_MAKE", errno.EPERM): "have the parent cgroup delegated to this user, or give no limits and no cgroupsPath",
    ("CG_MAKE", errno.EBUSY): "another process lives in it: choose another cgroupsPath, or end that process",
    ("CG_WRITE", errno.EINVAL): "the kernel does not take this value; an ancestor may allow less",
    (
        "CG_WRITE",
        errno.ERANGE,
    ): "the number is beyond what this host has, or the kernel counts to: CPUs and memory nodes "
    "are those of /sys/devices/system/cpu/online and node/online",
    ("CG_WRITE", errno.ENOENT): "this kernel lacks the file: the controller, or this feature of it, is not built in",
    ("CG_ATTACH", errno.EBUSY): "a cgroup v2 that hands controllers to its children takes no processes itself",
    ("BIND", errno.ENOENT): "a bind mount needs an existing source",
    ("OPEN_TREE", errno.ENOENT): "a bind mount needs an existing source",
    ("OPEN_TREE", errno.EPERM): "cloning a mount needs CAP_SYS_ADMIN",
    ("IDMAP_TREE", errno.EINVAL): "the filesystem of this mount has no support for id mapping in this kernel",
    ("OVERLAY", errno.EBUSY): "end the processes that were left of the container's last run: kill them, or wait",
    ("OVERLAY", errno.ENODEV): "the kernel's overlay module is missing (modprobe overlay)",
    ("OVERLAY", errno.EOPNOTSUPP): "give the container a copy of the layers with shifted owners, or the host's ids",
    ("OVERLAY", errno.ELOOP): "one layer lies inside another, or inside the writable directory",
    ("OVERLAY", errno.EPERM): "overlays in a user namespace need Linux 5.11",
    ("MOUNT_FS", errno.ENODEV): "the kernel does not know this filesystem type (a module may be missing)",
    ("MOUNT_FS", errno.EPERM): "in a user namespace, sysfs needs a network namespace of its own, and proc a pid "
    "namespace; else bind the host's",
    ("MKNOD", errno.EPERM): "making devices needs CAP_MKNOD in the initial user namespace",
    ("ID_MAPS", errno.EPERM): "an unprivileged user maps its own id, or ranges of /etc/subuid through newuidmap",
    ("PRLIMIT", errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE, which the caller does not have",
    ("SCHEDULER", errno.EPERM): "realtime policies need CAP_SYS_NICE, and on v1 a cpu.rt_runtime_us",
    ("IO_PRIORITY", errno.EPERM): "the realtime class needs CAP_SYS_NICE or CAP_SYS_ADMIN",
    ("UNSHARE", errno.EPERM): "user namespaces may be switched off (sysctl kernel.unprivileged_userns_clone, "
    "user.max_user_namespaces)",
    ("SPAWN", errno.EPERM): "new namespaces need CAP_SYS_ADMIN, or a user namespace among them",
    ("SPAWN", errno.ENOSPC): "a limit of sysctl user.max_*_namespaces is reached",
    ("SPAWN", errno.EAGAIN): "the pids limit of this user or of this cgroup is reached",
    ("SYSCTL", errno.ENOENT): "this kernel has no such sysctl, or not inside a namespace",
    (
        "WORKDIR",
        errno.EROFS,
    ): "the rootfs lacks this directory and may not be written, so it is not made: add it to the "
    "image, or choose another process.cwd",
    ("WORKDIR", errno.ENOTDIR): "something on the way is a file: choose another process.cwd",
    ("WORKDIR", errno.EACCES): "the user of the process must be able to enter process.cwd",
    ("CREDENTIALS", errno.EINVAL): "the uid, the gid and all groups must be mapped in the user namespace",
    ("CREDENTIALS", errno.EPERM): "the caller lacks a capability that the config asks for",
    ("CONSOLE_CONNECT", errno.ENOENT): "the caller must listen on the console socket before create",
    ("NET_MOVE", errno.ENODEV): "linux.netDevices is keyed by the name of an interface on the host",
    ("JOIN_PATHS", errno.ENOENT): "the namespace's file is gone: the process that held it has ended",
    ("JOIN_PATHS", errno.EINVAL): "the file is a namespace of another type than the config says, or none at all",
    ("JOIN_PATHS", errno.EPERM): "joining needs CAP_SYS_ADMIN in the user namespace that owns it",
    (
        "HOOK",
        errno.ENOENT,
    ): "hooks are looked up on the host, startContainer hooks in the container; if the file is there, "
    "its interpreter is not",
    ("HOOK", errno.EACCES): "the hook needs the execute bit, and its mount must not be noexec",
    ("HOOK", errno.ENOEXEC): "the hook is for another architecture, or a script without a #! line",
}


def find_hint(op: str, error: int) -> str:
    """The remedy for a step refused with ``error``, "" where there is none to tell."""
    return _BY_STEP.get((op, error), "")


def sharpen(step: Step, spec: Spec, error: int, detail: str) -> str:
    """A message with a sharper pointer than the step's, "" where that is as sharp as can be.

    One step joins all namespaces, since they may need each other; its detail names the file of the one refused.
    """
    if step.op != "JOIN_PATHS":
        return ""
    for at, entry in enumerate(spec["linux"]["namespaces"]):
        path = entry.get("path")
        if path and (f"'{path}'" in detail or detail.endswith(f" {path}")):
            cause = posix.strerror(error).lower()
            return f"{step.describe()} (config linux.namespaces[{at}].path): {detail}: {cause}"
    return ""


def find_hint_in(detail: bytes) -> str:
    """The remedy for a first process that was killed before it could say why, "" for other details."""
    if b"was killed by signal 9" not in detail:
        return ""
    return "if nobody killed it, the memory limit (linux.resources.memory.limit) is too low to begin with"
