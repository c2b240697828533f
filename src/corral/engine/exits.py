"""How runs end: reading the exit record, waiting for an end, and what a wait status means.

A record is a file that the monitor, or the keeper in its place, writes before anybody is told (docs/design/monitor.md).
Nothing here invents a status: where nobody saw the end it is unknown.
"""

from __future__ import annotations

import posix
import select
import time

from corral.engine import files, ledger
from corral.engine.signals import open_init, signal_name
from corral.errors import CorralError
from corral.linux.procfs import read_boot_id, read_capabilities, read_stat_or_none
from corral.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["Waiter", "exit_code_of", "read_record_or_none", "runtime_record_or_none", "to_exit"]

# The monitor drains output for up to one second after the end, then writes and syncs.
RECORD_BOUND_S = 10.0
_CAP_SYS_PTRACE = 19


def exit_code_of(status: int) -> int:
    """What a shell shows for a wait status: the exit code, or 128 + signal."""
    return 128 + (status & 0x7F) if status & 0x7F else (status >> 8) & 0xFF


def to_exit(record: dict[str, Any]) -> dict[str, Any]:
    """An exit record as the engine shows it: ``code`` (None: nobody knows), ``signal``, ``source``, ``finished_ns``."""
    status = record.get("status")
    known = isinstance(status, int) and record.get("source") in ("observed", "recovered")
    shown: dict[str, Any] = {
        "run": record.get("run", 0),
        "pid": record.get("pid", 0),
        "code": exit_code_of(status) if known and isinstance(status, int) else None,
        "source": record.get("source", "unknown") if known else "unknown",
        "finished_ns": record.get("finished_ns", 0),
    }
    if known and isinstance(status, int) and status & 0x7F:
        shown["signal"] = signal_name(status & 0x7F)
    return shown


def read_record_or_none(directory: str, run: int) -> dict[str, Any] | None:
    """The exit record in ``directory`` if there is one of this run. Raises: OSError."""
    record = files.read_object_or_none(f"{directory}/exit")
    return record if record is not None and record.get("run", run) == run else None


def runtime_record_or_none(places: Places, container_id: str) -> Record | None:
    """The runtime's record; None if there is none, or it is cut off: then no live init can be found by it."""
    try:
        return Record(places.runtime_root, container_id)
    except CorralError:
        return None


