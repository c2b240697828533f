"""``mounts add|remove``: crun's way to mount into a running container, and to unmount again.

The front opens what is bound in the caller's world, a child joins the container's namespaces and attaches it there:
the same steps that make a container. Python only compiles them. They are done one by one: a refusal leaves the mounts
before it, and its message names the one refused.
"""

from __future__ import annotations

from corral.errors import FailedPrecondition, InvalidArgument, NotFound
from corral.oci.json import loads
from corral.oci.mount_options import MS_BIND, MS_REMOUNT, parse_mount_options
from corral.oci.names import NAMESPACES
from corral.oci.shape import conform
from corral.oci.validate import drop_nulls, normalize, to_error
from corral.oci.validate_mounts import MOUNTS_RULE, check_mounts
from corral.runtime.inputs import read_file
from corral.runtime.job import MODE_CREATE
from corral.runtime.mounts import OPT_KERNEL_FS, OPT_TMPCOPYUP
from corral.runtime.options import check_id
from corral.runtime.plan import FIRST_TREE_SLOT, INIT, LAST_SLOT, Plan
from corral.runtime.prepare import state_root
from corral.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Problem
    from corral.oci.spec import Mount
    from corral.runtime.options import CommandLine
    from corral.runtime.prepare import Surroundings

_USAGE = "usage: mounts add|remove ID FILE, where FILE holds a JSON array of mounts"


def run(line: CommandLine) -> int:
    """Never reached through the front, which asks for a plan instead. Raises: InvalidArgument."""
    raise InvalidArgument(f"{line.command}: this is the front's to run", hint="run corral-runtime")


def prepare_mounts(line: CommandLine, around: Surroundings) -> Plan:
    """The plan of ``mounts add`` or ``mounts remove``. Raises: CorralError."""
    if len(line.args) != 3 or line.args[0] not in ("add", "remove"):
        raise InvalidArgument("mounts: want add or remove, an id and a file", hint=_USAGE)
    verb, name, path = line.args
    record = Record(state_root(line, around), check_id(name))
    if not record.is_running:
        raise FailedPrecondition(f"{verb} mounts of container {name!r}: container not running")
    mounts = read_mounts(around.absolute(path), with_sources=verb == "add")
    config = normalize(record.read_config())
    namespaces = config.get("linux", {}).get("namespaces", [])
    flags = 0
    for namespace in namespaces:
        flags |= NAMESPACES[namespace["type"]][0]
    if not flags & NAMESPACES["mount"][0]:
        raise FailedPrecondition(
            f"{verb} mounts of container {name!r}: it has no mount namespace, so they would be made on the host",
            hint="mount on the host itself, if that is what you want",
        )
    return compile_mounts(
        verb,
        mounts,
        (record.pid, record.start_time, flags),
        around,
        has_user_namespace=any(namespace["type"] == "user" for namespace in namespaces),
    )


def read_mounts(path: str, *, with_sources: bool) -> list[Mount]:
    """The mounts in a file: an array, or an object with a member ``mounts``. Raises: NotFound, InvalidArgument.

    Without ``with_sources`` only the destinations count.
    """
    try:
        document = drop_nulls(loads(read_file(path), path))
    except OSError as exc:
        raise NotFound(f"read {path}: {(exc.strerror or str(exc)).lower()}", hint=_USAGE, path=path) from exc
    if isinstance(document, dict) and "mounts" in document:
        document = document["mounts"]
    problems: list[Problem] = []
    mounts: list[Mount] = conform(document, MOUNTS_RULE, "mounts", problems) or []  # type: ignore[assignment]
    if not problems and with_sources:
        check_mounts(mounts, False, problems)
    error = to_error(problems, "read mounts")
    if error is not None:
        raise error
    return mounts


def compile_mounts(
    verb: str,
    mounts: list[Mount],
    process: tuple[int, int, int],
    around: Surroundings,
    *,
    has_user_namespace: bool,
) -> Plan:
    """Steps for ``verb``; ``process`` is the pid, the start time and the namespaces (CLONE_NEW*) to join."""
    plan = Plan()
    # No record comes with this plan, so with this mode the front reaps the child once all steps are done.
    plan.front("FRONT_MODE", MODE_CREATE, 0)
    if verb == "add":
        for number, mount in enumerate(mounts):
            _open_source(plan, number, mount, around)
    plan.front("STAGE", 0)
    plan.stage("JOIN_CONTAINER", *process)
    plan.stage("FORK", 0, 0)
    plan.add(INIT, "SYNC", "the container's namespaces")
    if has_user_namespace:
        plan.init("BECOME_ROOT", 0)
    plan.init("PRIVATE_PROC", 0)
    slot = FIRST_TREE_SLOT
    for number, mount in enumerate(mounts if verb == "add" else reversed(mounts)):
        pointer = f"mounts[{number if verb == 'add' else len(mounts) - 1 - number}]"
        if verb == "remove":
            plan.init("DETACH", _target(mount), pointer=pointer)
        elif _is_bind(mount):
            _attach(plan, mount, pointer, slot)
            slot += 1
        else:
            _mount(plan, mount, pointer)
    plan.add(INIT, "SYNC", "the mounts")
    return plan


def _target(mount: Mount) -> str:
    return "/" + mount["destination"].lstrip("/")


def _is_bind(mount: Mount) -> bool:
    return mount.get("type") == "bind" or parse_mount_options(mount.get("options", [])).is_bind


def _open_source(plan: Plan, number: int, mount: Mount, around: Surroundings) -> None:
    options = parse_mount_options(mount.get("options", []))
    if options.idmap or mount.get("uidMappings") or options.flags & MS_REMOUNT or options.copy_symlink:
        raise InvalidArgument(
            f"add {mount['destination']}: remounts, links and mapped ids are for new containers only",
            pointer=f"mounts[{number}]",
        )
    if not _is_bind(mount):
        return
    slot = FIRST_TREE_SLOT + sum(step.op == "OPEN_TREE" for step in plan)
    if slot > LAST_SLOT:
        raise InvalidArgument("add mounts: too many for one call", pointer=f"mounts[{number}]", hint="add some first")
    source = around.absolute(mount.get("source", ""))
    plan.front("OPEN_TREE", slot, source, int(options.is_recursive_bind), pointer=f"mounts[{number}].source")


def _attach(plan: Plan, mount: Mount, pointer: str, slot: int) -> None:
    options = parse_mount_options(mount.get("options", []))
    propagation = options.propagation[-1] if options.propagation else 0
    plan.init(
        "BIND",
        mount.get("source", ""),
        _target(mount),
        options.flags | MS_BIND,
        options.attr_set,
        options.attr_clear,
        propagation,
        0,
        slot,
        pointer=pointer,
    )


def _mount(plan: Plan, mount: Mount, pointer: str) -> None:
    options = parse_mount_options(mount.get("options", []))
    kind = mount.get("type", "")
    bits = (OPT_TMPCOPYUP if options.tmpcopyup else 0) | (OPT_KERNEL_FS if kind in ("proc", "sysfs") else 0)
    plan.init(
        "MOUNT_FS",
        kind,
        mount.get("source", "") or kind,
        _target(mount),
        options.data,
        options.flags,
        options.attr_set,
        options.attr_clear,
        options.propagation[-1] if options.propagation else 0,
        bits,
        pointer=pointer,
    )
