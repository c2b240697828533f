"""The words a config.json may use, and the kernel's numbers for them.

Owns tables only: capabilities, signals, resource limits, namespaces, schedulers, I/O priorities, personalities, memory
policies and seccomp. Mount options are in ``mount_options``. Numbers are the kernel's user-space API, the same on
x86-64 and aarch64.

Source: runtime-spec config.md and config-linux.md; include/uapi/linux/{capability,sched,ioprio,mempolicy,seccomp}.h.
"""

from __future__ import annotations

from corral.errors import InvalidArgument

# include/uapi/linux/capability.h, in the order of their numbers.
CAPABILITY_NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
CAPABILITIES: dict[str, int] = {name: number for number, name in enumerate(CAPABILITY_NAMES)}

# asm-generic/signal.h: number n is at index n - 1.
SIGNAL_NAMES = (
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
)
SIGNALS: dict[str, int] = {name: number for number, name in enumerate(SIGNAL_NAMES, 1)}
SIGNALS.update(SIGIOT=6, SIGCLD=17, SIGPOLL=29, SIGUNUSED=31)
# What C libraries call SIGRTMIN: they keep 32 and 33 for their threads.
SIGRTMIN = 34
SIGRTMAX = 64

# asm-generic/resource.h, in the order of their numbers.
RLIMIT_NAMES = (
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
)
RLIMITS: dict[str, int] = {name: number for number, name in enumerate(RLIMIT_NAMES)}
RLIM_INFINITY = 0xFFFFFFFFFFFFFFFF

# type in linux.namespaces -> (flag of clone and setns, name in /proc/PID/ns)
NAMESPACES: dict[str, tuple[int, str]] = {
    "cgroup": (0x02000000, "cgroup"),
    "ipc": (0x08000000, "ipc"),
    "mount": (0x00020000, "mnt"),
    "network": (0x40000000, "net"),
    "pid": (0x20000000, "pid"),
    "time": (0x00000080, "time"),
    "user": (0x10000000, "user"),
    "uts": (0x04000000, "uts"),
}
# key of linux.timeOffsets -> clock id, as /proc/PID/timens_offsets takes either
TIME_OFFSET_CLOCKS: dict[str, int] = {"boottime": 7, "monotonic": 1}

SCHEDULER_POLICIES: dict[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,  # a number the kernel keeps free; no kernel implements it
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS: dict[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_PRIORITY_CLASSES: dict[str, int] = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
# An I/O priority is class << IO_PRIORITY_SHIFT | level.
IO_PRIORITY_SHIFT = 13

PERSONALITY_DOMAINS: dict[str, int] = {"LINUX": 0x0000, "LINUX32": 0x0008}

MEMORY_POLICY_MODES: dict[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_POLICY_FLAGS: dict[str, int] = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

SECCOMP_ACTIONS = (
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
)
SECCOMP_OPERATORS = (
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
)
SECCOMP_ARCHITECTURES = (
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
)
SECCOMP_FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}

HOOK_NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

# sysctls that belong to the IPC namespace; fs.mqueue.* does too. ipc/ipc_sysctl.c
IPC_SYSCTLS = (
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
)


def parse_signal(text: str) -> int:
    """The number of a signal given as ``KILL``, ``SIGKILL``, ``sigkill``, ``9``, ``RTMIN+3`` or ``SIGRTMAX-1``.

    0 is allowed: kill(2) then only tests whether the process is there. Raises: InvalidArgument.
    """
    number = -1
    if text.isascii() and text.isdigit() and len(text) < 4:
        number = int(text)
    else:
        name = text.upper()
        name = name if name.startswith("SIG") else "SIG" + name
        number = SIGNALS.get(name, _parse_realtime(name))
    if not 0 <= number <= SIGRTMAX:
        raise InvalidArgument(f"parse signal {text!r}: unknown signal", hint="give a name such as TERM, or 1 to 64")
    return number


def _parse_realtime(name: str) -> int:
    for base, start in (("SIGRTMIN", SIGRTMIN), ("SIGRTMAX", SIGRTMAX)):
        offset = name.removeprefix(base)
        if not offset:
            return start
        sign = {"+": 1, "-": -1}.get(offset[0])
        if offset != name and sign is not None and offset[1:].isascii() and offset[1:].isdigit() and len(offset) < 4:
            number = start + sign * int(offset[1:])
            return number if SIGRTMIN <= number <= SIGRTMAX else -1
    return -1


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9, ``SIGRTMIN+1`` for 35, and the number itself where there is no name."""
    if 1 <= number <= len(SIGNAL_NAMES):
        return SIGNAL_NAMES[number - 1]
    if SIGRTMIN <= number <= SIGRTMAX:
        return "SIGRTMIN" if number == SIGRTMIN else f"SIGRTMIN+{number - SIGRTMIN}"
    return str(number)


def sysctl_name(key: str) -> str:
    """``key`` in the dotted form: ``net/ipv4/conf/eth0.1/x`` is ``net.ipv4.conf.eth0/1.x``.

    Whichever of ``.`` and ``/`` comes first separates the components, as sysctl(8) has it.
    """
    dot = key.find(".")
    slash = key.find("/")
    if slash < 0 or 0 <= dot < slash:
        return key
    return key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def sysctl_path(key: str) -> str:
    """Where a sysctl stands below /proc/sys: ``net.ipv4.ip_forward`` is ``net/ipv4/ip_forward``."""
    return sysctl_name(key).replace("/", "\0").replace(".", "/").replace("\0", ".")


def parse_id_list(text: str, highest: int = 8191) -> list[int]:
    """The numbers in ``0-2,7``, ascending, each once; for CPUs and memory nodes. Empty text is an empty list.

    ``highest`` bounds the numbers (8191: the largest CPU a kernel can be built for), lest ``0-4000000000`` fill the
    memory. Raises: ValueError with the cause.
    """
    ids: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        first = first.strip()
        last = last.strip() if dash else first
        for number in (first, last):
            if not (number.isascii() and number.isdigit() and len(number) < 9):
                raise ValueError(f"{part[:40]!r} is neither a number nor a range")
        low, high = int(first), int(last)
        if low > high:
            raise ValueError(f"range {part!r} runs backwards")
        if high > highest:
            raise ValueError(f"{high} is above {highest}")
        ids.update(range(low, high + 1))
    return sorted(ids)