class Waiter:
    """Waits for the end of one run, by the kernel first and the record second.

    ``wait(timeout_s)`` returns the record, or None when the time is over. Several may wait for one container.
    """

    __slots__ = ("_id", "_places", "run")

    def __init__(self, places: Places, container_id: str, run: int) -> None:
        self._places = places
        self._id = container_id
        self.run = run

    def record(self) -> dict[str, Any] | None:
        """The record if it is there."""
        return read_record_or_none(self._places.container(self._id), self.run)

    def wait_init(self, timeout_s: float | None) -> bool:
        """Wait until init is dead (a zombie counts); whether it is."""
        pidfd = self._open_init()
        if pidfd < 0:
            return True
        try:
            return bool(_poll([pidfd], timeout_s))
        finally:
            posix.close(pidfd)

    def _open_init(self) -> int:
        """A pidfd of init, owned by the caller; -1 when it is dead."""
        record = runtime_record_or_none(self._places, self._id)
        try:
            return open_init(record) if record is not None else -1
        except ProcessLookupError:
            return -1

    def wait(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Wait for the end and its record. None: not within the time, or nobody is left who could write one."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        found = self.record()
        if found is not None:
            return found
        watched = self._watch(until)
        if watched is not None:
            return watched
        if not self.wait_init(_left(until)):
            return None
        bound = time.monotonic() + RECORD_BOUND_S
        return self._await_file(bound if until is None else min(bound, until))

    def _watch(self, until: float | None) -> dict[str, Any] | None:
        """Ask the monitor; one that is stopped does not answer, so init is watched as well."""
        run_directory = self._places.container_run(self._id)
        pidfd = self._open_init()
        if pidfd < 0 and not self._has_writer():
            return None
        try:
            found = watch_monitor(run_directory, until, pidfd=pidfd)
        finally:
            if pidfd >= 0:
                posix.close(pidfd)
        return found

    def _await_file(self, until: float) -> dict[str, Any] | None:
        pause = 0.001
        while True:
            found = self.record()
            if found is not None:
                return found
            left = until - time.monotonic()
            if left <= 0 or not self._has_writer():
                return self.record()
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.05)

    def _has_writer(self) -> bool:
        """Whether a monitor or a keeper is there that may still write the record; one that is stopped will not."""
        from corral.engine.keeper import Keeper, has_keeper, monitor_pid_or_none

        pid = monitor_pid_or_none(self._places.container_run(self._id))
        if pid:
            return not is_stopped(pid)
        if not has_keeper(self._places):
            return False
        try:
            with Keeper.open(self._places) as keeper:
                return any(row["id"] == self._id and not row["exec"] for row in keeper.list())
        except CorralError:
            return True


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (by a signal, or a tracer): it does nothing until somebody lets it go on."""
    stat = read_stat_or_none(pid)
    return stat is not None and stat.state in "Tt"


def read_zombie_or_none(places: Places, container_id: str) -> dict[str, Any] | None:
    """An exit record of an init that is dead and not reaped, because its monitor is stopped; None if it is not so.

    Source: proc_pid_stat(5) field 52, which is 0 for readers who may not ptrace: they are told nothing.
    """
    text = files.read_bytes_or_none(f"{places.record(container_id)}/live") or b""
    words = text.decode("ascii", "replace").split()
    if len(words) < 3 or words[2] != read_boot_id():
        return None
    stat = read_stat_or_none(int(words[0]))
    if stat is None or stat.state != "Z" or stat.start_time_ticks != int(words[1]) or posix.geteuid() != 0:
        return None
    if not read_capabilities().effective >> _CAP_SYS_PTRACE & 1:
        return None
    found = {"pid": stat.pid, "status": stat.exit_code, "source": "recovered"}
    return {**found, "finished_ns": time.time_ns(), "boot_ns": ledger.boot_ns()}


def watch_monitor(
    run_directory: str, until: float | None, *, attends: bool = False, pidfd: int = -1
) -> dict[str, Any] | None:
    """Ask the monitor, who answers when the record is on disk; None if it does not get to that by ``until``.

    ``attends``: the caller takes care of the end, and nobody else is to be told of it. ``pidfd``: of the process; once
    that is dead, a monitor that is not stopped has ``RECORD_BOUND_S`` to answer.
    """
    from corral.engine.keeper import Monitor

    try:
        monitor = Monitor.connect(run_directory)
    except OSError:
        return None
    with monitor:
        try:
            if attends:
                monitor.send_attend()
            else:
                monitor.send_watch()
            ready = _poll([monitor.fileno(), *([pidfd] if pidfd >= 0 else [])], _left(until))
            if ready == [pidfd]:
                bound = 0.0 if is_stopped(monitor.pid) else RECORD_BOUND_S
                ready = _poll([monitor.fileno()], bound)
            found: dict[str, Any] | None = monitor.receive_exit() if ready else None
            if attends and found is not None:
                monitor.done()
            return found
        except OSError:
            return None


def wait_exec(directory: str, timeout_s: float | None) -> dict[str, Any] | None:
    """The exit record of the exec that has this directory, whose end is the caller's; None when it is not over in time.

    When its monitor and the keeper are both gone nobody can tell any more, and the record says unknown.
    """
    from corral.engine.keeper import has_monitor

    until = None if timeout_s is None else time.monotonic() + timeout_s
    lost_at = 0.0
    while True:
        found = watch_monitor(directory, until, attends=True) or files.read_object_or_none(f"{directory}/exit")
        if found is not None:
            return found
        left = _left(until)
        if left is not None and left <= 0:
            return None
        if has_monitor(directory):
            lost_at = 0.0
        elif not lost_at:
            lost_at = time.monotonic()
        elif time.monotonic() - lost_at > RECORD_BOUND_S:
            return {"status": None, "source": "unknown", "finished_ns": time.time_ns()}
        time.sleep(0.01 if left is None else min(0.01, left))


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _poll(fds: list[int], timeout_s: float | None) -> list[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]
