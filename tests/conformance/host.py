"""What this host offers: the only reasons for which a case may be skipped for corral.

`@host("name", ...)` on a case; each name is one probe below, which says what is lacking, or
None. Probes try the thing itself; none looks at the kernel's version.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable

host = pytest.mark.host


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _controller(name: str) -> Callable[[], str | None]:
    def probe() -> str | None:
        return None if name in cgroups.hierarchies() else f"no cgroup controller {name}"

    return probe


def _cgroup_v1() -> str | None:
    return "cgroup v2 only" if cgroups.is_v2_only() else None


def _cgroup_v2() -> str | None:
    return None if "" in cgroups.hierarchies() else "no cgroup v2 hierarchy"


def _cgroup_v2_only() -> str | None:
    return None if cgroups.is_v2_only() else "cgroup v1 or hybrid"


def _program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"no {name}"


def _memory_policy() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    # get_mempolicy(2) has the same number space as its setter: both or neither are built in.
    number = {"x86_64": 239, "aarch64": 236}.get(os.uname().machine, -1)
    answer = libc.syscall(number, None, None, 0, None, 0)
    return None if answer == 0 else f"get_mempolicy: {os.strerror(ctypes.get_errno())}"


def _oom_score_lowering() -> str | None:
    path = Path("/proc/self/oom_score_adj")
    value = path.read_text().strip()
    try:
        path.write_text(str(max(-1000, int(value) - 1)))
        path.write_text(value)
    except PermissionError:
        return "CAP_SYS_RESOURCE is missing: oom_score_adj cannot be lowered"
    return None


def _namespace(kind: str) -> Callable[[], str | None]:
    return lambda: None if Path(f"/proc/self/ns/{kind}").exists() else f"no {kind} namespaces"


def _file(path: str) -> Callable[[], str | None]:
    return lambda: None if Path(path).exists() else f"no {path}"


def _userns() -> str | None:
    made = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, timeout=30, check=False)
    return None if made.returncode == 0 else f"no user namespaces: {made.stderr.strip()}"


def _newuidmap() -> str | None:
    if not shutil.which("newuidmap"):
        return "no newuidmap"
    return _file("/etc/subuid")() or _file("/etc/subgid")()


def _idmap() -> str | None:
    # mount_setattr(2) came with idmapped mounts, in 5.12; the file system of /tmp has to support them too.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(442, -1, b"", 0, None, 0)
    return "no mount_setattr" if ctypes.get_errno() == errno.ENOSYS else None


def _disk() -> str | None:
    numbers = os.stat("/").st_dev
    whole = Path(f"/sys/dev/block/{os.major(numbers)}:{os.minor(numbers)}")
    found = whole.exists() and not (whole / "partition").exists()
    return None if found else "the root file system is not on a whole disk"


def _blkio_weight() -> str | None:
    mounted = cgroups.hierarchies()
    if "io" in mounted:
        # The root group of v2 has no weight, and others only while `io` is enabled for them.
        found = any("bfq" in path.read_text() for path in Path("/sys/block").glob("*/queue/scheduler"))
    else:
        names = ("blkio.weight", "blkio.bfq.weight")
        found = "blkio" in mounted and any((mounted["blkio"] / name).exists() for name in names)
    return None if found else "no I/O scheduler with weights"


PROBES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "cgroup-v1": _cgroup_v1,
    "cgroup-v2": _cgroup_v2,
    "cgroup-v2-only": _cgroup_v2_only,
    "blkio-weight": _blkio_weight,
    "memory-policy": _memory_policy,
    "oom-score-lowering": _oom_score_lowering,
    "idmap": _idmap,
    "userns": _userns,
    "newuidmap": _newuidmap,
    "ip": _program("ip"),
    "time-namespace": _namespace("time"),
    "apparmor": _file("/sys/kernel/security/apparmor"),
    "selinux": _file("/sys/fs/selinux"),
    "blkio": _controller("blkio"),
    "disk": _disk,
    "fuse": _file("/dev/fuse"),
    "resctrl": _file("/sys/fs/resctrl/schemata"),
    "cpu-burst": _file("/sys/fs/cgroup/cpu/cpu.cfs_burst_us"),
    "cpu-rt": _file("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"),
    "memory-swap": _file("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"),
    **{
        name: _controller(name)
        for name in ("memory", "cpu", "cpuset", "pids", "hugetlb", "rdma", "net_cls", "net_prio")
    },
}


@cache
def lacking(name: str) -> str | None:
    """What this host lacks for the probe `name`, or None."""
    return PROBES[name]()
