"""What kind of host this is: the facts by which a statement applies to it or not.

A fact is read, never assumed from a name, so the same tests run on a hybrid host without systemd and in every cell of
the VM bench. `applies("v2", "root")` on a test takes it out of the selection elsewhere; nothing is skipped.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups, harness

if TYPE_CHECKING:
    from collections.abc import Callable

applies = pytest.mark.applies


def mode() -> str:
    """`v1`, `hybrid`, `v2` or `none`: which kinds of hierarchy are mounted."""
    mounted = cgroups.hierarchies()
    if not mounted:
        return "none"
    if cgroups.is_v2_only():
        return "v2"
    return "hybrid" if "" in mounted else "v1"


def driver() -> str:
    """The cgroup driver that containers of this run are made with."""
    return harness.driver()


def is_root() -> bool:
    """Root of the host, or of what looks like it."""
    return os.geteuid() == 0


def wants_userns() -> bool:
    """Every container of this run gets a user namespace, also where its test does not ask for one."""
    return os.environ.get("CORRAL_VM_USERNS") == "1"


def has_nsdelegate() -> bool:
    """The v2 hierarchy is mounted with `nsdelegate`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(" - cgroup2 " in line and "nsdelegate" in line.rsplit(" ", 1)[1] for line in lines)


def can_limit() -> bool:
    """The caller may limit memory, cpu and pids: root, or a user to whom v2 groups were delegated with them."""
    if is_root():
        return {"memory", "cpu", "pids"} <= set(cgroups.hierarchies())
    if mode() != "v2":
        return False
    own = Path("/sys/fs/cgroup" + cgroups.membership("self")[""])
    names = (own / "cgroup.controllers").read_text().split()
    return os.access(own, os.W_OK) and {"memory", "cpu", "pids"} <= set(names)


def has_cgroup() -> bool:
    """The caller may make groups at all."""
    if is_root() or driver() == "systemd":
        return mode() != "none"
    return mode() == "v2" and os.access("/sys/fs/cgroup" + cgroups.membership("self")[""], os.W_OK)


FACTS: dict[str, Callable[[], bool]] = {
    "root": is_root,
    "user": lambda: not is_root(),
    "v2": lambda: mode() == "v2",
    "not-v2": lambda: mode() in ("v1", "hybrid"),
    "nsdelegate": has_nsdelegate,
    "systemd": lambda: Path("/run/systemd/system").is_dir(),
    "no-systemd": lambda: not Path("/run/systemd/system").is_dir(),
    "cgroupfs-driver": lambda: driver() == "cgroupfs",
    "systemd-driver": lambda: driver() == "systemd",
    "cgroup": has_cgroup,
    "limits": can_limit,
    # The callers' own deadlines are those of a real processor.
    "own-speed": lambda: "CORRAL_VM_CELL" not in os.environ,
    "buildah": lambda: shutil.which("buildah") is not None,
    "podman": lambda: shutil.which("podman") is not None and shutil.which("crun") is not None,
    "containerd": lambda: shutil.which("containerd-shim-runc-v2") is not None,
}


@cache
def holds(name: str) -> bool:
    """Whether a fact of the table is true here. An unknown name is a mistake of the test."""
    return FACTS[name]()
