"""What may stand in ``mounts`` and in ``hooks``, and in id mappings anywhere.

Source: runtime-spec config.md "Mounts", "POSIX-platform Mounts", "POSIX-platform Hooks"; user_namespaces(7).
"""

from __future__ import annotations

from corral.oci.mount_options import parse_mount_options
from corral.oci.names import HOOK_NAMES
from corral.oci.shape import STRING, UINT32, Problem, integer, list_of, object_of, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Rule
    from corral.oci.spec import Hook, Hooks, IDMapping, Mount

# kernel/user_namespace.c UID_GID_MAP_MAX_EXTENTS
MAX_MAPPINGS = 340

MAPPINGS_RULE: Rule = list_of(
    object_of({"containerID": UINT32, "hostID": UINT32, "size": UINT32}, required=("containerID", "hostID", "size"))
)
MOUNTS_RULE: Rule = list_of(
    object_of(
        {
            "destination": STRING,
            "type": STRING,
            "source": STRING,
            "options": list_of(STRING),
            "uidMappings": MAPPINGS_RULE,
            "gidMappings": MAPPINGS_RULE,
        },
        required=("destination",),
    )
)
_HOOKS_RULE: Rule = list_of(
    object_of(
        {"path": STRING, "args": list_of(STRING), "env": list_of(STRING), "timeout": integer(1, 0x7FFFFFFF)},
        required=("path",),
    )
)
HOOKS_RULE: Rule = object_of(dict.fromkeys(HOOK_NAMES, _HOOKS_RULE))


def check_mounts(mounts: list[Mount], has_user_namespace: bool, out: list[Problem]) -> None:
    """Add the problems of meaning of ``mounts`` whose types conform."""
    for index, mount in enumerate(mounts):
        pointer = f"mounts[{index}]"
        if "destination" in mount:
            destination = mount["destination"]
            if not destination:
                out.append(Problem(f"{pointer}.destination", "empty"))
            elif destination[0] != "/":
                message = f"{quote(destination)} is not absolute, it is taken as relative to /"
                out.append(Problem(f"{pointer}.destination", message, is_warning=True))
        _check_source(mount, pointer, has_user_namespace, out)


def _check_source(mount: Mount, pointer: str, has_user_namespace: bool, out: list[Problem]) -> None:
    options = parse_mount_options(mount.get("options", []))
    is_bind = options.is_bind or mount.get("type", "") == "bind"
    if is_bind and not mount.get("source", ""):
        out.append(Problem(f"{pointer}.source", "missing, but a bind mount needs it"))
    if is_bind and options.data:
        # Perhaps meant as ro or nosuid: the kernel takes it without a word, so somebody has to say it.
        message = f"unknown option {quote(options.data)} is ignored: a bind mount takes no data"
        out.append(Problem(f"{pointer}.options", message, is_warning=True))
    uid_mappings = mount.get("uidMappings", [])
    gid_mappings = mount.get("gidMappings", [])
    if uid_mappings or gid_mappings:
        if not is_bind:
            message = "id mappings on a mount that is not a bind mount"
            out.append(Problem(f"{pointer}.uidMappings", message, "add the option bind or rbind"))
        for name, mine, other in (
            ("uidMappings", uid_mappings, gid_mappings),
            ("gidMappings", gid_mappings, uid_mappings),
        ):
            if other and not mine:
                out.append(Problem(f"{pointer}.{name}", "missing, but the other kind of id mapping is given"))
            check_mappings(mine, f"{pointer}.{name}", out)
    elif options.idmap:
        if not has_user_namespace:
            message = f"option {options.idmap} without id mappings needs a user namespace to take them from"
            out.append(Problem(f"{pointer}.options", message, "add uidMappings and gidMappings to the mount"))
        elif not is_bind:
            out.append(Problem(f"{pointer}.options", f"option {options.idmap} on a mount that is not a bind mount"))


def check_mappings(mappings: list[IDMapping], pointer: str, out: list[Problem]) -> None:
    """Add what the kernel would refuse about one list of extents: too many, empty, beyond 32 bits, overlapping."""
    if len(mappings) > MAX_MAPPINGS:
        out.append(Problem(pointer, f"{len(mappings)} extents, the kernel takes at most {MAX_MAPPINGS}"))
        return
    for side in ("containerID", "hostID"):
        extents: list[tuple[int, int, int]] = []
        for index, mapping in enumerate(mappings):
            if not ("containerID" in mapping and "hostID" in mapping and "size" in mapping):
                continue  # already reported
            start = mapping["containerID"] if side == "containerID" else mapping["hostID"]
            size = mapping["size"]
            if not size:
                if side == "containerID":
                    out.append(Problem(f"{pointer}[{index}].size", "0 ids"))
            elif start + size > 0x100000000:
                out.append(Problem(f"{pointer}[{index}].size", f"{side} {start} + size {size} exceeds 32 bits"))
            else:
                extents.append((start, start + size, index))
        extents.sort()
        end, owner = 0, 0
        for start, stop, index in extents:
            if start < end:
                message = f"overlaps with {pointer}[{min(owner, index)}]"
                out.append(Problem(f"{pointer}[{max(owner, index)}].{side}", message))
            if stop > end:
                end, owner = stop, index


def check_hooks(hooks: Hooks, out: list[Problem]) -> None:
    """Add the problems of meaning of ``hooks`` whose types conform."""
    kinds: dict[str, list[Hook]] = hooks  # type: ignore[assignment]
    for name in HOOK_NAMES:
        for index, hook in enumerate(kinds.get(name, ())):
            if "path" in hook and hook["path"][:1] != "/":
                out.append(Problem(f"hooks.{name}[{index}].path", f"{quote(hook['path'])} is not an absolute path"))
