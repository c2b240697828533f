"""What a privileged test must not leave behind. For tests/root, tests/userns and whoever wants the same check.

::

    mark = new_mark()                     # put it into names and into the environment variable MARK_VARIABLE
    before = take_snapshot(mark)
    ...
    assert find_leaks(before) == []

Other tests may run on the machine at the same time, so only what bears the mark, or belongs to this process, counts.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.cgroups import walk

__all__ = ["MARK_VARIABLE", "Snapshot", "find_leaks", "marked_processes", "new_mark", "take_snapshot"]

# Processes that inherit this variable with the test's mark are the test's.
MARK_VARIABLE = "CORRAL_TEST_MARK"
# Of groups: deeper than any test makes them.
DEPTH = 64
STATE_PARENTS = (Path("/run"), Path("/dev/shm"), Path("/tmp"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there before the test: found again afterwards, it is no leak."""

    mark: str
    descriptors: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    state: frozenset[str]
    children: frozenset[str]
    devices: frozenset[str]


def new_mark() -> str:
    """Return a name that nothing else on this machine bears: ``corral-test-<pid>-<random>``."""
    return f"corral-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def take_snapshot(mark: str) -> Snapshot:
    """Look at this process and this machine now."""
    return Snapshot(
        mark=mark,
        descriptors=frozenset(_descriptors()),
        mounts=frozenset(_mounts(mark)),
        cgroups=frozenset(_cgroups(mark)),
        state=frozenset(_state(mark)),
        children=frozenset(_children()),
        devices=frozenset(_devices()),
    )


def find_leaks(before: Snapshot) -> list[str]:
    """Return one line per thing that was not there before; nothing is cleaned up."""
    after = take_snapshot(before.mark)
    leaks = [f"descriptor {item}" for item in sorted(after.descriptors - before.descriptors)]
    leaks += [f"mount {item}" for item in sorted(after.mounts - before.mounts)]
    leaks += [f"cgroup {item}" for item in sorted(after.cgroups - before.cgroups)]
    leaks += [f"state {item}" for item in sorted(after.state - before.state)]
    leaks += [f"network device {item}" for item in sorted(after.devices - before.devices)]
    leaks += [f"child process {item}" for item in sorted(after.children - before.children)]
    leaks += [f"process {item}" for item in sorted(marked_processes(before.mark))]
    return leaks


def _devices() -> Iterator[str]:
    """Network devices of this network namespace: a test that makes bridges does it in one of its own."""
    for name in os.listdir("/sys/class/net"):
        if name.startswith(("cr", "veth")):
            yield name


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of this very listing is gone by now.
        with contextlib.suppress(OSError):
            yield f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"


def _mounts(mark: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ", 5)[4]
        if mark in line or "/corral" in point:
            yield line


def _cgroups(mark: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            top = left.split(" ", 5)[4]
            yield from (path for path in walk(top, DEPTH) if path.rpartition("/")[2].startswith(mark))


def _state(mark: str) -> Iterator[str]:
    for parent in STATE_PARENTS:
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(mark):
                    yield str(parent / name)
    root = Path(os.environ.get("XDG_RUNTIME_DIR") or "/run", "corral")
    with contextlib.suppress(OSError):
        yield from (str(root / name) for name in os.listdir(root) if mark in name)


def _children() -> Iterator[str]:
    # Zombies count too: somebody forgot to wait for them.
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{task}/children").read_text().split():
                yield f"{pid} {_command_name(pid)}"


def _command_name(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def marked_processes(mark: str) -> Iterator[str]:
    """``PID NAME`` of each process that inherited the test's mark."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    yield f"{pid} {_command_name(pid)}"
