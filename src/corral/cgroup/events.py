"""What happens in a group, as it happens: counters that rose, states that changed, pressure above a threshold.

Each watch is one descriptor that becomes readable (``fileno``), for any event loop, and a read that never waits.
Counters are compared with what was read last, so what one notification did not say, the next one does, and nothing
is lost when several fall together. Nothing here decides anything: state is always the kernel's.

``iterate_events`` makes an async iterator of a watch for whatever loop the caller runs::

    async def wait_readable(fd):
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)

    with EventWatch(group) as watch:
        async for event in iterate_events(watch, wait_readable):
            ...

Source: cgroup-v2.rst "memory.events", "cgroup.events", "pids.events"; Documentation/accounting/psi.rst "Monitoring
for pressure thresholds"; cgroup-v1/memory.rst 9 and 10.
"""

from __future__ import annotations

import errno
import os
import select

from corral.cgroup.handles import from_os_error
from corral.cgroup.stats import Pressure, parse_pressure
from corral.errors import InvalidArgument, NotFound, Unsupported
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import Protocol

    from corral.cgroup.group import Group

    class Watch(Protocol):
        """What ``iterate_events`` takes."""

        is_gone: bool

        def fileno(self) -> int: ...
        def read_events(self) -> list[GroupEvent]: ...


__all__ = ["GONE", "EventWatch", "GroupEvent", "PressureTrigger", "iterate_events"]

# The name of the last event of a watch: the group was removed.
GONE = "gone"

# The files of a group that notify, by controller. On v1 memory has no such file, but an eventfd can be registered.
_FILES = (
    ("", "cgroup.events"),
    ("memory", "memory.events"),
    ("memory", "memory.events.local"),
    ("memory", "memory.swap.events"),
    ("pids", "pids.events"),
)
_V1_FILE = "memory.oom_control"
_WINDOW_MIN_US, _WINDOW_MAX_US = 500_000, 10_000_000
# What the kernel allows without CAP_SYS_RESOURCE (Linux 6.5, commit d82caa273565).
_UNPRIVILEGED_WINDOW_US = 2_000_000


class GroupEvent:
    """``name`` of ``file`` went from ``before`` to ``now``: a counter (``oom_kill``, ``max``, ``high``) or a state
    (``populated``, ``frozen``). ``pressure`` is there for the events of a trigger, named ``some`` or ``full``.
    """

    __slots__ = ("before", "file", "name", "now", "pressure")

    def __init__(self, file: str, name: str, before: int, now: int, *, pressure: Pressure | None = None) -> None:
        self.file = file
        self.name = name
        self.before = before
        self.now = now
        self.pressure = pressure

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupEvent):
            return NotImplemented
        return (self.file, self.name, self.before, self.now) == (other.file, other.name, other.before, other.now)

    def __hash__(self) -> int:
        return hash((self.file, self.name, self.before, self.now))

    def __repr__(self) -> str:
        return f"GroupEvent({self.file} {self.name}: {self.before} -> {self.now})"


