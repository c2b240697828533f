"""A container's root made of layers, which config.json knows nothing of: given beside it by whoever embeds the runtime.

The stack is mounted detached and attached at the config's root.path inside the container's own mount namespace, so no
process of the host ever has it in its mount table. See docs/design/rootfs.md.
"""

from __future__ import annotations

from corral.errors import InvalidArgument, Unsupported
from corral.runtime.job import CAP_SYS_ADMIN, CLONE_NEWNS
from corral.runtime.plan import INIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.job import Job
    from corral.runtime.plan import Plan

# Flags of OVERLAY
STACK_MAPPED = 1
STACK_USER_XATTR = 2
STACK_VOLATILE = 4

MAX_LAYERS = 500

POINTER = "root.path"


class Part:
    """A directory of the root that is a stack of its own.

    ``target``: its path in the container. ``lower``: the directory below. ``writable``: see ``RootfsPlan``.
    """

    __slots__ = ("lower", "target", "writable")

    def __init__(self, target: str, lower: str, writable: str) -> None:
        self.target = target
        self.lower = lower
        self.writable = writable


class RootfsPlan:
    """The layers of a root.

    ``lower``: absolute directories, the topmost first. ``writable``: an absolute directory with the directories
    ``upper`` and ``work`` in it, both of one file system; "" for a read-only root. ``is_mapped``: the layers' ids are
    to be mapped by the container's user namespace (what it writes is not: those files have its real ids on disk).
    ``is_volatile``: never synced to disk, as the container is not started a second time. ``parts``: directories in it
    that are stacked by themselves; only for callers without privileges. ``fuse``: the path of fuse-overlayfs, where the
    kernel makes no stack for such callers.
    """

    __slots__ = ("fuse", "is_mapped", "is_volatile", "lower", "parts", "writable")

    def __init__(
        self,
        lower: tuple[str, ...],
        writable: str = "",
        *,
        is_mapped: bool = False,
        is_volatile: bool = False,
        parts: tuple[Part, ...] = (),
        fuse: str = "",
    ) -> None:
        self.fuse = fuse
        self.parts = parts
        self.lower = lower
        self.writable = writable
        self.is_mapped = is_mapped
        self.is_volatile = is_volatile


def check_layers(job: Job, rootfs: RootfsPlan) -> None:
    """Collect in ``job.problems`` what forbids this root."""
    if not job.new_flags & CLONE_NEWNS and "mount" not in job.types:
        job.refuse(
            "stack the layers: the container has no mount namespace, and they would be mounted on the host",
            "linux.namespaces",
            hint='add {"type": "mount"} to linux.namespaces',
        )
    if not rootfs.lower or any(not path.startswith("/") for path in (*rootfs.lower, rootfs.writable or "/")):
        job.problem(InvalidArgument("stack the layers: each must be an absolute directory, and one there must be"))
    if len(rootfs.lower) > MAX_LAYERS:
        job.problem(
            Unsupported(
                f"stack the layers: {len(rootfs.lower)} of them, and the kernel takes at most {MAX_LAYERS}",
                hint="build the image with fewer layers, or squash it: corral save | corral import",
                phase="mount",
            )
        )


def compile_layers(job: Job, rootfs: RootfsPlan, slot: int) -> None:
    """The steps that make the root and attach it: instead of ROOTFS, after the propagation of / is set."""
    label = job.spec.get("linux", {}).get("mountLabel", "") if "selinux" in job.host.lsms else ""
    add_layers(
        job.plan,
        rootfs,
        (slot, job.rootfs),
        label=label,
        is_privileged=job.host.has(CAP_SYS_ADMIN) and not job.host.in_userns,
        has_user_namespace=job.has_user_namespace,
    )


def add_layers(
    plan: Plan,
    rootfs: RootfsPlan,
    place: tuple[int, str],
    *,
    is_privileged: bool,
    has_user_namespace: bool,
    label: str = "",
) -> None:
    """Append the steps; ``place``: a free slot, and the path where the root is attached."""
    flags = STACK_VOLATILE if rootfs.is_volatile else 0
    if rootfs.is_mapped:
        flags |= STACK_MAPPED
    if not is_privileged:
        flags |= STACK_USER_XATTR
    slot, path = place
    if rootfs.fuse:
        plan.init("OVERLAY_FUSE", rootfs.fuse, _fuse_options(rootfs), path, pointer=POINTER)
        return
    arguments = (slot, rootfs.lower, rootfs.writable, label, flags)
    if is_privileged and has_user_namespace:
        # An id mapping, and marks that a container cannot forge, need the initial user namespace.
        plan.front("OVERLAY", *arguments, pointer=POINTER)
        plan.add(INIT, "PASS_FD", slot, pointer=POINTER)
    else:
        plan.init("OVERLAY", *arguments, pointer=POINTER)
    plan.init("ROOTFS_TREE", path, slot, pointer=POINTER)
    for part in rootfs.parts:
        plan.init("OVERLAY", slot, (part.lower,), part.writable, label, flags, pointer=POINTER)
        plan.init("ATTACH_TREE", slot, part.target, 0, 0, 0, 0, pointer=POINTER)


def _fuse_options(rootfs: RootfsPlan) -> str:
    """The mount options of fuse-overlayfs, which has no length to mind."""
    options = "lowerdir=" + ":".join(path.replace(":", "\\:") for path in rootfs.lower)
    if rootfs.writable:
        options += f",upperdir={rootfs.writable}/upper,workdir={rootfs.writable}/work"
    return options
