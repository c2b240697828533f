"""A group's place in one hierarchy, as it is recorded. Data only."""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cgroup.layout import Layout
    from corral.cgroup.location import Placement

__all__ = ["Member", "members_below", "members_of"]


class Member:
    """A group's place in one hierarchy, as it is recorded: which hierarchy, which path, which inode (0: not known)."""

    __slots__ = ("controllers", "inode", "mount_point", "path", "version")

    def __init__(
        self, version: int, controllers: tuple[str, ...], mount_point: str, path: str, *, inode: int = 0
    ) -> None:
        self.version = version
        self.controllers = controllers
        self.mount_point = mount_point
        self.path = path
        self.inode = inode

    @property
    def directory(self) -> str:
        return self.mount_point.rstrip("/") + self.path

    def __repr__(self) -> str:
        return f"Member({self.directory!r})"

    def to_record(self) -> dict[str, object]:
        """For the container's state file."""
        return {
            "version": self.version,
            "controllers": list(self.controllers),
            "mount_point": self.mount_point,
            "path": self.path,
            "inode": self.inode,
        }

    @classmethod
    def from_record(cls, record: dict[str, object]) -> Member:
        """The inverse of ``to_record``. Raises: InvalidArgument for a record that is not one."""
        version, controllers, inode = record.get("version"), record.get("controllers"), record.get("inode", 0)
        mount_point, path = record.get("mount_point"), record.get("path")
        if (
            not isinstance(version, int)
            or version not in (1, 2)
            or not isinstance(controllers, list)
            or not isinstance(inode, int)
            or not isinstance(mount_point, str)
            or not isinstance(path, str)
            or not (mount_point.startswith("/") and path.startswith("/") and path.strip("/"))
            or ".." in path.split("/")
        ):
            raise InvalidArgument(f"read record of group {path!r}: a field is missing or of the wrong kind")
        return cls(version, tuple(str(name) for name in controllers), mount_point, path, inode=inode)


def members_of(layout: Layout, placement: Placement) -> list[Member]:
    """The members of a placed location, for the hierarchies that are used; inodes are not known yet."""
    return [
        Member(hierarchy.version, hierarchy.controllers, hierarchy.mount_point, path)
        for hierarchy, path in zip(layout.hierarchies, placement.paths, strict=True)
        if path is not None
    ]


def members_below(members: Sequence[Member], path: str) -> list[Member]:
    """The places of the group ``path`` (relative) below that of ``members``, in the same hierarchies.

    Raises: InvalidArgument for a path that leads elsewhere.
    """
    names = path.split("/")
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise InvalidArgument(f"place group {path!r} below another: it is not a plain relative path")
    return [
        Member(member.version, member.controllers, member.mount_point, f"{member.path.rstrip('/')}/{path}")
        for member in members
    ]
