"""The pre-rendered programs of a container: what ``start``, ``kill``, ``state`` and ``delete`` do without Python."""

from __future__ import annotations

from corral.oci.json import dumps
from corral.runtime.documents import SPEC_VERSION, hook_state
from corral.runtime.groups import REMOVE_BUDGET_MS, add_definitions
from corral.runtime.plan import FRONT, OPTIONAL, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.spec import Hook
    from corral.runtime.job import Job

HOOK_WARN_ONLY = 1

KILL_OWN_PID_NAMESPACE = 1

START_TIMEOUT_MS = 30_000
KILL_BUDGET_MS = 10_000
SIGKILL = 9


def add_hooks(plan: Plan, job: Job, kind: str, status: str, *, actor: int = FRONT, flags: int = 0) -> None:
    """The HOOK steps of one kind, in the order of the config; each reads the state as of ``status``."""
    hooks: list[Hook] = job.spec.get("hooks", {}).get(kind, [])  # type: ignore[assignment]
    if not hooks:
        return
    head, tail = hook_state(job.container_id, status, job.bundle, job.annotations)
    for number, hook in enumerate(hooks):
        plan.add(
            actor,
            "HOOK",
            kind,
            hook["path"],
            hook.get("args", [hook["path"]]),
            hook.get("env", []),
            hook.get("timeout", 0) * 1000,
            head,
            tail,
            flags,
            pointer=f"hooks.{kind}[{number}]",
        )


def prepare_hooks(plan: Plan, job: Job, *kinds: str) -> None:
    """What the hooks of ``kinds`` run in: the bundle, with their output where annotations send it (as crun does)."""
    hooks = job.spec.get("hooks", {})
    if not any(hooks.get(kind) for kind in kinds):
        return
    # A bundle that is gone by now does not keep the hooks from running.
    plan.front("ENTER", job.bundle, flags=OPTIONAL)
    out = job.annotations.get("run.oci.hooks.stdout", "")
    err = job.annotations.get("run.oci.hooks.stderr", "")
    if out or err:
        plan.front("HOOK_OUTPUT", out, err, pointer="annotations")


def compile_programs(job: Job, *, created: str, owner: str) -> dict[str, Plan]:
    """The four programs by the name of their command. ``created`` is RFC 3339, ``owner`` a user name."""
    programs = {name: Plan() for name in ("start", "kill", "state", "delete")}
    # All begin with the same definitions of the groups.
    definitions = Plan()
    add_definitions(definitions, job.groups, job.host.layout)
    for plan in programs.values():
        plan.steps += definitions.steps
    _start(programs["start"], job)
    _kill(programs["kill"], job)
    _state(programs["state"], job, created, owner)
    _delete(programs["delete"], job)
    return programs


def _start(plan: Plan, job: Job) -> None:
    if job.options.notify_socket:
        # The listener of create is gone, and the program may be ready before anything else is done here.
        plan.front("NOTIFY_LISTEN", f"{job.record}/notify/notify.sock")
    plan.front("RELEASE", START_TIMEOUT_MS)
    if job.options.notify_socket:
        plan.front("NOTIFY_RELAY", f"{job.record}/notify/notify.sock", job.options.notify_socket)
    prepare_hooks(plan, job, "poststart")
    add_hooks(plan, job, "poststart", "running")


def _kill(plan: Plan, job: Job) -> None:
    own = "pid" in job.types and not any(kind == "pid" for kind, _ in job.joined)
    plan.front("KILL_SCOPE", KILL_OWN_PID_NAMESPACE if own else 0)


def _state(plan: Plan, job: Job, created: str, owner: str) -> None:
    # The members and their order are those of `runc state`.
    after: dict[str, object] = {
        "bundle": job.bundle,
        "rootfs": job.rootfs,
        "created": created,
        "annotations": job.annotations,
        "owner": owner,
    }
    if not job.annotations:
        del after["annotations"]
    head = f'{{\n  "ociVersion": "{SPEC_VERSION}",\n  "id": {dumps(job.container_id)},\n  "pid": '
    rest = dumps(after, indent=2)
    plan.front("STATE_DOC", head, ',\n  "status": "', f'",{rest[1:]}\n')


def _delete(plan: Plan, job: Job) -> None:
    plan.front("KILL_INIT", KILL_BUDGET_MS)
    members = [number for number, _, _ in job.groups.members]
    for number, hierarchy, _ in job.groups.members:
        if hierarchy is job.host.layout.hierarchy_for("freezer"):
            plan.front("CG_THAW", number)
    counter = job.host.layout.unified
    for number, hierarchy, _ in job.groups.members:
        if hierarchy is counter or (counter is None and number == 0):
            plan.front("CG_KILL", number, SIGKILL)
    around = [group for group in (job.groups.holder, job.groups.outer) if group is not None]
    for number, hierarchy, path in around:
        plan.front("CG_DEFINE", number, hierarchy.version, hierarchy.mount_point, path, 0)
    if job.groups.holder is not None:
        plan.front("CG_KILL", job.groups.holder[0], SIGKILL)
    for number in (*reversed(members), *(group[0] for group in around)):
        plan.front("CG_REMOVE", number, REMOVE_BUDGET_MS)
    group = resctrl_group(job)
    if group:
        # Removing a group removes its monitoring groups, but a group that was joined stays.
        plan.front("RESCTRL_REMOVE", f"{group}/mon_groups/{job.container_id}")
        plan.front("RESCTRL_REMOVE", group)
    prepare_hooks(plan, job, "poststop")
    add_hooks(plan, job, "poststop", "stopped", flags=HOOK_WARN_ONLY)
    plan.front("REMOVE_RECORD", 0)


def resctrl_group(job: Job) -> str:
    """The container's resctrl group as a path; "" if it asks for none, or this host has no resctrl."""
    rdt = job.spec.get("linux", {}).get("intelRdt")
    if rdt is None or not job.host.resctrl:
        return ""
    clos = rdt.get("closID", "") or job.container_id
    return job.host.resctrl if clos == "/" else f"{job.host.resctrl}/{clos}"
