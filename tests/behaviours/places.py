"""Where containers have to be: computed here from what was asked, and read from the kernel."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from behaviours import facts
from conformance import cgroups
from conformance import spec as specs
from conformance.cgroups import slice_path as slice_path
from conformance.harness import unique_id
from conformance.rootfs import chown_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.harness import Bundle

USERNS_FIRST_ID = 700000
EVERY_DEPTH = 1000


def vacate_own_group() -> str:
    """Move this process, and all that share its v2 group, to a group below; return the path of the group left."""
    path = cgroups.membership("self").get("", "/")
    if facts.mode() != "v2" or path.endswith("/corral-tests"):
        return path.removesuffix("/corral-tests").rstrip("/")
    own = Path("/sys/fs/cgroup" + path)
    if os.access(own, os.W_OK):
        (own / "corral-tests").mkdir(exist_ok=True)
        for pid in cgroups.processes(own):
            (own / "corral-tests/cgroup.procs").write_text(str(pid))
    return path.rstrip("/")


def give_place(bundle: Bundle, parent: str, slices: str = "") -> str:
    """Ask for a group in the form of this run's driver; return the path where the container has to be."""
    name = unique_id()
    if facts.driver() == "cgroupfs":
        if not facts.has_cgroup():
            bundle.linux.pop("cgroupsPath", None)
            return ""
        bundle.linux["cgroupsPath"] = f"{parent}/{name}"
        return f"{parent}/{name}"
    slice_name = slices or f"corraltest{os.getpid()}.slice"
    bundle.linux["cgroupsPath"] = f"{slice_name}:ct:{name}"
    return manager_path() + slice_path(slice_name) + f"/ct-{name}.scope"


def manager_path() -> str:
    """The group of the manager that makes the scopes: the root, or that of the user's `user@UID.service`."""
    if facts.is_root():
        return ""
    uid = os.geteuid()
    return f"/user.slice/user-{uid}.slice/user@{uid}.service"


def give_user(bundle: Bundle, *, with_userns: bool) -> None:
    """A user namespace where one is wanted, or needed since we are not root."""
    if not facts.is_root():
        specs.add_namespace(bundle.spec, "user")
        bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        bundle.linux.pop("resources", None)
    elif with_userns:
        specs.map_ids(bundle.spec, USERNS_FIRST_ID)
        chown_tree(bundle.rootfs, USERNS_FIRST_ID, USERNS_FIRST_ID)


def groups_of(pid: int | str) -> dict[str, str]:
    """The group of a process in every hierarchy that a runtime could reach, by controller ("" is v2)."""
    mounted = cgroups.hierarchies()
    return {name: path for name, path in cgroups.membership(pid).items() if name in mounted or name == ""}


def is_at(pid: int | str, path: str) -> bool:
    """The process is in the group `path` in every hierarchy; a user's manager has only the one that it tracks by."""
    found = groups_of(pid)
    if facts.mode() == "v1":
        found.pop("", None)
    if not facts.is_root() and facts.mode() != "v2":
        names = {"name=systemd", ""}
        found = {name: value for name, value in found.items() if name in names}
    return set(found.values()) == {path}


def directories(path: str) -> list[Path]:
    """The existing directories of a group, one for each hierarchy."""
    tops = sorted(set(cgroups.hierarchies().values()))
    return [top / path.lstrip("/") for top in tops if (top / path.lstrip("/")).is_dir()]


def walk() -> set[Path]:
    """Every group on this host."""
    return {Path(path) for top in set(cgroups.hierarchies().values()) for path in cgroups.walk(str(top), EVERY_DEPTH)}


def limits_of(pid: int) -> dict[str, str]:
    """memory, cpu and pids of the real leaf, in the words of v2."""
    quota = cgroups.read_for(pid, "cpu.cfs_quota_us", "cpu.max")
    if " " not in quota:
        quota += " " + cgroups.read_for(pid, "cpu.cfs_period_us")
    return {
        "memory": cgroups.read_for(pid, "memory.limit_in_bytes", "memory.max"),
        "cpu": quota,
        "pids": cgroups.read_for(pid, "pids.max"),
    }


LIMITS = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 30000, "period": 50000}, "pids": {"limit": 40}}
LIMITS_READ = {"memory": str(64 << 20), "cpu": "30000 50000", "pids": "40"}


def seconds(action: object, *args: object) -> float:
    """How long a call takes."""
    assert callable(action)
    start = time.monotonic()
    action(*args)
    return time.monotonic() - start


def names_with_colon(groups: Sequence[Path] | set[Path]) -> list[Path]:
    """Groups whose own name has a ':' and is not one of systemd's own units (for a D-Bus name)."""
    return [path for path in groups if ":" in path.name and not path.name.endswith(".service")]
