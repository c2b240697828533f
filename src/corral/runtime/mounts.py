"""The container's filesystem: rootfs, mounts, devices, masked paths, and the change of root.

Source: runtime-spec config.md "Mounts", config-linux.md "Default Filesystems", "Devices", "Masked Paths".
"""

from __future__ import annotations

import posix

from corral.errors import Unsupported
from corral.linux import paths
from corral.linux.idmap import format_map
from corral.oci.mount_options import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    ROOTFS_PROPAGATION,
    parse_mount_options,
)
from corral.runtime.job import CAP_SYS_ADMIN, CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWUSER, extents
from corral.runtime.plan import FIRST_TREE_SLOT, INIT, LAST_SLOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.mount_options import MountOptions
    from corral.oci.spec import Mount
    from corral.runtime.job import Job

# Options of MOUNT_FS, BIND and ATTACH_TREE
OPT_TMPCOPYUP = 1
OPT_FILE = 2
OPT_KERNEL_FS = 16
OPT_READONLY_LATER = 32
OPT_SKIP_MISSING = 128
# The upper half of BIND's options: the attributes that the config clears in words ("rw", "dev" ...), so that a bind
# in a user namespace knows them from those it merely does not mention, which the source may have locked.
OPT_CLEARED_SHIFT = 32
_CLEARED = (
    (MS_RDONLY, MOUNT_ATTR_RDONLY),
    (MS_NOSUID, MOUNT_ATTR_NOSUID),
    (MS_NODEV, MOUNT_ATTR_NODEV),
    (MS_NOEXEC, MOUNT_ATTR_NOEXEC),
    (MS_NOATIME, MOUNT_ATTR_NOATIME),
    (MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
    (MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
)

ROOTFS_NO_BIND = 1

_LINK_EXISTS_IS_FINE = 1
_DEFAULT_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)


def compile_trees(job: Job) -> None:
    """Steps of the front before the birth: sources that only the host's root can open, and mapped ones."""
    job.tree_slot = FIRST_TREE_SLOT
    for number, mount in enumerate(job.spec.get("mounts", [])):
        options = parse_mount_options(mount.get("options", []))
        if _is_bind(mount, options) and _has_own_map(mount):
            slot = _next_slot(job)
            job.plan.front(
                "OPEN_TREE",
                slot,
                _source(job, mount),
                int(options.is_recursive_bind),
                pointer=f"mounts[{number}].source",
            )
            job.plan.front(
                "IDMAP_TREE",
                slot,
                format_map(extents(mount["uidMappings"])),
                format_map(extents(mount["gidMappings"])),
                int(options.idmap == "ridmap"),
                pointer=f"mounts[{number}].uidMappings",
            )


def compile_root(job: Job) -> None:
    """Steps of init from its release to a complete filesystem, still outside the new root."""
    if not job.new_flags & CLONE_NEWNS and "mount" not in job.types:
        _refuse_without_namespace(job)
        job.plan.init("ROOTFS", job.rootfs, ROOTFS_NO_BIND, pointer="root.path")
        return
    linux = job.spec.get("linux", {})
    propagation = ROOTFS_PROPAGATION.get(linux.get("rootfsPropagation", ""), MS_SLAVE | MS_REC)
    job.plan.init("ROOT_PROPAGATION", propagation, pointer="linux.rootfsPropagation")
    if job.layers is not None:
        from corral.runtime.rootfs import compile_layers

        compile_layers(job, job.layers, _next_slot(job))
    else:
        job.plan.init("ROOTFS", job.rootfs, 0, pointer="root.path")
    trees = _Trees()
    for number, mount in enumerate(job.spec.get("mounts", [])):
        _compile_mount(job, number, mount, trees)
    if _needs_devices(job):
        _compile_devices(job)
    _compile_console(job)


def compile_pivot(job: Job) -> None:
    """Steps of init that enter the new root and close it to what the config forbids."""
    linux = job.spec.get("linux", {})
    has_namespace = "mount" in job.types
    job.plan.init("PIVOT", (1 if job.options.no_pivot else 0) if has_namespace else 2, pointer="root.path")
    if not has_namespace:
        return
    later = linux.get("rootfsPropagation", "")
    if later in ("shared", "rshared", "unbindable", "runbindable"):
        job.plan.init("PROPAGATE_ROOT", ROOTFS_PROPAGATION[later], pointer="linux.rootfsPropagation")
    for number, mount in enumerate(job.spec.get("mounts", [])):
        # /dev takes its nodes, and a cgroup tmpfs its directories, before they can be read-only.
        if _is_readonly_later(mount):
            job.plan.init(
                "REMOUNT", _target(mount), _fs_flags(mount) | MS_REMOUNT | MS_BIND, "", pointer=f"mounts[{number}]"
            )
    if job.spec["root"].get("readonly"):
        job.plan.init("READONLY_ROOT", 0, pointer="root.readonly")
    for number, path in enumerate(linux.get("readonlyPaths", [])):
        job.plan.init("READONLY", path, pointer=f"linux.readonlyPaths[{number}]")
    for number, path in enumerate(linux.get("maskedPaths", [])):
        job.plan.init("MASK", path, pointer=f"linux.maskedPaths[{number}]")


class _Trees:
    """Counts the tree slots in the order in which ``compile_trees`` gave them out."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next = FIRST_TREE_SLOT

    def take(self) -> int:
        self.next += 1
        return self.next - 1


def _next_slot(job: Job) -> int:
    if job.tree_slot > LAST_SLOT:
        job.problem(
            Unsupported(
                f"open mounts: more than {LAST_SLOT - FIRST_TREE_SLOT + 1} need a descriptor of their own",
                hint="join several of them into one directory",
                pointer="mounts",
                phase="mount",
            )
        )
        return LAST_SLOT
    job.tree_slot += 1
    return job.tree_slot - 1


def _refuse_without_namespace(job: Job) -> None:
    linux = job.spec.get("linux", {})
    for pointer, asked in (
        ("mounts", job.spec.get("mounts")),
        ("linux.maskedPaths", linux.get("maskedPaths")),
        ("linux.readonlyPaths", linux.get("readonlyPaths")),
        ("root.readonly", job.spec["root"].get("readonly")),
    ):
        if asked:
            job.refuse(
                f"set up {pointer}: the container has no mount namespace, and mounts would be made on the host",
                pointer,
                hint='add {"type": "mount"} to linux.namespaces',
            )


def _is_bind(mount: Mount, options: MountOptions) -> bool:
    return mount.get("type") == "bind" or options.is_bind


def _has_own_map(mount: Mount) -> bool:
    return bool(mount.get("uidMappings"))


def _target(mount: Mount) -> str:
    destination = mount["destination"]
    return destination if destination.startswith("/") else "/" + destination


def _source(job: Job, mount: Mount) -> str:
    source = mount.get("source", "")
    return source if source.startswith("/") else paths.normpath(f"{job.bundle}/{source}")


def _fs_flags(mount: Mount) -> int:
    return parse_mount_options(mount.get("options", [])).flags


def _is_readonly_later(mount: Mount) -> bool:
    target = _target(mount).rstrip("/")
    is_plain = mount.get("type", "") == "tmpfs" and target == "/dev"
    return is_plain and bool(_fs_flags(mount) & MS_RDONLY)


def _compile_mount(job: Job, number: int, mount: Mount, trees: _Trees) -> None:
    pointer = f"mounts[{number}]"
    options = parse_mount_options(mount.get("options", []))
    if options.flags & MS_REMOUNT:
        job.plan.init("REMOUNT", _target(mount), options.flags, options.data, pointer=pointer)
    elif _is_bind(mount, options):
        _compile_bind(job, pointer, mount, options, trees)
    elif mount.get("type") in ("cgroup", "cgroup2"):
        _compile_cgroup(job, pointer, mount, options)
    else:
        _compile_filesystem(job, pointer, mount, options)


def _compile_bind(job: Job, pointer: str, mount: Mount, options: MountOptions, trees: _Trees) -> None:
    source, target = _source(job, mount), _target(mount)
    if options.copy_symlink and paths.islink(source):
        job.plan.init("SYMLINK", posix.readlink(source), target, 0, pointer=pointer)
        return
    propagation = options.propagation[-1] if options.propagation else 0
    slot = -1
    if _has_own_map(mount):
        slot = trees.take()
    elif options.idmap:
        slot = _pass_mapped_tree(job, pointer, source, options)
    elif job.new_flags & CLONE_NEWUSER and job.host.has(CAP_SYS_ADMIN):
        # Root of the container's user namespace may not be able to reach the source; the host's root is.
        slot = _pass_tree(job, pointer, source, options)
    job.plan.init(
        "BIND",
        source,
        target,
        options.flags | MS_BIND,
        options.attr_set,
        options.attr_clear,
        propagation,
        _cleared(options) << OPT_CLEARED_SHIFT,
        slot,
        pointer=pointer,
    )


def _cleared(options: MountOptions) -> int:
    attributes = 0
    for flag, attribute in _CLEARED:
        if options.flags_cleared & flag:
            attributes |= attribute
    return attributes


def _pass_tree(job: Job, pointer: str, source: str, options: MountOptions) -> int:
    slot = _next_slot(job)
    job.plan.front("OPEN_TREE", slot, source, int(options.is_recursive_bind), pointer=pointer)
    job.plan.add(INIT, "PASS_FD", slot, pointer=pointer)
    return slot


def _pass_mapped_tree(job: Job, pointer: str, source: str, options: MountOptions) -> int:
    """A tree mapped by the container's own user namespace, which exists only now."""
    if not job.has_user_namespace:
        job.refuse(
            f"map the ids of {source}: the mount has no uidMappings and the container no user namespace",
            pointer,
            hint="add uidMappings and gidMappings to the mount, or a user namespace to the container",
        )
        return -1
    slot = _next_slot(job)
    job.plan.front("OPEN_TREE", slot, source, int(options.is_recursive_bind), pointer=pointer)
    job.plan.front("IDMAP_TREE", slot, "", "", int(options.idmap == "ridmap"), pointer=pointer)
    job.plan.add(INIT, "PASS_FD", slot, pointer=pointer)
    return slot


def _compile_filesystem(job: Job, pointer: str, mount: Mount, options: MountOptions) -> None:
    kind = mount.get("type", "")
    flags, bits = options.flags, 0
    if options.tmpcopyup:
        bits |= OPT_TMPCOPYUP
    if kind in ("proc", "sysfs"):
        bits |= OPT_KERNEL_FS
    if _is_readonly_later(mount):
        bits |= OPT_READONLY_LATER
        flags &= ~MS_RDONLY
    job.plan.init(
        "MOUNT_FS",
        kind,
        mount.get("source", "") or kind,
        _target(mount),
        _labelled(job, kind, options.data),
        flags,
        options.attr_set,
        options.attr_clear,
        options.propagation[-1] if options.propagation else 0,
        bits,
        pointer=pointer,
    )


_UNLABELLED = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue")


def _labelled(job: Job, kind: str, data: str) -> str:
    """``data`` with the SELinux label of the config, in the kind of context that the annotation chooses."""
    label = job.spec.get("linux", {}).get("mountLabel", "")
    if not label or kind in _UNLABELLED or "selinux" not in job.host.lsms:
        return data
    word = job.annotations.get("run.oci.mount_context_type", "context")
    return f'{data},{word}="{label}"' if data else f'{word}="{label}"'


def _compile_cgroup(job: Job, pointer: str, mount: Mount, options: MountOptions) -> None:
    """A view of the container's own groups: fresh mounts in a cgroup namespace, else binds of its directories."""
    layout = job.host.layout
    if job.options.cgroup_writable:
        options.flags &= ~MS_RDONLY
    if mount.get("type") == "cgroup2" or layout.mode == "v2":
        _mount_hierarchy(job, pointer, 2, _target(mount), options, mount_point="")
        return
    target = _target(mount)
    base = MS_NOSUID | MS_NODEV | MS_NOEXEC
    job.plan.init("MOUNT_FS", "tmpfs", "tmpfs", target, "mode=755", base, 0, 0, 0, 0, pointer=pointer)
    for hierarchy in layout.hierarchies:
        if hierarchy.version == 2:
            _mount_hierarchy(job, pointer, 2, f"{target}/unified", options, mount_point=hierarchy.mount_point)
            continue
        name = paths.basename(hierarchy.mount_point)
        _mount_hierarchy(job, pointer, 1, f"{target}/{name}", options, mount_point=hierarchy.mount_point)
        for controller in hierarchy.controllers:
            if len(hierarchy.controllers) > 1 and controller != name:
                job.plan.init("SYMLINK", name, f"{target}/{controller}", 1, pointer=pointer)
    if options.flags & MS_RDONLY:
        job.plan.init("REMOUNT", target, base | MS_RDONLY | MS_REMOUNT | MS_BIND, "", pointer=pointer)


def _mount_hierarchy(
    job: Job, pointer: str, version: int, target: str, options: MountOptions, *, mount_point: str
) -> None:
    propagation = options.propagation[-1] if options.propagation else 0
    member = next(
        (m for m in job.groups.members if m[1].version == version and mount_point in ("", m[1].mount_point)), None
    )
    if job.new_flags & CLONE_NEWCGROUP or member is None:
        if version == 2:
            kind, data = "cgroup2", ""
        else:
            found = next(h for h in job.host.layout.hierarchies if h.mount_point == mount_point)
            # A named hierarchy has no controller, and must be told so.
            kind, data = "cgroup", ",".join(found.controllers)
            data = f"none,{data}" if found.is_named else data
        job.plan.init(
            "MOUNT_FS", kind, "cgroup", target, data, options.flags, 0, 0, propagation, OPT_KERNEL_FS, pointer=pointer
        )
        return
    source = member[1].directory(member[2])
    job.plan.init(
        "BIND", source, target, options.flags | MS_BIND | MS_REC, 0, 0, propagation, OPT_SKIP_MISSING, -1,
        pointer=pointer,
    )  # fmt: skip


_NODES: tuple[tuple[str, int, int], ...] = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_TYPE_BITS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


def _needs_devices(job: Job) -> bool:
    """Not if the config binds a /dev of its own: then it is the caller's, and the host's perhaps."""
    for mount in job.spec.get("mounts", []):
        if _target(mount).rstrip("/") == "/dev" and _is_bind(mount, parse_mount_options(mount.get("options", []))):
            return False
    return True


def _compile_devices(job: Job) -> None:
    wanted = {path: (0o020666, major, minor, 0, 0, "") for path, major, minor in _NODES}
    for number, device in enumerate(job.spec.get("linux", {}).get("devices", [])):
        wanted[paths.normpath(device["path"])] = (
            _TYPE_BITS[device["type"]] | device.get("fileMode", 0o666) & 0o7777,
            device.get("major", 0),
            device.get("minor", 0),
            device.get("uid", 0),
            device.get("gid", 0),
            f"linux.devices[{number}]",
        )
    # mknod of a device needs the initial user namespace's CAP_MKNOD; a bind of the host's node does not.
    by_bind = job.has_user_namespace or job.host.in_userns or job.host.euid != 0
    for path, (mode, major, minor, uid, gid, pointer) in wanted.items():
        if by_bind and mode & 0o170000 != _TYPE_BITS["p"]:
            job.plan.init("BIND", path, path, MS_BIND, 0, 0, 0, OPT_FILE, -1, pointer=pointer)
        else:
            job.plan.init("MKNOD", path, mode, posix.makedev(major, minor), uid, gid, pointer=pointer)
    for target, link in _DEFAULT_LINKS:
        job.plan.init("SYMLINK", target, link, _LINK_EXISTS_IS_FINE)
    if any(_target(mount).rstrip("/") == "/dev/pts" for mount in job.spec.get("mounts", [])):
        job.plan.init("SYMLINK", "pts/ptmx", "/dev/ptmx", 2)
    if job.host.has_kcore:
        job.plan.init("SYMLINK", "/proc/kcore", "/dev/core", _LINK_EXISTS_IS_FINE)


def _compile_console(job: Job) -> None:
    from corral.runtime.process import compile_console

    process = job.process
    if process is not None and process.get("terminal"):
        compile_console(job.plan, process, job.options, bind=_needs_devices(job))
