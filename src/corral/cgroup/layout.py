"""The host's control group hierarchies as seen from this process: which, where, with what controllers.

Owns the answer to "v1, hybrid or v2" and the way from a path inside a hierarchy to a directory. Knows nothing of
containers, limits or drivers. Facts come from two texts, /proc/self/mountinfo and /proc/self/cgroup, so that every
odd host is a test case of two strings.

Source: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5), cgroup-v2.rst "Namespace".
"""

from __future__ import annotations

from corral.linux.mountinfo import parse_mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from corral.linux.mountinfo import Mount

__all__ = ["Hierarchy", "Layout", "parse_layout", "read_controllers", "read_layout"]

# Always there on v2, as files of the core rather than as controllers of cgroup.controllers.
_V2_CORE = ("freezer", "cpuacct")


class Hierarchy:
    """One mounted hierarchy.

    ``index`` is its place in ``Layout.hierarchies``; ``version`` is 1 or 2; ``controllers`` is what it carries
    (co-mounted v1 controllers together, a named v1 hierarchy as ``name=x``, on v2 those of the mount's root);
    ``mount_root`` is the directory of the hierarchy that the mount shows at ``mount_point`` (not "/" in a bind mount);
    ``own_path`` is this process's group as the kernel tells it, relative to the cgroup namespace's root.
    """

    __slots__ = ("controllers", "index", "is_read_only", "mount_point", "mount_root", "own_path", "version")

    def __init__(
        self,
        index: int,
        version: int,
        controllers: tuple[str, ...],
        *,
        mount_point: str,
        mount_root: str = "/",
        own_path: str = "/",
        is_read_only: bool = False,
    ) -> None:
        self.index = index
        self.version = version
        self.controllers = controllers
        self.mount_point = mount_point
        self.mount_root = mount_root
        self.own_path = own_path
        self.is_read_only = is_read_only

    def __repr__(self) -> str:
        return f"Hierarchy(v{self.version} {','.join(self.controllers) or '-'} at {self.mount_point!r})"

    @property
    def label(self) -> str:
        """How messages call it: the controllers on v1, ``cgroup2`` on v2."""
        return "cgroup2" if self.version == 2 else ",".join(self.controllers)

    @property
    def is_named(self) -> bool:
        """It is a v1 hierarchy without controllers, which some init system keeps for its own tracking."""
        return self.version == 1 and len(self.controllers) == 1 and self.controllers[0].startswith("name=")

    @property
    def visible_own_path(self) -> str | None:
        """This process's group as a path below ``mount_point``; None if the mount does not show it.

        It is not shown when the mount is a bind of some other sub-tree, or when this process was moved out of its
        cgroup namespace's root (the kernel then says ``/..``).
        """
        own, root = self.own_path, self.mount_root
        if ".." in own.split("/"):
            return None
        if root == "/":
            return own
        if own == root:
            return "/"
        if own.startswith(root + "/"):
            return own[len(root) :]
        return None

    def directory(self, path: str) -> str:
        """The directory of ``path``, which is absolute within what the mount shows ("/" is ``mount_point``)."""
        return self.mount_point if path == "/" else self.mount_point.rstrip("/") + path


class Layout:
    """All hierarchies that this process can reach. ``mode`` is ``v1``, ``hybrid`` (both kinds), ``v2`` or ``none``."""

    __slots__ = ("hierarchies", "mode")

    def __init__(self, hierarchies: tuple[Hierarchy, ...]) -> None:
        self.hierarchies = hierarchies
        versions = {hierarchy.version for hierarchy in hierarchies}
        if not versions:
            self.mode = "none"
        elif versions == {2}:
            self.mode = "v2"
        else:
            self.mode = "hybrid" if 2 in versions else "v1"

    def __repr__(self) -> str:
        return f"Layout({self.mode}: {list(self.hierarchies)!r})"

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 hierarchy, whether it carries controllers or not."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                return hierarchy
        return None

    def hierarchy_for(self, controller: str) -> Hierarchy | None:
        """The hierarchy that carries ``controller``; None when this host has none (not mounted, or switched off).

        ``freezer`` and ``cpuacct`` are part of the core on v2, so there they are found whenever no v1 hierarchy has
        them. ``devices`` on v2 is a BPF program, not a controller: None.
        """
        for hierarchy in self.hierarchies:
            if controller in hierarchy.controllers:
                return hierarchy
        return self.unified if controller in _V2_CORE else None


