"""Filters for the tests' containers, and an agent for user notifications."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Calls without effect, that neither a runtime nor a shell needs.
NUMBERS = {
    "x86_64": {"getsid": 124, "personality": 135, "getpgid": 121, "mseal": 462},
    "aarch64": {"getsid": 156, "personality": 92, "getpgid": 155, "mseal": 462},
}.get(os.uname().machine, {})

# Enough for a runtime's last steps, a shell, and the probe; getpgid and getsid are not in it.
ALLOWED = (
    "access arch_prctl brk capget capset chdir clock_gettime clock_nanosleep clone clone3 close close_range dup dup2 "
    "dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit exit_group faccessat faccessat2 "
    "fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpid getppid getrandom getrlimit "
    "getsockname getsockopt gettid getuid ioctl keyctl lseek madvise membarrier mmap mount mprotect mremap munmap "
    "nanosleep newfstatat openat openat2 pipe pipe2 poll ppoll prctl pread64 prlimit64 pselect6 read readlink "
    "readlinkat recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield seccomp sendmsg "
    "sendto set_robust_list set_tid_address setgid setgroups setresgid setresuid setrlimit setsid setuid sigaltstack "
    "socket stat statfs statx tgkill umask uname unlinkat wait4 waitid write writev fchdir fchown fchmod lstat open"
).split()


def rule(names: list[str], action: str, *args: dict[str, Any], errno: int | None = None) -> dict[str, Any]:
    """One entry of linux.seccomp.syscalls."""
    entry: dict[str, Any] = {"names": names, "action": action}
    if args:
        entry["args"] = list(args)
    if errno is not None:
        entry["errnoRet"] = errno
    return entry


def argument(index: int, op: str, value: int, two: int | None = None) -> dict[str, Any]:
    """One condition on an argument."""
    entry: dict[str, Any] = {"index": index, "op": op, "value": value}
    return entry if two is None else {**entry, "valueTwo": two}


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    """linux.seccomp for this machine's architecture."""
    return {"defaultAction": default, "syscalls": list(rules), **more}


_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _ANSWER = "=QIIiIQ6Q", "=QqiI"


@dataclass(frozen=True)
class Notification:
    """One call that waits for an answer."""

    id: int
    pid: int
    number: int
    args: tuple[int, ...]


class Agent:
    """Takes the listener's descriptor and answers notifications."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(4)
        self._server.settimeout(15)

    @contextlib.contextmanager
    def receive(self) -> Iterator[tuple[int, Any]]:
        """The notify descriptor, for the length of a block, and the containerProcessState that came along."""
        connection, _ = self._server.accept()
        with connection:
            connection.settimeout(15)
            text, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
        fds = [
            fd
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for (fd,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])
        ]
        state = json.loads(text)
        names = state["fds"]
        try:
            yield fds[names.index("seccompFd")], state
        finally:
            for fd in fds:
                os.close(fd)

    @staticmethod
    def next(fd: int) -> Notification:
        """Wait for a call."""
        ready, _, _ = select.select([fd], [], [], 30)
        if not ready:
            raise AssertionError("no notification within 30 s")
        room = bytearray(struct.calcsize(_NOTIFICATION))
        fcntl.ioctl(fd, _RECEIVE, room)
        fields = struct.unpack(_NOTIFICATION, room)
        return Notification(fields[0], fields[1], fields[3], tuple(fields[6:]))

    @staticmethod
    def answer(fd: int, call: Notification, value: int = 0, errno: int = 0) -> None:
        """Let the call return this value, or fail with this errno."""
        fcntl.ioctl(fd, _SEND, struct.pack(_ANSWER, call.id, value, -errno, 0))

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


@contextlib.contextmanager
def agent(path: Path) -> Iterator[Agent]:
    """An `Agent` for the length of a block."""
    made = Agent(path)
    try:
        yield made
    finally:
        made.close()
