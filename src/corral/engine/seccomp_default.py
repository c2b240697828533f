"""The system calls that a container may make unless its owner says otherwise, as a profile in the OCI's form.

An allow-list: a call that is on no list here is answered with ENOSYS, as on a kernel that does not have it, so that
programs fall back; one that is known and kept from containers gets EPERM. Pure: the caller knows the capabilities and
the architecture. Names that a kernel or architecture does not have are skipped where the profile is compiled.
Only names that libseccomp 2.5 knows stand here: it would warn of others, and without them they get ENOSYS, as before
the kernel had them.

What is kept from containers is what acts on the whole host, has no namespace, or opens much code of the kernel to
little use: modules, kexec, clocks, swap, quotas, keyrings, bpf, perf, userfaultfd, NUMA moves of others, raw I/O, new
namespaces and mounts. Most of it comes back with the capability that the kernel asks for itself.

Source: syscalls(2), capabilities(7), clone(2) "CLONE_NEW*", personality(2), vsock(7).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.oci.spec import Seccomp, SeccompRule

_FILES = (
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 "
    "fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl "
    "fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 "
    "fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr "
    "inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat "
    "listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat "
    "name_to_handle_at newfstatat oldfstat oldlstat oldolduname oldstat olduname open openat openat2 pread64 preadv "
    "preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename "
    "renameat renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink "
    "symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64 umask unlink "
    "unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev fanotify_mark"
)
_MEMORY = (
    "brk cachestat get_mempolicy madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
    "mlockall mmap mmap2 mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect "
    "process_madvise process_mrelease remap_file_pages"
)
_PROCESSES = (
    "alarm arch_prctl breakpoint cacheflush set_tls get_tls capget capset clock_getres clock_getres_time64 "
    "clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 execve execveat exit exit_group fork "
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid "
    "getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpgid getpgrp getpid getppid "
    "getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid gettimeofday "
    "getuid getuid32 ioprio_get ioprio_set kcmp kill landlock_add_rule landlock_create_ruleset landlock_restrict_self "
    "modify_ldt nanosleep nice pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv "
    "process_vm_writev ptrace restart_syscall rseq riscv_flush_icache rt_sigaction rt_sigpending "
    "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
    "rt_tgsigqueueinfo s390_runtime_instr sched_get_priority_max sched_get_priority_min sched_getaffinity "
    "sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 "
    "sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list "
    "set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 "
    "setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid "
    "setreuid32 setrlimit setsid setuid setuid32 sigaction sigaltstack signal signalfd signalfd4 sigpending "
    "sigprocmask sigreturn sigsuspend swapcontext sysinfo tgkill time timer_create timer_delete timer_getoverrun "
    "timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
    "timerfd_settime timerfd_settime64 times tkill ugetrlimit uname vfork wait4 waitid waitpid"
)
_WAITING = (
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd "
    "eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll "
    "ppoll ppoll_time64 pselect6 pselect6_time64 select"
)
_TALKING = (
    "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open "
    "mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd "
    "pipe pipe2 recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send "
    "sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair"
)
# Adjusting the clock by nothing only reads it; the kernel asks CAP_SYS_TIME for more.
_CLOCKS = "adjtimex clock_adjtime clock_adjtime64"
_ALLOWED = " ".join((_FILES, _MEMORY, _PROCESSES, _WAITING, _TALKING, _CLOCKS))

# Capability -> what it gives back.
_WITH = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
        "mount mount_setattr move_mount open_tree perf_event_open "
        "pivot_root quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "kexec_file_load kexec_load reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_RAWIO": (
        "ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write s390_pci_mmio_read s390_pci_mmio_write"
    ),
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}
# Known, and kept back whoever asks: no capability of a container makes them safe, or none is worth it. io_uring's
# operations pass by every filter of system calls.
_NEVER = (
    "_sysctl add_key afs_syscall create_module get_kernel_syms getpmsg io_uring_enter io_uring_register io_uring_setup "
    "keyctl nfsservctl putpmsg query_module request_key security swapoff swapon sysfs tuxcall uselib userfaultfd ustat "
    "vm86 vm86old vserver"
)

_EPERM, _ENOSYS = 1, 38
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET
_AF_VSOCK = 40
# Linux, its 32-bit and uname-2.6 forms, and asking which it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
}


# By what they are made of: who starts container after container asks for the same few.
_made: dict[tuple[frozenset[str], str], Seccomp] = {}
_MADE_MAX = 8


def default_profile(capabilities: Iterable[str], machine: str) -> Seccomp:
    """The profile for a container whose bounding set is ``capabilities`` on ``machine`` (``uname -m``).

    Not the caller's to change: others get the same.
    """
    held = frozenset(capabilities)
    found = _made.get((held, machine))
    if found is None:
        if len(_made) >= _MADE_MAX:
            _made.clear()
        found = _made[held, machine] = _make(held, machine)
    return found


def _make(held: frozenset[str], machine: str) -> Seccomp:
    allowed = _ALLOWED.split()
    refused = _NEVER.split()
    for name, calls in _WITH.items():
        (allowed if name in held else refused).extend(calls.split())
    known = frozenset(allowed)
    conditional = {"clone", "clone3"}
    refused = sorted(set(refused) - known - conditional)
    rules: list[SeccompRule] = [
        {"names": sorted(known), "action": "SCMP_ACT_ALLOW"},
        {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
        _allow_if("socket", 0, _AF_VSOCK, "SCMP_CMP_NE"),
        *(_allow_if("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
    ]
    if "clone" not in known:
        # s390x has flags and stack the other way round.
        rules.append(_allow_if("clone", 1 if machine == "s390x" else 0, _NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ"))
        # Its flags lie in memory, which no filter can read. C libraries fall back to clone on ENOSYS only.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    profile: Seccomp = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _ENOSYS, "syscalls": rules}
    if machine in _ARCHITECTURES:
        profile["architectures"] = _ARCHITECTURES[machine]
    return profile


def _allow_if(name: str, index: int, value: int, operator: str) -> SeccompRule:
    """Allow the call when its argument compares so; masked: when none of the bits is set."""
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": index, "value": value, "op": operator}]}
