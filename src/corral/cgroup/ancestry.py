"""What the groups above a container's must be given before it can use its own. Pure but for the reader passed in.

v1: a new cpuset is empty and takes no process until it has CPUs and memory nodes. v2: a controller reaches a group
only if every group above it has it in ``cgroup.subtree_control``; and a group below a threaded one is unusable until
it is threaded too.

Source: Documentation/admin-guide/cgroup-v1/cpusets.rst 1.4; cgroup-v2.rst "Enabling and Disabling", "Threads".
"""

from __future__ import annotations

from corral.errors import FailedPrecondition, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.cgroup.layout import Hierarchy

    # The text of a file, None if it (or its directory) does not exist.
    Reader = Callable[[str], str | None]

__all__ = ["AncestorWrite", "cpuset_writes", "directories_to", "subtree_writes", "type_write"]

# Those that work within a process (cgroup-v2.rst "Threads").
_THREADED = ("cpu", "cpuset", "perf_event", "pids")


class AncestorWrite:
    """Write ``value`` to ``file`` of ``directory``, which exists by then.

    ``is_needed``: a limit or the attach depends on it, so that a refusal ends the operation; otherwise it only makes
    statistics richer and a refusal is passed over.
    """

    __slots__ = ("controller", "directory", "file", "is_needed", "value")

    def __init__(self, directory: str, file: str, value: str, *, controller: str, is_needed: bool) -> None:
        self.directory = directory
        self.file = file
        self.value = value
        self.controller = controller
        self.is_needed = is_needed

    @property
    def _key(self) -> tuple[str, str, str, str, bool]:
        return (self.directory, self.file, self.value, self.controller, self.is_needed)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, AncestorWrite) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"AncestorWrite({self.directory}/{self.file} <- {self.value!r}, needed={self.is_needed})"


def directories_to(hierarchy: Hierarchy, path: str) -> list[str]:
    """The directories from the mount point (first) down to ``path`` (last), which is absolute within the mount."""
    directories = [hierarchy.directory("/")]
    at = ""
    for component in path.strip("/").split("/"):
        if component:
            at += f"/{component}"
            directories.append(hierarchy.directory(at))
    return directories


def cpuset_writes(hierarchy: Hierarchy, path: str, read: Reader) -> list[AncestorWrite]:
    """v1: CPUs and nodes for each group from the top down to ``path`` that has none, copied from the one above.

    Groups that have a set already, which others may be using, are left as they are. Of a group that does not exist
    yet, ``read`` returns None, and it is written to.
    """
    writes = []
    for name in ("cpuset.cpus", "cpuset.mems"):
        inherited = ""
        for directory in directories_to(hierarchy, path):
            own = (read(f"{directory}/{name}") or "").strip()
            if own:
                inherited = own
            elif inherited:
                writes.append(AncestorWrite(directory, name, inherited, controller="cpuset", is_needed=True))
    # From the top down, both files of a level together: a child's set must lie within its parent's.
    writes.sort(key=lambda write: write.directory.count("/"))
    return writes


def subtree_writes(
    hierarchy: Hierarchy, path: str, needed: Sequence[str], read: Reader, *, for_statistics: bool = False
) -> list[AncestorWrite]:
    """v2: the controllers to enable in each group above ``path``, from the top down, one per write.

    One per write, since the kernel takes all of a write or nothing of it. Enabled are ``needed`` (by limits) and,
    ``for_statistics``, all others that the mount offers, where that works; on a hybrid host v1 has the statistics,
    and groups above are best left as they are. What a group has already is not written: the top of a delegated
    tree usually is not ours to write to.
    """
    optional = [name for name in hierarchy.controllers if name not in needed] if for_statistics else []
    writes: list[AncestorWrite] = []
    for directory in directories_to(hierarchy, path)[:-1]:
        enabled = (read(f"{directory}/cgroup.subtree_control") or "").split()
        missing = [name for name in (*needed, *optional) if name not in enabled]
        if missing and read(f"{directory}/cgroup.type") is not None and read(f"{directory}/cgroup.procs"):
            _raise_if_needed(directory, missing, needed)
            continue
        writes.extend(
            AncestorWrite(directory, "cgroup.subtree_control", f"+{name}", controller=name, is_needed=name in needed)
            for name in missing
        )
    return writes


def _raise_if_needed(directory: str, missing: Sequence[str], needed: Sequence[str]) -> None:
    """Raise for the first of ``missing`` that a limit needs in a group below ``directory``, which has processes."""
    for name in missing:
        if name in needed:
            raise FailedPrecondition(
                f"enable controller {name!r} below {directory!r}: the group has processes of its own",
                hint="place the group elsewhere, or move those processes to a group of their own",
                path=directory,
                phase="cgroup",
            )


def type_write(directory: str, text: str, needed: Sequence[str], *, pointer: str = "") -> AncestorWrite | None:
    """What to write to ``cgroup.type`` of ``directory``, whose text it is, so that ``needed`` controllers work there.

    None when nothing is to be written. ``domain invalid`` is a group below a threaded one: it can only become
    threaded, which does for controllers that work within a process.
    Raises: Unsupported when a needed controller cannot work in a threaded group.
    """
    kind = text.strip()
    if kind in ("", "domain"):
        return None
    blocked = [name for name in needed if name not in _THREADED]
    if blocked:
        raise Unsupported(
            f"use controller {blocked[0]!r} in {directory!r}: the group is of type {kind!r}, where it does not work",
            hint="place the container outside the threaded subtree (cgroupsPath)",
            pointer=pointer,
            path=directory,
            phase="cgroup",
        )
    if kind != "domain invalid":
        return None
    return AncestorWrite(directory, "cgroup.type", "threaded", controller="", is_needed=True)
