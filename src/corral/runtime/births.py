"""Namespaces and the birth of the container's process: joins, user and time namespaces, id maps.

Source: runtime-spec config-linux.md "Namespaces", "User namespace mappings", "Offset for Time Namespace";
user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

from corral.errors import PermissionDenied, Unsupported
from corral.linux.idmap import first_unavailable, format_map, needs_helper, read_subids
from corral.oci.names import NAMESPACES
from corral.runtime.job import CAP_SETGID, CAP_SETUID, CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWUSER, extents
from corral.runtime.plan import STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.job import Job

WHO_STAGE = 0
WHO_INIT = 1


def compile_birth(job: Job) -> None:
    """Steps from nothing to a blocked stub of init, with its ids mapped."""
    # The cgroup namespace is unshared by init after its move into the container's group: its root is the group of
    # the process that makes it. The user and the time namespace need someone outside to write their files.
    flags = job.new_flags & ~CLONE_NEWCGROUP
    if not job.needs_stage:
        job.plan.front("SPAWN", flags, job.groups.birthplace, pointer="linux.namespaces")
        if flags & CLONE_NEWUSER:
            _compile_maps(job, WHO_INIT)
        return
    plan = job.plan
    plan.front("STAGE", job.groups.birthplace)
    if job.joined:
        entries = [f"{NAMESPACES[kind][1]}:{path}" for kind, path in job.joined]
        plan.stage("JOIN_PATHS", entries, pointer="linux.namespaces")
    if flags & CLONE_NEWUSER:
        plan.stage("UNSHARE", CLONE_NEWUSER, pointer="linux.namespaces")
        plan.add(STAGE, "SYNC", "the user namespace")
        _compile_maps(job, WHO_STAGE)
        plan.add(STAGE, "SYNC", "the id mappings")
    if job.has_user_namespace:
        plan.stage("BECOME_ROOT", may_set_groups(job), pointer="linux.uidMappings")
    if flags & CLONE_NEWTIME:
        plan.stage("UNSHARE", CLONE_NEWTIME, pointer="linux.namespaces")
        offsets = _time_offsets(job)
        if offsets:
            plan.add(STAGE, "SYNC", "the time namespace")
            plan.front("TIME_OFFSETS", offsets, pointer="linux.timeOffsets")
            plan.add(STAGE, "SYNC", "the time offsets")
    plan.stage("FORK", flags & ~(CLONE_NEWUSER | CLONE_NEWTIME), 0, pointer="linux.namespaces")


def may_set_groups(job: Job) -> int:
    """1 if setgroups(2) is available in the container's user namespace, else 0."""
    if job.host.setgroups_denied:
        return 0
    for kind, path in job.joined:
        if kind == "user" and path.endswith("/ns/user"):
            return int(allows_groups(path.removesuffix("/ns/user")))
    if not job.new_flags & CLONE_NEWUSER or job.host.has(CAP_SETGID):
        return 1
    return int(_gid_map_needs_helper(job))


def allows_groups(directory: str, *, otherwise: bool = True) -> bool:
    """Whether setgroups(2) is available in the user namespace of the process with this directory of procfs.

    It may have been denied for good when the namespace got its single mapping. ``otherwise``: where nobody can tell.
    """
    try:
        with open(f"{directory}/setgroups", encoding="utf-8") as file:
            return file.read().strip() != "deny"
    except OSError:
        return otherwise


def _gid_map_needs_helper(job: Job) -> bool:
    maps = extents(job.spec.get("linux", {}).get("gidMappings", []))
    return needs_helper(maps, own_id=job.host.egid, has_capability=job.host.has(CAP_SETGID))


def _compile_maps(job: Job, who: int) -> None:
    linux = job.spec.get("linux", {})
    host = job.host
    uid_map = extents(linux.get("uidMappings", []))
    gid_map = extents(linux.get("gidMappings", []))
    helpers = ["", ""]
    for place, (kind, maps, own, cap, helper) in enumerate(
        (
            ("uid", uid_map, host.euid, CAP_SETUID, host.newuidmap),
            ("gid", gid_map, host.egid, CAP_SETGID, host.newgidmap),
        )
    ):
        if not needs_helper(maps, own_id=own, has_capability=host.has(cap)):
            continue
        helpers[place] = helper
        if not helper:
            job.problem(
                Unsupported(
                    f"map {kind}s: this needs the program new{kind}map, which is not installed",
                    hint="install Debian's package uidmap, or map only your own id, one line of size 1",
                    pointer=f"linux.{kind}Mappings",
                    phase="namespace",
                )
            )
            continue
        refused = first_unavailable(maps, read_subids(kind, host.euid), own_id=own)
        if refused:
            job.problem(
                PermissionDenied(
                    f"map {kind}s: host ids {refused[1]} to {refused[1] + refused[2] - 1} are not yours to map",
                    hint=f"give them to the user in /etc/sub{kind}, as root",
                    pointer=f"linux.{kind}Mappings",
                    phase="namespace",
                )
            )
    deny = "" if may_set_groups(job) else "deny"
    job.plan.front(
        "ID_MAPS",
        who,
        format_map(uid_map),
        format_map(gid_map),
        deny,
        helpers[0],
        helpers[1],
        pointer="linux.uidMappings",
    )


def _time_offsets(job: Job) -> str:
    offsets = job.spec.get("linux", {}).get("timeOffsets", {})
    return "".join(
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in sorted(offsets.items())
    )
