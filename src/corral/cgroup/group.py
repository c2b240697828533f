"""One container's group as open directories, one per hierarchy: read, write, list, freeze, kill.

Every access goes through a directory fd that was opened component by component from the mount point, without
following symlinks and without crossing into another mount, and that still is the inode on record. Knows nothing of
containers. Not safe for concurrent use of one object; several processes may work on the same group.

Source: cgroup-v2.rst "Core Interface Files"; Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os
import time

from corral.cgroup.handles import (
    from_os_error,
    open_beneath,
    pids_below,
    pids_in,
    read_at,
    threads_in,
    walk,
    write_at,
)
from corral.cgroup.writes import judge
from corral.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Timeout,
)
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corral.cgroup.member import Member
    from corral.cgroup.writes import LimitWrite

__all__ = ["Existing", "Group", "inspect_existing", "open_group"]

SIGKILL = 9

# Which hierarchy tells a group's processes: v2 first (complete, and atomic to kill), then those that nobody moves
# processes out of for reasons of their own.
_TRACKING = ("name=systemd", "freezer", "pids", "devices", "memory", "cpu")


def open_group(members: Sequence[Member]) -> Group:
    """Open those of ``members`` that exist and are the recorded inodes. The caller closes the group.

    Raises: NotFound when none does; PermissionDenied or FailedPrecondition when one cannot be opened.
    """
    opened: list[tuple[Member, int]] = []
    try:
        for member in members:
            try:
                fd = open_beneath(member.mount_point, member.path)
            except OSError as exc:
                if exc.errno in (errno.ENOENT, errno.ENODEV):
                    continue
                raise from_os_error("open group", member.directory, exc) from exc
            if member.inode and os.fstat(fd).st_ino != member.inode:
                os.close(fd)
                continue
            opened.append((member, fd))
        if not opened:
            shown = members[0].directory if members else ""
            raise NotFound(
                f"open group {shown!r}: no hierarchy has it" if shown else "open group: the container has none",
                path=shown,
                phase="cgroup",
            )
    except BaseException:
        for _, fd in opened:
            os.close(fd)
        raise
    return Group(opened)


class Existing:
    """What stands at a place before we make anything: which members exist, who is in them, whether it is frozen."""

    __slots__ = ("is_frozen", "members", "pids")

    def __init__(self, members: list[Member], pids: list[int], *, is_frozen: bool) -> None:
        self.members = members
        self.pids = pids
        self.is_frozen = is_frozen

    def raise_unless_free(self) -> None:
        """Raises: FailedPrecondition when a process is in it, or it is frozen: it is somebody else's."""
        if self.pids:
            raise FailedPrecondition(
                f"use group {self.members[0].directory!r}: container's cgroup is not empty: "
                f"{len(self.pids)} process(es) found",
                hint="choose another cgroupsPath, or end what runs there",
                path=self.members[0].directory,
                phase="cgroup",
            )
        if self.is_frozen:
            raise FailedPrecondition(
                f"use group {self.members[0].directory!r}: container's cgroup unexpectedly frozen",
                hint="thaw it or remove it: a process that enters it would stop",
                path=self.members[0].directory,
                phase="cgroup",
            )


def inspect_existing(members: Sequence[Member]) -> Existing:
    """What exists at ``members`` now. Looks in every hierarchy: one populated directory is enough to be taken."""
    try:
        group = open_group(members)
    except NotFound:
        return Existing([], [], is_frozen=False)
    with group:
        return Existing(group.members, group.list_all_pids(), is_frozen=group.state() != "running")


