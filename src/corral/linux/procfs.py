"""What /proc tells of a process: state, start time, credentials, namespaces, and whether a pid is still the same.

Every reader takes ``proc``, the mount point of procfs. Nothing here waits or signals.

Source: proc(5), proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Names under /proc/PID/ns that describe the process itself; the *_for_children ones are for its future children.
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

# States of a process that is over: zombie, and the two spellings of "being removed".
DEAD_STATES = "ZXx"


class ProcessStat:
    """The fields of /proc/PID/stat that Corral uses; ``fields`` has all from ``state`` (field 3 of the man page) on.

    ``start_time_ticks``: clock ticks after boot. ``exit_code``: a wait status, and 0 unless the reader may ptrace
    the process, so it means something only for a zombie that one may ptrace.
    """

    __slots__ = ("comm", "exit_code", "fields", "pgrp", "pid", "ppid", "session", "start_time_ticks", "state")

    def __init__(self, pid: int, comm: str, fields: tuple[str, ...]) -> None:
        self.pid = pid
        self.comm = comm
        self.fields = fields
        self.state = fields[0]
        self.ppid = int(fields[1])
        self.pgrp = int(fields[2])
        self.session = int(fields[3])
        self.start_time_ticks = int(fields[19])
        # Field 52, in v3.5 and later.
        self.exit_code = int(fields[49]) if len(fields) > 49 else 0

    @property
    def is_dead(self) -> bool:
        """Whether it has exited, reaped or not."""
        return self.state in DEAD_STATES


class Capabilities:
    """The five capability sets of a thread, each a bit mask (bit n = capability number n)."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, status: Mapping[str, str]) -> None:
        self.inheritable = int(status.get("CapInh", "0"), 16)
        self.permitted = int(status.get("CapPrm", "0"), 16)
        self.effective = int(status.get("CapEff", "0"), 16)
        self.bounding = int(status.get("CapBnd", "0"), 16)
        self.ambient = int(status.get("CapAmb", "0"), 16)


def _read(path: str) -> str:
    """The whole text. A process that dies under the reader gives ESRCH; callers see one kind, ProcessLookupError."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except FileNotFoundError as exc:
        raise ProcessLookupError(exc.errno, exc.strerror, path) from exc
    try:
        chunks = []
        while chunk := posix.read(fd, 65536):
            chunks.append(chunk)
    except OSError as exc:
        raise type(exc)(exc.errno, exc.strerror, path) from exc
    finally:
        posix.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def parse_stat(text: str) -> ProcessStat:
    """Values of a /proc/PID/stat line. The name may hold blanks, newlines and parentheses: it ends at the *last* one.

    Raises: ValueError for anything else.
    """
    opening = text.find(" (")
    closing = text.rfind(") ")
    if opening < 1 or closing < opening:
        raise ValueError(f"not a process stat line: {text[:40]!r}")
    fields = tuple(text[closing + 2 :].split())
    if len(fields) < 20:
        raise ValueError(f"process stat line has {len(fields) + 2} fields, at least 22 expected")
    return ProcessStat(int(text[:opening]), text[opening + 2 : closing], fields)


def read_stat(pid: int | str, *, proc: str = "/proc") -> ProcessStat:
    """State of process ``pid``. Raises: ProcessLookupError when there is none (any more)."""
    return parse_stat(_read(f"{proc}/{pid}/stat"))


def read_stat_or_none(pid: int | str, *, proc: str = "/proc") -> ProcessStat | None:
    """As ``read_stat``, with None for a process that does not exist."""
    try:
        return read_stat(pid, proc=proc)
    except ProcessLookupError:
        return None


def parse_status(text: str) -> dict[str, str]:
    """The ``Key: value`` lines of /proc/PID/status, values stripped. The name cannot forge a line: it is escaped."""
    pairs = {}
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            pairs[key] = value.strip()
    return pairs


def read_status(pid: int | str = "self", *, proc: str = "/proc") -> dict[str, str]:
    """Fields of /proc/PID/status. Raises: ProcessLookupError."""
    return parse_status(_read(f"{proc}/{pid}/status"))


def read_capabilities(pid: int | str = "self", *, proc: str = "/proc") -> Capabilities:
    """Capability sets of process ``pid`` (its first thread), in the terms of its own user namespace."""
    return Capabilities(read_status(pid, proc=proc))


def read_cgroups(pid: int | str = "self", *, proc: str = "/proc") -> dict[str, str]:
    """The control group of a process in each hierarchy, by its controllers as the kernel lists them; "" is v2.

    Raises: ProcessLookupError, also where the kernel has no control groups.
    """
    found = {}
    for line in _read(f"{proc}/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        found[names] = path
    return found


def read_wchan(pid: int | str, *, proc: str = "/proc") -> str:
    """The kernel function that ``pid`` sleeps in; empty when it runs, or when the reader may not know."""
    text = _read(f"{proc}/{pid}/wchan").strip()
    return "" if text == "0" else text


_boot_ids: dict[str, str] = {}


def read_boot_id(*, proc: str = "/proc") -> str:
    """The id of this boot of the kernel, a UUID: start times of two boots do not compare. Read once a process."""
    found = _boot_ids.get(proc)
    if found is None:
        found = _boot_ids[proc] = _read(f"{proc}/sys/kernel/random/boot_id").strip()
    return found


def is_same_process(pid: int, start_time_ticks: int, *, proc: str = "/proc") -> bool:
    """Whether ``pid`` still names the process that started then. A zombie still counts: its pid is not free yet."""
    stat = read_stat_or_none(pid, proc=proc)
    return stat is not None and stat.start_time_ticks == start_time_ticks


def pidfd_inode(pidfd: int) -> int:
    """The inode of a pidfd, unique for a process within one boot; 0 where the kernel has none (all share one inode).

    Source: Linux kernel commit cb12fd8e0dab ("pidfd: add pidfs") (in v6.9).
    """
    ours = posix.fstat(pidfd)
    # Before pidfs, a pidfd sits on the one inode of all anonymous files, as an eventfd does to this day.
    other = posix.eventfd(0, posix.EFD_CLOEXEC)
    try:
        return 0 if posix.fstat(other).st_dev == ours.st_dev else ours.st_ino
    finally:
        posix.close(other)


def pid_inode(pid: int) -> int:
    """``pidfd_inode`` of a process by number. Raises: ProcessLookupError, or OSError EINVAL for a mere thread."""
    pidfd = posix.pidfd_open(pid)
    try:
        return pidfd_inode(pidfd)
    finally:
        posix.close(pidfd)


def read_namespace_ids(pid: int | str = "self", *, proc: str = "/proc") -> dict[str, tuple[int, int]]:
    """(device, inode) of each namespace that ``pid`` is in, by the names of /proc/PID/ns.

    Kinds that the kernel lacks are absent.

    Raises: ProcessLookupError, PermissionError (another user's process).
    """
    directory = f"{proc}/{pid}/ns"
    ids = {}
    for name in NAMESPACES:
        try:
            info = posix.stat(f"{directory}/{name}")
        except FileNotFoundError:
            continue
        ids[name] = (info.st_dev, info.st_ino)
    if not ids:
        raise ProcessLookupError(3, "No such process", directory)
    return ids
