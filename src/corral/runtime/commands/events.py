"""``events``: statistics at an interval, and OOM kills as they happen, as JSON lines; or one sample with ``--stats``.

What wakes us (an eventfd on v1, a poll of memory.events on v2) is only a hint: an event is printed when the kernel's
counter of OOM kills has risen, so none is invented, and one that came without a hint shows at the next sample.

Source: runc-events(8); Documentation/admin-guide/cgroup-v1/memory.rst "OOM Control"; cgroup-v2.rst "memory.events".
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

from corral.cgroup.runc_events import to_runc_events
from corral.cgroup.stats import read_stats
from corral.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from corral.oci.json import dumps
from corral.runtime.containers import open_container, open_container_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.group import Group
    from corral.runtime.options import CommandLine
    from corral.runtime.record import Record

DEFAULT_INTERVAL_S = 5.0
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

# How long, and how often, to look for the kill that a notification announced.
_LOOK_FOR_S = 2.0
_LOOK_EVERY_S = 0.02


def run(line: CommandLine) -> int:
    """Print one sample, or go on until the container ends (exit code 0) or nobody reads any more."""
    interval_s = parse_duration(line.text("interval")) if line.text("interval") else DEFAULT_INTERVAL_S
    if interval_s <= 0:
        raise InvalidArgument(
            f"events: flag --interval: duration interval must be greater than 0, got {line.text('interval')!r}"
        )
    record = open_container(line)
    if not record.is_running:
        raise FailedPrecondition(
            f"events of container {record.container_id!r}: container with id {record.container_id} is not running: "
            "container not running",
            hint="a stopped container has no statistics",
        )
    with open_container_group(record) as group:
        if line.flag("stats"):
            _print_stats(group, record.container_id)
            return 0
        stream = Stream(record, group)
        try:
            stream.follow(interval_s)
        finally:
            stream.close()
    return 0


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it: ``1.5s``, ``1m30s``, ``500ms``. Raises: InvalidArgument."""
    total, rest = 0.0, text.strip()
    sign = -1.0 if rest.startswith("-") else 1.0
    rest = rest.lstrip("+-")
    if rest == "0":
        return 0.0
    if not rest:
        raise _odd_duration(text)
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        letters = len(rest[digits:]) - len(rest[digits:].lstrip("hmsunµ"))
        number, unit = rest[:digits], rest[digits : digits + letters]
        if unit not in _UNITS_S or not number.replace(".", "", 1).isdecimal():
            raise _odd_duration(text)
        total += float(number) * _UNITS_S[unit]
        rest = rest[digits + letters :]
    return sign * total


def _odd_duration(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"events: flag --interval: {text!r} is not a duration", hint="write it as 5s, 500ms or 1m30s"
    )


def _print_stats(group: Group, container_id: str) -> None:
    sys.stdout.write(dumps(to_runc_events(read_stats(group), container_id)) + "\n")
    sys.stdout.flush()


def read_oom_kills(group: Group) -> int:
    """How many processes of the group the OOM killer has taken; 0 where no controller tells."""
    for controller, file in (("memory", "memory.events"), ("memory", "memory.oom_control")):
        for line in (group.read_or_none(controller, file) or "").splitlines():
            word, _, number = line.partition(" ")
            if word == "oom_kill" and number.strip().isdecimal():
                return int(number)
    return 0


class Stream:
    """The events of one living container. Owns a pidfd, and the descriptors that tell of OOM kills."""

    __slots__ = ("_control", "_eventfd", "_group", "_id", "_kills", "_look_until", "_pidfd", "_poll", "_watched")

    def __init__(self, record: Record, group: Group) -> None:
        self._id = record.container_id
        self._group = group
        self._eventfd = self._control = self._watched = -1
        self._look_until = 0.0
        self._kills = read_oom_kills(group)
        try:
            self._pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError as exc:
            raise FailedPrecondition(f"events of container {self._id!r}: container not running") from exc
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        self._watch_oom()

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self._pidfd, self._eventfd, self._control, self._watched):
            if fd >= 0:
                os.close(fd)

    def _watch_oom(self) -> None:
        directory = self._group.fd_for("memory")
        if directory is None:
            return
        try:
            self._watched = os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            self._watch_oom_v1(directory)
        else:
            self._poll.register(self._watched, select.POLLPRI)

    def _watch_oom_v1(self, directory: int) -> None:
        try:
            self._control = os.open("memory.oom_control", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._group.write("memory", "cgroup.event_control", f"{self._eventfd} {self._control}")
        except (OSError, NotFound, PermissionDenied, FailedPrecondition):
            # Then the counter is looked at with every sample only.
            return
        self._poll.register(self._eventfd, select.POLLIN)

    def follow(self, interval_s: float) -> None:
        """Print events until the container's first process has ended."""
        next_sample = time.monotonic() + interval_s
        # What was killed while the watch was being set up gave no hint.
        self._print_oom()
        while True:
            now = time.monotonic()
            timeout_s = max(0.0, next_sample - now)
            if now < self._look_until:
                timeout_s = min(timeout_s, _LOOK_EVERY_S)
            ready = [fd for fd, _ in self._poll.poll(timeout_s * 1000)]
            self._take_hints(ready)
            self._print_oom()
            if self._pidfd in ready:
                return
            if time.monotonic() >= next_sample:
                next_sample += interval_s
                try:
                    _print_stats(self._group, self._id)
                except NotFound:
                    # The group went while it was read: the process is gone as well, as the next round sees.
                    continue

    def _take_hints(self, ready: list[int]) -> None:
        if self._eventfd in ready:
            os.eventfd_read(self._eventfd)
            # v1 notifies before it kills and counts (mm/memcontrol-v1.c, mem_cgroup_oom_notify).
            self._look_until = time.monotonic() + _LOOK_FOR_S
        if self._watched in ready:
            # Reading is what acknowledges a kernfs notification; that of its removal cannot be read.
            try:
                os.pread(self._watched, 4096, 0)
            except OSError as exc:
                if exc.errno != errno.ENODEV:
                    raise
                self._poll.unregister(self._watched)

    def _print_oom(self) -> None:
        kills = read_oom_kills(self._group)
        if kills > self._kills:
            sys.stdout.write(dumps({"type": "oom", "id": self._id}) + "\n")
            sys.stdout.flush()
        self._kills = max(kills, self._kills)
