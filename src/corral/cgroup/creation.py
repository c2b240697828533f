"""Making a group in every hierarchy, so that limits can be written to it and a process can enter it.

The runtime's executor does the same from a plan; this is for those who use the library by itself. Only what a call
made is taken back when it cannot go on.

Source: cgroup-v2.rst "Organizing Processes and Threads", "Enabling and Disabling"; cgroup-v1/cpusets.rst 1.4.
"""

from __future__ import annotations

import errno
import os

from corral.cgroup.ancestry import cpuset_writes, subtree_writes, type_write
from corral.cgroup.group import inspect_existing
from corral.cgroup.handles import from_os_error, open_beneath, open_child, read_at, write_at
from corral.cgroup.member import Member, members_of
from corral.cgroup.removal import remove_parents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.cgroup.ancestry import AncestorWrite
    from corral.cgroup.layout import Hierarchy, Layout
    from corral.cgroup.location import Placement

__all__ = ["CreatedGroup", "create_group", "make_directories", "prepare_group"]


class CreatedGroup:
    """What ``create_group`` leaves: ``members``, the group in each hierarchy with its inode, to open it by.

    Of them ``made`` are new, the others stood there empty. ``parents`` are the groups above that had to be made.
    Remove the former with ``remove_group``, then the latter with ``remove_parents``; what was there stays.
    """

    __slots__ = ("made", "members", "parents")

    def __init__(self, members: list[Member], made: list[Member], parents: list[Member]) -> None:
        self.members = members
        self.made = made
        self.parents = parents

    def __repr__(self) -> str:
        return f"CreatedGroup({self.members!r}, made={self.made!r}, parents={self.parents!r})"


def create_group(
    layout: Layout, placement: Placement, *, controllers: Mapping[int, Sequence[str]] | None = None
) -> CreatedGroup:
    """Make the group of ``placement``, with the groups above it, in each hierarchy, ready for limits and processes.

    ``controllers``: those that limits need, by hierarchy index (``Compiled.controllers``). On v2 they are enabled in
    the groups above; all others are too, where that works, on a host that has v2 only. An existing empty group is
    joined. Nobody but us enters a group between making and attaching: check ``Group.list_all_pids`` if others might.
    Raises: FailedPrecondition when it is populated or frozen, PermissionDenied, ResourceExhausted (the bounds of a
    group above), Unsupported (below a threaded group). Nothing that this call made is left then.
    """
    inspect_existing(members_of(layout, placement)).raise_unless_free()
    made: list[Member] = []
    parents: list[Member] = []
    members: list[Member] = []
    try:
        for hierarchy, path in zip(layout.hierarchies, placement.paths, strict=True):
            if path is None:
                continue
            inode = make_directories(hierarchy, path, made, parents)
            members.append(Member(hierarchy.version, hierarchy.controllers, hierarchy.mount_point, path, inode=inode))
            prepare_group(layout, hierarchy, path, (controllers or {}).get(hierarchy.index, ()))
    except BaseException:
        remove_parents([*made, *parents])
        raise
    return CreatedGroup(members, made, parents)


def make_directories(hierarchy: Hierarchy, path: str, made: list[Member], parents: list[Member]) -> int:
    """Make ``path`` component by component; returns its inode.

    What is new is added: the last component to ``made``, those above to ``parents``. Raises: as ``create_group``.
    """
    components = [name for name in path.split("/") if name]
    at, fd = "", -1
    try:
        fd = open_beneath(hierarchy.mount_point, "/")
        for number, name in enumerate(components, 1):
            at += f"/{name}"
            member = Member(hierarchy.version, hierarchy.controllers, hierarchy.mount_point, at)
            if _mkdir(name, fd):
                # Noted before anything else can go wrong.
                (made if number == len(components) else parents).append(member)
            below = open_child(name, fd)
            os.close(fd)
            fd = below
            member.inode = os.fstat(fd).st_ino
        return os.fstat(fd).st_ino
    except OSError as exc:
        raise from_os_error("make group", hierarchy.directory(at or "/"), exc) from exc
    finally:
        if fd >= 0:
            os.close(fd)


def _mkdir(name: str, parent_fd: int) -> bool:
    """Make a directory unless it exists; whether it is new."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent_fd)
    except FileExistsError:
        return False
    return True


def prepare_group(layout: Layout, hierarchy: Hierarchy, path: str, needed: Sequence[str]) -> None:
    """Write what the groups above, and a v1 cpuset itself, need before the group can be used.

    Raises: as ``create_group``; what was written stays, as more than one group may need it.
    """

    def read(file: str) -> str | None:
        directory, _, name = file.rpartition("/")
        return _read_or_none(hierarchy, directory, name)

    if hierarchy.version == 1:
        if "cpuset" in hierarchy.controllers:
            _write_all(hierarchy, cpuset_writes(hierarchy, path, read))
        return
    _write_all(hierarchy, subtree_writes(hierarchy, path, needed, read, for_statistics=layout.mode == "v2"))
    directory = hierarchy.directory(path)
    kind = type_write(directory, read(f"{directory}/cgroup.type") or "", needed)
    if kind is not None:
        _write_all(hierarchy, [kind])


def _read_or_none(hierarchy: Hierarchy, directory: str, name: str) -> str | None:
    try:
        fd = open_beneath(hierarchy.mount_point, directory[len(hierarchy.mount_point.rstrip("/")) :])
        try:
            return read_at(fd, name)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise from_os_error("read", f"{directory}/{name}", exc) from exc


def _write_all(hierarchy: Hierarchy, writes: Sequence[AncestorWrite]) -> None:
    for write in writes:
        try:
            fd = open_beneath(hierarchy.mount_point, write.directory[len(hierarchy.mount_point.rstrip("/")) :])
            try:
                write_at(fd, write.file, write.value)
            finally:
                os.close(fd)
        except OSError as exc:
            if write.is_needed:
                raise from_os_error(f"write {write.value!r} to", f"{write.directory}/{write.file}", exc) from exc