class EventWatch(Closing):
    """Watches the event files that ``group`` has; keeps its own descriptors, so ``group`` may be closed.

    A context manager. Counters count from when it was made. ``files`` are (controller, file) of other flat keyed
    files that notify. Raises: Unsupported when the group has none of them; ResourceExhausted.
    """

    __slots__ = ("_epoll", "_files", "_last", "_v1_event", "is_gone")

    def __init__(self, group: Group, files: Sequence[tuple[str, str]] = _FILES) -> None:
        self.is_gone = False
        self._files: dict[str, int] = {}
        self._last: dict[str, dict[str, int]] = {}
        self._v1_event = -1
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        try:
            for controller, file in files:
                self._add(group, controller, file)
            self._add_v1(group)
            if not self._files:
                raise Unsupported("watch group: it has no file that notifies of events", phase="cgroup")
            for file, fd in self._files.items():
                self._last[file] = _pairs(fd)
        except OSError as exc:
            self.close()
            raise from_os_error("watch group", group.members[0].directory if group.members else "", exc) from exc
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all descriptors. Idempotent."""
        files, self._files = self._files, {}
        for fd in files.values():
            os.close(fd)
        if self._v1_event >= 0:
            os.close(self._v1_event)
            self._v1_event = -1
        self._epoll.close()

    def fileno(self) -> int:
        """Readable when ``read_events`` may have something to tell. Borrowed."""
        return self._epoll.fileno()

    def read_events(self) -> list[GroupEvent]:
        """What changed since the last call, perhaps nothing; never waits. ``GONE`` once, last, when the group goes.

        Before a v2 group can go, ``populated`` of cgroup.events goes to 0, which notifies; the removal itself does
        not on every kernel.
        """
        if self.is_gone:
            return []
        # Every file, not just those that called: it is the reading that makes a file quiet again.
        if self._v1_event >= 0:
            _drain(self._v1_event)
        events: list[GroupEvent] = []
        for file, fd in self._files.items():
            try:
                now = _pairs(fd)
            except OSError as exc:
                if exc.errno != errno.ENODEV:
                    raise from_os_error("read", file, exc) from exc
                self.is_gone = True
                continue
            before = self._last[file]
            events += [
                GroupEvent(file, name, before.get(name, 0), value)
                for name, value in now.items()
                if before.get(name, 0) != value
            ]
            self._last[file] = now
        if self.is_gone:
            events.append(GroupEvent("", GONE, 0, 1))
        return events

    def _add(self, group: Group, controller: str, file: str) -> None:
        directory = group.fd_for(controller)
        if directory is None:
            return
        fd = _open(directory, file, os.O_RDONLY)
        if fd < 0:
            return
        self._files[file] = fd
        self._epoll.register(fd, select.EPOLLPRI)

    def _add_v1(self, group: Group) -> None:
        directory = group.fd_for("memory")
        if directory is None or "memory.events" in self._files:
            return
        fd = _open(directory, _V1_FILE, os.O_RDONLY)
        if fd < 0:
            return
        self._files[_V1_FILE] = fd
        self._v1_event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = _open(directory, "cgroup.event_control", os.O_WRONLY)
        if control < 0:
            return
        try:
            os.write(control, f"{self._v1_event} {fd}".encode())
        finally:
            os.close(control)
        self._epoll.register(self._v1_event, select.EPOLLIN)


class PressureTrigger(Closing):
    """Notifies when ``group``'s processes stall on ``resource`` for ``stall_us`` within ``window_us``, once a window.

    ``resource`` is ``cpu``, ``memory``, ``io`` or ``irq``; ``kind`` is ``some`` (a process stalls) or ``full`` (all
    do). A context manager, with a descriptor of its own.
    Raises: InvalidArgument for times out of the kernel's range; PermissionDenied; NotFound without PSI.
    """

    __slots__ = ("_epoll", "_fd", "_kind", "_resource", "_total_us", "is_gone")

    def __init__(self, group: Group, resource: str, *, kind: str = "some", stall_us: int, window_us: int) -> None:
        if not _WINDOW_MIN_US <= window_us <= _WINDOW_MAX_US or not 0 < stall_us <= window_us:
            raise InvalidArgument(
                f"watch {resource} pressure: {stall_us} us in {window_us} us is not a threshold",
                hint=f"the window is {_WINDOW_MIN_US} to {_WINDOW_MAX_US} us, the stall at most as long",
                phase="cgroup",
            )
        if kind not in ("some", "full"):
            raise InvalidArgument(f"watch {resource} pressure: {kind!r} is neither 'some' nor 'full'", phase="cgroup")
        self.is_gone = False
        self._resource, self._kind = resource, kind
        directory = group.fd_for("")
        self._fd = -1 if directory is None else _open(directory, f"{resource}.pressure", os.O_RDWR)
        if self._fd < 0:
            raise NotFound(
                f"watch {resource} pressure: the group has no {resource}.pressure",
                hint="the kernel needs CONFIG_PSI, perhaps psi=1 on its command line, and cgroup v2",
                phase="cgroup",
            )
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        try:
            os.write(self._fd, f"{kind} {stall_us} {window_us}\0".encode())
            self._epoll.register(self._fd, select.EPOLLPRI)
            self._total_us = self._read().total_us
        except OSError as exc:
            self.close()
            told = from_os_error("watch pressure in", f"{group.directory_for('')}/{resource}.pressure", exc)
            if exc.errno in (errno.EPERM, errno.EINVAL) and window_us % _UNPRIVILEGED_WINDOW_US:
                told.hint = "without CAP_SYS_RESOURCE the window must be a multiple of 2 s"
            raise told from exc

    def close(self) -> None:
        """Close the trigger, which removes it. Idempotent."""
        self._epoll.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def fileno(self) -> int:
        """Readable when the threshold was crossed. Borrowed."""
        return self._epoll.fileno()

    def read_events(self) -> list[GroupEvent]:
        """One event with the pressure of now, if there was any since the last call; never waits.

        For when the descriptor is readable: it is quiet again then by itself, since the kernel takes the question
        whether a trigger fired for the answer.
        """
        if self.is_gone:
            return []
        file = f"{self._resource}.pressure"
        try:
            pressure = self._read()
        except OSError as exc:
            if exc.errno not in (errno.ENODEV, errno.EOPNOTSUPP):
                raise from_os_error("read", file, exc) from exc
            self.is_gone = True
            return [GroupEvent("", GONE, 0, 1)]
        before, self._total_us = self._total_us, pressure.total_us
        if before == pressure.total_us:
            return []
        return [GroupEvent(file, self._kind, before, pressure.total_us, pressure=pressure)]

    def _read(self) -> Pressure:
        text = os.pread(self._fd, 4096, 0).decode("ascii", "replace")
        # A line may be missing: the CPU has no "full" above the group.
        return parse_pressure(text).get(self._kind) or Pressure(0.0, 0.0, 0.0, 0)


async def iterate_events(watch: Watch, wait_readable: Callable[[int], Awaitable[None]]) -> AsyncIterator[GroupEvent]:
    """The events of ``watch`` until its group is gone. Safe to cancel: what was not taken, the next read tells.

    ``wait_readable`` waits for a descriptor in the caller's event loop (the module has one for asyncio).
    """
    while not watch.is_gone:
        await wait_readable(watch.fileno())
        for event in watch.read_events():
            yield event


def _open(directory_fd: int, file: str, flags: int) -> int:
    """An fd of ``file``, owned by the caller; -1 if there is no such file."""
    try:
        return os.open(file, flags | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return -1
        raise from_os_error("open", file, exc) from exc


def _pairs(fd: int) -> dict[str, int]:
    """A flat keyed file from its beginning. Raises: OSError ENODEV when its group was removed."""
    pairs = {}
    for line in os.pread(fd, 65536, 0).decode("ascii", "replace").splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            pairs[name] = int(value)
    return pairs


def _drain(event_fd: int) -> None:
    try:
        os.eventfd_read(event_fd)
    except BlockingIOError:
        return
