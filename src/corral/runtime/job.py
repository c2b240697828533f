"""One container to be made: everything that compilation looks at, as plain values.

A job is filled by ``create`` (reading files, the host, the seccomp cache); the compile modules only read it and add
to its plan, so the same job always gives the same bytes.
"""

from __future__ import annotations

from corral.errors import InvalidArgument
from corral.oci.names import NAMESPACES
from corral.runtime.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.errors import CorralError
    from corral.linux.seccomp import SeccompProgram
    from corral.oci.spec import IDMapping, Namespace, Process, Spec
    from corral.runtime.groups import Groups
    from corral.runtime.host import Host
    from corral.runtime.rootfs import RootfsPlan

CLONE_NEWUSER = NAMESPACES["user"][0]
CLONE_NEWNS = NAMESPACES["mount"][0]
CLONE_NEWCGROUP = NAMESPACES["cgroup"][0]
CLONE_NEWTIME = NAMESPACES["time"][0]
CLONE_NEWNET = NAMESPACES["network"][0]
CLONE_NEWPID = NAMESPACES["pid"][0]

CAP_SETGID = 6
CAP_SETUID = 7
CAP_SYS_ADMIN = 21

# FRONT_MODE
MODE_DETACH = 1
MODE_TTY = 2
MODE_KEEP = 4
MODE_NO_SUBREAPER = 8
MODE_CREATE = 16
MODE_EXEC = 32


class Options:
    """The flags of create, run and exec, with absolute paths."""

    __slots__ = (
        "cgroup_layout",
        "cgroup_writable",
        "console_socket",
        "is_create",
        "is_detached",
        "keep",
        "keeps_terminal",
        "listen_fds",
        "no_new_keyring",
        "no_pivot",
        "no_subreaper",
        "notify_socket",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
    )

    def __init__(self, *, is_create: bool = False) -> None:
        self.is_create = is_create
        self.is_detached = is_create
        self.keep = False
        self.keeps_terminal = False
        self.cgroup_layout = ""
        self.cgroup_writable = False
        self.console_socket = ""
        self.pid_file = ""
        self.pidfd_socket = ""
        self.no_pivot = False
        self.no_new_keyring = False
        self.no_subreaper = False
        self.preserve_fds = 0
        self.notify_socket = ""
        self.listen_fds = 0

    def mode(self, *, terminal: bool) -> int:
        """The flags of FRONT_MODE."""
        return (
            (MODE_CREATE if self.is_create else 0)
            | (MODE_DETACH if self.is_detached else 0)
            | (MODE_TTY if terminal else 0)
            | (MODE_KEEP if self.keep else 0)
            | (MODE_NO_SUBREAPER if self.no_subreaper else 0)
        )


class Job:
    """A container to be made. ``problems`` collects what forbids it, so that ``check`` can show all of them."""

    __slots__ = (
        "annotations",
        "bundle",
        "container_id",
        "groups",
        "host",
        "joined",
        "layers",
        "new_flags",
        "options",
        "plan",
        "problems",
        "record",
        "rootfs",
        "seccomp",
        "spec",
        "tree_slot",
        "types",
        "warnings",
    )

    def __init__(
        self, spec: Spec, host: Host, *, container_id: str, bundle: str, rootfs: str, record: str, options: Options
    ) -> None:
        self.spec = spec
        self.host = host
        self.container_id = container_id
        self.bundle = bundle
        self.rootfs = rootfs
        self.record = record
        self.options = options
        self.annotations: dict[str, str] = spec.get("annotations", {})
        self.seccomp: SeccompProgram | None = None
        self.groups: Groups
        self.plan = Plan()
        self.problems: list[CorralError] = []
        self.warnings: list[str] = []
        self.tree_slot = 0
        self.layers: RootfsPlan | None = None
        namespaces: list[Namespace] = spec.get("linux", {}).get("namespaces", [])
        self.types = {namespace["type"] for namespace in namespaces}
        self.joined = [(n["type"], n["path"]) for n in namespaces if n.get("path")]
        self.new_flags = 0
        for namespace in namespaces:
            if not namespace.get("path"):
                self.new_flags |= NAMESPACES[namespace["type"]][0]

    def refuse(self, message: str, pointer: str, hint: str = "") -> None:
        """Record that the config asks for something impossible."""
        self.problems.append(InvalidArgument(message, pointer=pointer, hint=hint, phase="config"))

    def problem(self, problem: CorralError) -> None:
        """Record any other reason why this container cannot be made here."""
        self.problems.append(problem)

    @property
    def process(self) -> Process | None:
        """The process, None if the config has none (create only)."""
        return self.spec.get("process")

    @property
    def has_user_namespace(self) -> bool:
        """The container gets, or joins, a user namespace."""
        return "user" in self.types

    @property
    def needs_stage(self) -> bool:
        """A namespace is joined, or is a time namespace, whose offsets must be set before the first fork in it.

        Source: time_namespaces(7): /proc/PID/timens_offsets is writable only until a process enters.
        """
        return bool(self.joined) or bool(self.new_flags & CLONE_NEWTIME)


def extents(mappings: list[IDMapping]) -> list[tuple[int, int, int]]:
    """Mappings of config.json as (container id, host id, size)."""
    return [(m["containerID"], m["hostID"], m["size"]) for m in mappings]
