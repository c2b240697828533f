"""What a test must not leave behind: cgroups, mounts, processes, state, file descriptors."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Snapshot:
    """What this process held before a test."""

    descriptors: frozenset[str]
    children: frozenset[int]
    groups: frozenset[Path]
    processes: frozenset[str]


def take_snapshot(prefix: str) -> Snapshot:
    """Look at this process now, and at the cgroups that bear `prefix`."""
    groups, processes = frozenset(cgroups.find(prefix)), frozenset(_processes())
    return Snapshot(frozenset(_descriptors()), frozenset(_children()), groups, processes)


def find_leaks(before: Snapshot, prefix: str, directory: Path) -> list[str]:
    """Everything that bears `prefix`, or lives in `directory`, or was not there before.

    Zombies that were adopted by this process are reaped, living ones are reported and killed.
    """
    leaks = [f"cgroup {path}" for path in cgroups.find(prefix) if path not in before.groups]
    leaks += [f"mount {line}" for line in _mounts_below(directory, prefix)]
    leaks += [f"process {text}" for text in _processes_of(_processes() - before.processes, prefix, directory)]
    leaks += [f"child {pid}" for pid in _left_children(before.children)]
    leaks += [f"state {path}" for path in _state_of(prefix, directory)]
    leaks += [f"fd {text}" for text in sorted(_descriptors() - before.descriptors)]
    return leaks


def _descriptors() -> set[str]:
    held = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            held.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {text for text in held if "/proc/" not in text}


def _mounts_below(directory: Path, prefix: str) -> Iterable[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {directory}/" in line or prefix in line:
            yield line


def _processes() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid())}


def _processes_of(pids: set[str], prefix: str, directory: Path) -> Iterable[str]:
    for name in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            facts = [os.readlink(f"/proc/{name}/{link}") for link in ("root", "cwd")]
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f"{directory}/" in " ".join([*facts, line]) or f" {prefix}" in line:
                yield f"{name} {line}"


def _children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except OSError:
            # Another thread that has ended meanwhile; a kernel without this file cannot be looked at.
            if int(task) == os.getpid():
                raise
    return found


def _left_children(before: frozenset[int]) -> Iterable[int]:
    left = [pid for pid in sorted(_children() - before) if not _is_reaped(pid)]
    # Once more: the init of a pid namespace can only end after the others in it were reaped.
    left = [pid for pid in left if not _is_reaped(pid)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    pending = left
    while pending and time.monotonic() < end:
        pending = [pid for pid in pending if not _is_reaped(pid)]
        select.select([], [], [], 0.005)
    return left


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _state_of(prefix: str, directory: Path) -> Iterable[Path]:
    places = [directory / "state", Path("/run/runc"), Path("/run/crun"), Path("/run/corral")]
    for place in places:
        for path, names, files in os.walk(place):
            yield from (Path(path, name) for name in [*names, *files] if prefix in name)
