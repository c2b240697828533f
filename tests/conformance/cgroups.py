"""Reads what the kernel says about cgroups, on v1, hybrid and v2 alike."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What systemd's driver puts the tests' containers into.
TEST_SLICE = f"corraltest{os.getpid()}.slice"


@cache
def hierarchies() -> dict[str, Path]:
    """Mount point by controller; the v2 hierarchy is under "" and under each of its controllers."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        point, fstype = Path(left.split()[4]), right.split()[0]
        if not point.is_relative_to("/sys/fs/cgroup"):
            continue
        if fstype == "cgroup2":
            found[""] = point
            for name in (point / "cgroup.controllers").read_text().split():
                found.setdefault(name, point)
        elif fstype == "cgroup":
            for name in right.split()[2].split(","):
                if name not in ("rw", "ro", "xattr", "clone_children"):
                    found.setdefault(name, point)
    return found


def is_v2_only() -> bool:
    """Whether every controller is in the v2 hierarchy."""
    return hierarchies().get("") == Path("/sys/fs/cgroup")


def membership(pid: int | str) -> dict[str, str]:
    """/proc/PID/cgroup as path by controller; the v2 path is under ""."""
    paths: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    return paths


def path_of(cgroups_path: str) -> str:
    """The group that an absolute `cgroupsPath` asks for: in systemd's form, the scope in its slice."""
    if ":" not in cgroups_path:
        return cgroups_path
    slice_name, prefix, name = cgroups_path.split(":")
    return f"{slice_path(slice_name)}/{prefix}-{name}.scope"


def name_of(cgroups_path: str) -> str:
    """What the group's own name has in it, with either driver."""
    return cgroups_path.replace(":", "/").rpartition("/")[2]


def slice_path(name: str) -> str:
    """systemd.slice(5): `a-b.slice` lies in `a.slice`."""
    words = name.removesuffix(".slice").split("-")
    return "".join("/" + "-".join(words[: count + 1]) + ".slice" for count in range(len(words)))


def directory(pid: int | str, controller: str) -> Path:
    """The cgroup directory of a process for this controller, as the host sees it."""
    paths = membership(pid)
    key = controller if controller in paths else ""
    return hierarchies()[controller] / paths[key].lstrip("/")


def read_for(pid: int | str, *names: str) -> str:
    """The first of these files that exists in the process's cgroup, stripped.

    Pass the v1 name and the v2 name (`memory.limit_in_bytes`, `memory.max`).
    """
    tried = []
    for name in names:
        controller = name.split(".", 1)[0]
        for key in (controller, {"io": "blkio", "cgroup": ""}.get(controller, controller)):
            if key not in hierarchies():
                continue
            path = directory(pid, key) / name
            if path.exists():
                return path.read_text().strip()
            tried.append(str(path))
    raise FileNotFoundError(f"none of {tried}")


def processes(path: Path) -> list[int]:
    """The pids in one cgroup directory; none if it is gone, as an empty scope is when systemd has seen it."""
    try:
        return [int(line) for line in (path / "cgroup.procs").read_text().split()]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return []


def find(prefix: str, depth: int = 4) -> list[Path]:
    """All cgroup directories, to this depth, with `prefix` in their name."""
    tops = {str(top) for top in hierarchies().values()}
    return sorted(Path(path) for top in tops for path in walk(top, depth) if prefix in path.rpartition("/")[2])


def walk(top: str, depth: int) -> Iterator[str]:
    """The paths of all groups below the directory `top`, to this depth; those that go meanwhile are left out."""
    # The kernel counts the groups in a group as its links: most have none, and their many files need not be listed.
    try:
        if depth == 0 or os.lstat(top).st_nlink <= 2:
            return
        with os.scandir(top) as entries:
            paths = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in paths:
        yield path
        yield from walk(path, depth - 1)


def remove(parent: str) -> None:
    """Remove a test's own parent group, with all that is in it, from every hierarchy."""
    for top in set(hierarchies().values()):
        for path, _, _ in os.walk(top / parent.lstrip("/"), topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
