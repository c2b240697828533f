"""Writable control groups: the container manages groups of its own below its group, within its limits (S1).

Asked for by ``--cgroup-writable``, or by crun's annotation, which names the leaf. What it takes, and in which order, is
``corral.cgroup.delegate``'s; here it becomes steps.
"""

from __future__ import annotations

from corral.errors import CorralError
from corral.linux.idmap import host_id
from corral.runtime.job import extents
from corral.runtime.plan import INIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.delegate import Delegation
    from corral.runtime.job import Job

ANNOTATION = "run.oci.delegate-cgroup"

# CG_WRITE
_ONLY_WARNS = 2


def prepare_delegation(job: Job) -> None:
    """Find out what the delegation consists of, if one is asked for; what forbids it is a problem of the job."""
    name = job.annotations.get(ANNOTATION, "")
    if not name and not job.options.cgroup_writable:
        return
    from corral.cgroup.delegate import LEAF, check_delegation, plan_delegation, read_delegate_files

    pointer = f'annotations["{ANNOTATION}"]' if name else ""
    if name and ("/" in name or name in (".", "..") or name.startswith("cgroup.")):
        job.refuse(f"delegate the cgroup: {name!r} is not a group's name", pointer, hint="name it like a directory")
        return
    layout = job.host.layout
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            # With a user namespace the files' owners keep the container off its own limits.
            check_delegation(layout, file.read(), allow_without_nsdelegate=job.has_user_namespace)
        unified = layout.unified
        member = next((m for m in job.groups.members if m[1] is unified), None)
        if unified is None or member is None:
            return
        job.groups.delegation = plan_delegation(
            layout,
            member[2],
            available=unified.controllers,
            owner=_owner(job),
            files=read_delegate_files(),
        )
        job.groups.delegated_leaf = name or LEAF
    except CorralError as exc:
        exc.pointer = exc.pointer or pointer
        job.problem(exc)


def _owner(job: Job) -> tuple[int, int] | None:
    """Root of the container's user namespace, as the host counts; None without one."""
    linux = job.spec.get("linux", {})
    uid = host_id(extents(linux.get("uidMappings", [])), 0)
    gid = host_id(extents(linux.get("gidMappings", [])), 0)
    return None if not job.has_user_namespace or uid is None or gid is None else (uid, gid)


def compile_delegation(job: Job, delegation: Delegation) -> None:
    """Steps between the container's cgroup namespace, whose root is the group itself, and its move into the leaf."""
    plan, groups = job.plan, job.groups
    unified = job.host.layout.unified
    top = groups.id_of(unified.index) if unified is not None else None
    if unified is None or top is None:
        return
    # The id behind that of the members is the outer group's, if there is one.
    leaf = len(groups.members) + 1
    plan.add(INIT, "SYNC", "its cgroup namespace")
    path = f"{delegation.path}/{groups.delegated_leaf}"
    plan.front("CG_DEFINE", leaf, 2, unified.mount_point, path, 0)
    plan.front("CG_MAKE", leaf, 0, "")
    for file, value in delegation.before_attach:
        plan.front("CG_WRITE", top, file, value, 0)
    if delegation.owner is not None:
        for number in (top, leaf):
            plan.front("CG_CHOWN", number, *delegation.owner, delegation.chown_files)
    plan.front("CG_ATTACH", leaf, 0)
    for file, value in delegation.after_attach:
        plan.front("CG_WRITE", top, file, value, _ONLY_WARNS)
    plan.add(INIT, "SYNC", "its delegated cgroup")
