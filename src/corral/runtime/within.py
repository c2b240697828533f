"""Plans of ``corral-within``: a program of this host in the ids, and with the root, that a container has.

For work on files: unpacking, removing and copying what belongs to ids that only a user namespace can reach, and
changing the root of a container that does not run. What runs there is ours, and sees the host's own tree; the root is
mounted at its path for it alone. See docs/design/rootfs.md, "Work inside".
"""

from __future__ import annotations

from corral.linux.idmap import format_map, needs_helper
from corral.oci.mount_options import MS_REC, MS_SLAVE
from corral.runtime.births import WHO_INIT
from corral.runtime.job import (
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MODE_EXEC,
)
from corral.runtime.plan import FIRST_TREE_SLOT, INIT, Plan
from corral.runtime.rootfs import add_layers
from corral.runtime.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.runtime.host import Host
    from corral.runtime.rootfs import RootfsPlan

__all__ = ["Within"]

Extent = tuple[int, int, int]


class Within:
    """Where the program runs.

    ``uid_map``, ``gid_map``: a new user namespace (inside, outside, size); none without. ``join``: pid and start time
    of a process whose user namespace is joined instead; (0, 0) for none. ``rootfs``: layers to be mounted at ``path``,
    an empty directory, in a mount namespace of the program's own.
    """

    __slots__ = ("gid_map", "join", "path", "rootfs", "uid_map")

    def __init__(
        self,
        uid_map: Sequence[Extent] = (),
        gid_map: Sequence[Extent] = (),
        *,
        join: tuple[int, int] = (0, 0),
        rootfs: RootfsPlan | None = None,
        path: str = "",
    ) -> None:
        self.uid_map = list(uid_map)
        self.gid_map = list(gid_map)
        self.join = join
        self.rootfs = rootfs
        self.path = path

    def compile(self, argv: Sequence[str], env: Sequence[str], host: Host, *, n_fds: int = 0) -> bytes:
        """The plan that runs ``argv`` (an absolute program), which inherits the descriptors from 3 on, ``n_fds``."""
        plan = Plan()
        plan.front("FRONT_MODE", MODE_EXEC, n_fds)
        is_user = bool(self.uid_map or self.join[0])
        flags = CLONE_NEWNS if self.rootfs else 0
        if self.rootfs is not None and self.rootfs.fuse:
            # fuse-overlayfs lives in the mount namespace that it serves, so it would keep both for ever.
            flags |= CLONE_NEWPID
        if self.join[0]:
            plan.front("STAGE", 0)
            plan.stage("JOIN_CONTAINER", *self.join, CLONE_NEWUSER)
            plan.stage("FORK", flags, 0)
        else:
            plan.front("SPAWN", flags | (CLONE_NEWUSER if is_user else 0), -1)
            if is_user:
                self._add_maps(plan, host)
        plan.add(INIT, "SYNC", "its ids")
        if is_user:
            plan.init("BECOME_ROOT", 0)
        if self.rootfs is not None:
            plan.init("ROOT_PROPAGATION", MS_SLAVE | MS_REC)
            is_privileged = host.has(CAP_SYS_ADMIN) and not host.in_userns
            add_layers(
                plan, self.rootfs, (FIRST_TREE_SLOT, self.path), is_privileged=is_privileged, has_user_namespace=is_user
            )
        plan.init("PREPARE_FDS", n_fds)
        plan.init("FIND_PROGRAM", argv[0], "")
        plan.init("EXEC", list(argv), list(env), 0)
        return encode(plan)

    def _add_maps(self, plan: Plan, host: Host) -> None:
        helpers = []
        for extents, own, capability, helper in (
            (self.uid_map, host.euid, CAP_SETUID, host.newuidmap),
            (self.gid_map, host.egid, CAP_SETGID, host.newgidmap),
        ):
            wants = needs_helper(extents, own_id=own, has_capability=host.has(capability))
            helpers.append(helper if wants else "")
        deny = "" if host.has(CAP_SETGID) or helpers[1] else "deny"
        plan.front("ID_MAPS", WHO_INIT, format_map(self.uid_map), format_map(self.gid_map), deny, *helpers)