def parse_layout(
    mountinfo_text: str, self_cgroup_text: str, v2_controllers: Callable[[str], str] = lambda mount_point: ""
) -> Layout:
    """The layout that the texts of /proc/self/mountinfo and /proc/self/cgroup describe.

    ``v2_controllers`` is called with the mount point chosen for v2 and returns the text of its cgroup.controllers.
    A hierarchy that is mounted several times is listed once: a mount that shows this process's own group goes
    before one that does not, then a writable one, then one that shows the whole hierarchy, then the first.
    Mounts hidden beneath later ones do not count.
    """
    mounts = [m for m in _visible(parse_mountinfo(_relevant(mountinfo_text))) if m.fstype in ("cgroup", "cgroup2")]
    found: list[Hierarchy] = []
    for line in self_cgroup_text.splitlines():
        _, _, rest = line.partition(":")
        names, colon, own_path = rest.partition(":")
        if not colon or not own_path.startswith("/"):
            continue
        # A group removed while this process was in it is marked so; its parent's name is not told.
        own_path = own_path.removesuffix(" (deleted)")
        controllers = tuple(names.split(",")) if names else ()
        candidates = [
            _hierarchy(len(found), mount, controllers, own_path) for mount in mounts if _carries(mount, controllers)
        ]
        if candidates:
            best = min(candidates, key=_badness)
            if best.version == 2:
                best.controllers = tuple(v2_controllers(best.mount_point).split())
            found.append(best)
    return Layout(tuple(found))


def read_layout(proc: str = "/proc") -> Layout:
    """The layout of this process, read anew. A host without /proc or control groups has mode ``none``."""
    try:
        mountinfo = _read_text(f"{proc}/self/mountinfo")
        own = _read_text(f"{proc}/self/cgroup")
    except FileNotFoundError:
        return Layout(())
    return parse_layout(mountinfo, own, read_controllers)


def read_controllers(directory: str) -> str:
    """The text of ``directory``'s cgroup.controllers, empty if it cannot be read."""
    try:
        return _read_text(f"{directory}/cgroup.controllers")
    except OSError:
        return ""


def _read_text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def _relevant(text: str) -> str:
    """Only the lines that matter: cgroup mounts, and whatever is mounted at or above one of them.

    A node may have thousands of mounts and this runs before every container, so the others are not even split.
    """
    chosen = _lines_with(text, " - cgroup")
    above: set[str] = set()
    for line in chosen.values():
        point = _mount_point(line)
        while point and point not in above:
            above.add(point)
            point = point.rpartition("/")[0]
    # One search for all that is mounted below the same top directory, mostly /sys.
    for top in {point.split("/", 2)[1] for point in above}:
        near = _lines_with(text, f" /{top}")
        chosen.update({place: line for place, line in near.items() if _mount_point(line) in above})
    return "\n".join(chosen[place] for place in sorted(chosen))


def _mount_point(line: str) -> str:
    fields = line.split(" ", 5)
    return fields[4] if len(fields) > 5 and fields[4].startswith("/") else ""


def _lines_with(text: str, needle: str) -> dict[int, str]:
    """The lines that contain ``needle``, by where they begin."""
    lines = {}
    at = text.find(needle)
    while at >= 0:
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        end = len(text) if end < 0 else end
        lines[start] = text[start:end]
        at = text.find(needle, end)
    return lines


def _visible(mounts: Sequence[Mount]) -> Iterable[Mount]:
    """Those not covered: M is when a later mount at, or above, its mount point is not one M itself stands on."""
    parents = {mount.mount_id: mount.parent_id for mount in mounts}
    for place, mount in enumerate(mounts):
        ancestors = set()
        at = mount.mount_id
        while at in parents and at not in ancestors:
            ancestors.add(at)
            at = parents[at]
        if not any(
            later.mount_id not in ancestors and _is_at_or_above(later.mount_point, mount.mount_point)
            for later in mounts[place + 1 :]
        ):
            yield mount


def _is_at_or_above(upper: str, path: str) -> bool:
    return path == upper or path.startswith(upper.rstrip("/") + "/")


def _carries(mount: Mount, controllers: tuple[str, ...]) -> bool:
    if not controllers:
        return mount.fstype == "cgroup2"
    return mount.fstype == "cgroup" and all(name in mount.super_options for name in controllers)


def _hierarchy(index: int, mount: Mount, controllers: tuple[str, ...], own_path: str) -> Hierarchy:
    return Hierarchy(
        index,
        2 if mount.fstype == "cgroup2" else 1,
        controllers,
        mount_point=mount.mount_point,
        # A mount made outside this cgroup namespace, above its root, shows "/.." here; its top is then above ours,
        # and no path that we know leads from it to our own group.
        mount_root=mount.root.rstrip("/") or "/",
        own_path=own_path,
        is_read_only="ro" in mount.options or "ro" in mount.super_options,
    )


def _badness(hierarchy: Hierarchy) -> tuple[bool, bool, bool]:
    return (hierarchy.visible_own_path is None, hierarchy.is_read_only, hierarchy.mount_root != "/")