class Group(Closing):
    """An open group. A context manager; closing it closes the directory fds and changes nothing else."""

    __slots__ = ("_opened",)

    def __init__(self, opened: list[tuple[Member, int]]) -> None:
        self._opened = opened

    def close(self) -> None:
        """Close all fds. Idempotent."""
        opened, self._opened = self._opened, []
        for _, fd in opened:
            os.close(fd)

    @property
    def members(self) -> list[Member]:
        """The members that exist."""
        return [member for member, _ in self._opened]

    def inodes(self) -> list[int]:
        """The inode of each of ``members``, for the record."""
        return [os.fstat(fd).st_ino for _, fd in self._opened]

    def fd_for(self, controller: str) -> int | None:
        """The directory that has ``controller``'s files (``""`` is the v2 core), borrowed; None if there is none."""
        for member, fd in self._opened:
            if controller in member.controllers or (controller == "" and member.version == 2):
                return fd
        if controller in ("freezer", "cpuacct"):
            return self.fd_for("")
        return None

    def directory_for(self, controller: str) -> str:
        """The path of the directory that ``fd_for`` gives, for messages; "" if there is none."""
        fd = self.fd_for(controller)
        return "" if fd is None else next(member.directory for member, held in self._opened if held == fd)

    def read(self, controller: str, file: str) -> str:
        """The text of ``file``. Raises: NotFound when controller or file is not there, PermissionDenied."""
        text = self.read_or_none(controller, file)
        if text is None:
            raise NotFound(f"read {self._shown(controller, file)}: no such file or directory", phase="cgroup")
        return text

    def read_or_none(self, controller: str, file: str) -> str | None:
        """The text of ``file``; None if controller, file or group is not there, or the kernel has no value for it."""
        fd = self.fd_for(controller)
        if fd is None:
            return None
        try:
            return read_at(fd, file)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return None
            raise from_os_error("read", self._shown(controller, file, quote=False), exc) from exc

    def write(self, controller: str, file: str, value: str) -> None:
        """Write ``value`` in one system call.

        Raises: NotFound, PermissionDenied, ResourceExhausted or FailedPrecondition with value, path and cause.
        """
        fd = self.fd_for(controller)
        if fd is None:
            raise NotFound(f"write {value!r} to {self._shown(controller, file)}: no such file or directory")
        try:
            write_at(fd, file, value)
        except OSError as exc:
            raise from_os_error(f"write {value!r} to", self._shown(controller, file, quote=False), exc) from exc

    def apply(self, writes: Sequence[LimitWrite]) -> list[tuple[LimitWrite, str]]:
        """Do ``writes`` in order, then judge their read-backs; returns those refused with the reason (none: done).

        The first write that the kernel refuses ends it, with the error's text as the reason: what is bound to come
        after it would only fail too. Optional files that are missing are passed over.
        """
        done: list[LimitWrite] = []
        found: set[str] = set()
        for write in writes:
            try:
                self.write(write.controller, write.file, write.value)
            except NotFound as exc:
                if not write.is_optional:
                    return [(write, exc.message)]
                continue
            except (PermissionDenied, ResourceExhausted, FailedPrecondition) as exc:
                return [(write, exc.message)]
            found.add(write.one_of)
            done.append(write)
        refused = [(w, f"this kernel has no file {w.file!r}") for w in writes if w.one_of and w.one_of not in found]
        for write in done:
            if write.read_file:
                reason = judge(write, self.read_or_none(write.controller, write.read_file) or "")
                if reason is not None:
                    refused.append((write, reason))
        return refused

    def list_pids(self, *, recursive: bool = True) -> list[int]:
        """The processes in the group, ascending, and in groups below it if ``recursive``.

        As this process's pid namespace numbers them; those it cannot see are left out.
        """
        for name in ("", *_TRACKING):
            fd = self.fd_for(name)
            if fd is not None:
                return sorted(set(pids_below(fd) if recursive else pids_in(fd)))
        return self.list_all_pids()

    def list_all_pids(self) -> list[int]:
        """As ``list_pids``, but asked of every hierarchy: a process may be in one and not in another."""
        return sorted({pid for _, fd in self._opened for pid in pids_below(fd)})

    def list_threads(self, *, recursive: bool = True) -> list[int]:
        """As ``list_pids``, but thread ids: on v2 also those of threaded groups. Raises: OSError."""
        for name in ("", *_TRACKING):
            fd = self.fd_for(name)
            if fd is None:
                continue
            file = "cgroup.threads" if self.read_or_none("", "cgroup.threads") is not None and name == "" else "tasks"
            fds = walk(fd) if recursive else [("", fd)]
            return sorted({tid for _, below in fds for tid in threads_in(below, file)})
        return []

    def list_groups(self) -> list[str]:
        """The groups below, in whichever hierarchy they are: paths from here, each after the one that it lies in.

        ``corral.cgroup.member.members_below`` leads to them.
        """
        return sorted(
            {path for _, fd in self._opened for path, _ in walk(fd) if path}, key=lambda path: path.split("/")
        )

    def attach(self, pid: int) -> None:
        """Move process ``pid`` with all its threads into the group, in every hierarchy that the group has.

        Stops at the first refusal, with the hierarchies before it entered: on v2 because the group has controllers
        enabled for its children (EBUSY), or on v1 because a cpuset has no CPUs or memory nodes yet.
        Raises: NotFound (no such process, or group), PermissionDenied, ResourceExhausted, FailedPrecondition.
        """
        for member, fd in self._opened:
            try:
                write_at(fd, "cgroup.procs", str(pid))
            except ProcessLookupError as exc:
                raise NotFound(
                    f"attach process {pid} to {member.directory!r}: no such process", phase="cgroup"
                ) from exc
            except OSError as exc:
                raise from_os_error(f"attach process {pid} to", member.directory, exc) from exc

    def state(self) -> str:
        """``running``, ``freezing`` or ``frozen``; ``running`` too where nothing can freeze it."""
        text = self.read_or_none("freezer", "freezer.state")
        if text is not None:
            return {"FROZEN": "frozen", "FREEZING": "freezing"}.get(text.strip(), "running")
        if (self.read_or_none("", "cgroup.freeze") or "").strip() != "1":
            return "running"
        return "frozen" if self._is_event("frozen") else "freezing"

    def freeze(self, *, deadline_s: float) -> None:
        """Stop all processes of the group and below it; returns when they are stopped. Blocks up to ``deadline_s``.

        Idempotent. The group is left thawed if it cannot be done.
        Raises: FailedPrecondition when this process is in it or nothing can freeze it; Timeout.
        """
        if os.getpid() in self.list_pids():
            raise FailedPrecondition("freeze group: this process is in it", phase="cgroup")
        until = time.monotonic() + deadline_s
        try:
            if self.read_or_none("freezer", "freezer.state") is not None:
                self._freeze_v1(until)
            else:
                self._freeze_v2(until)
        except BaseException:
            self._thaw_quietly()
            raise

    def thaw(self, *, deadline_s: float) -> None:
        """Let all processes run again. Blocks up to ``deadline_s``; idempotent. Raises: Timeout, PermissionDenied."""
        until = time.monotonic() + deadline_s
        if self.read_or_none("freezer", "freezer.state") is not None:
            self.write("freezer", "freezer.state", "THAWED")
        elif self.read_or_none("", "cgroup.freeze") is not None:
            self.write("", "cgroup.freeze", "0")
        for _ in _pauses(until):
            if self.state() == "running":
                return
        raise Timeout(
            f"thaw group {self._name()}: still {self.state()}, a group above it may be frozen", phase="cgroup"
        )

    def kill_all(self, signal: int, *, deadline_s: float) -> None:
        """Send ``signal`` to every process of the group and below, also to those being forked meanwhile.

        SIGKILL also thaws, or a frozen v1 group would keep it pending. Does not wait for processes to go.
        Raises: Timeout when processes appear faster than they can be signalled.
        """
        was_frozen = self.state() == "frozen"
        if signal == SIGKILL and self.read_or_none("", "cgroup.events") is not None:
            try:
                self.write("", "cgroup.kill", "1")
            except NotFound:
                pass  # before Linux 5.14 (commit 661ee6280931)
            else:
                self._thaw_quietly()
                return
        self._signal_rounds(signal, time.monotonic() + deadline_s, keep_frozen=was_frozen and signal != SIGKILL)

    def wait_empty(self, *, deadline_s: float) -> list[int]:
        """Wait until no process is left in the group or below; returns those left when ``deadline_s`` is over."""
        pids: list[int] = []
        for _ in _pauses(time.monotonic() + deadline_s):
            pids = self.list_pids()
            if not pids:
                break
        return pids

    def _signal_rounds(self, signal: int, until: float, *, keep_frozen: bool) -> None:
        reached: set[int] = set()
        for _ in _pauses(until):
            can_freeze = self._try_freeze(until)
            try:
                # Not ourselves, should we be in it: the rest of the work would be left undone.
                fresh = [pid for pid in self.list_pids() if pid not in reached and pid != os.getpid()]
                reached.update(_signal_members(fresh, signal, self))
            finally:
                if not keep_frozen:
                    self._thaw_quietly()
            # Nothing forks while frozen, so one round has reached them all.
            if can_freeze or not fresh:
                return
        raise Timeout(f"signal group {self._name()}: processes appear faster than they are signalled", phase="cgroup")

    def _try_freeze(self, until: float) -> bool:
        try:
            self.freeze(deadline_s=max(0.0, min(1.0, until - time.monotonic())))
        except (Timeout, FailedPrecondition, PermissionDenied, NotFound):
            return False
        return True

    def _freeze_v1(self, until: float) -> None:
        for turn in _pauses(until):
            if turn % 25 == 24:
                # A process that forks just then may keep it FREEZING for ever; a short thaw lets it finish.
                self.write("freezer", "freezer.state", "THAWED")
                time.sleep(0.01)
            self.write("freezer", "freezer.state", "FROZEN")
            if self.state() == "frozen":
                return
        raise Timeout(f"freeze group {self._name()}: still {self.state()}", phase="cgroup")

    def _freeze_v2(self, until: float) -> None:
        if self.read_or_none("", "cgroup.freeze") is None:
            raise FailedPrecondition(
                f"freeze group {self._name()}: this host has neither a freezer controller nor cgroup.freeze",
                phase="cgroup",
            )
        self.write("", "cgroup.freeze", "1")
        for _ in _pauses(until):
            if self._is_event("frozen"):
                return
        raise Timeout(f"freeze group {self._name()}: still freezing", phase="cgroup")

    def _is_event(self, word: str) -> bool:
        return f"{word} 1" in (self.read_or_none("", "cgroup.events") or "").split("\n")

    def _thaw_quietly(self) -> None:
        for controller, file, value in (("freezer", "freezer.state", "THAWED"), ("", "cgroup.freeze", "0")):
            fd = self.fd_for(controller)
            if fd is None:
                continue
            try:
                write_at(fd, file, value)
            except OSError:
                continue

    def _name(self) -> str:
        return repr(self._opened[0][0].path) if self._opened else "''"

    def _shown(self, controller: str, file: str, *, quote: bool = True) -> str:
        directory = self.directory_for(controller) or f"(no {controller or 'cgroup v2'} hierarchy)"
        return repr(f"{directory}/{file}") if quote else f"{directory}/{file}"


def _signal_members(pids: list[int], number: int, group: Group) -> list[int]:
    """Signal those of ``pids`` that still are in the group: a pidfd first, then the list again, then the signal."""
    import signal

    held: list[tuple[int, int]] = []
    try:
        for pid in pids:
            try:
                held.append((pid, os.pidfd_open(pid)))
            except ProcessLookupError:
                continue
        still = set(group.list_pids())
        reached = []
        for pid, pidfd in held:
            if pid not in still:
                continue
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                continue
            reached.append(pid)
        return reached
    finally:
        for _, pidfd in held:
            os.close(pidfd)


def _pauses(until: float) -> Iterator[int]:
    """Turn numbers with growing pauses between them (0.2 ms to 20 ms), at least one, until ``until`` (monotonic)."""
    pause, turn = 0.0002, 0
    while True:
        yield turn
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause, turn = min(pause * 1.5, 0.02), turn + 1
