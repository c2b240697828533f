"""Where a container's group is: typed locations, the one parser of ``linux.cgroupsPath``, and their directories.

A path in systemd's form is never read as a directory, nor the other way round. A relative path is resolved exactly
once, by ``place``; what is recorded afterwards is absolute (docs/adr/0005-relative-cgroups-path.md).

Source: runtime-spec config-linux.md#cgroups-path; the grammar ``slice:prefix:name`` is runc's.
"""

from __future__ import annotations

from corral.errors import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.layout import Hierarchy, Layout

__all__ = [
    "CGROUPFS",
    "DISABLED",
    "SYSTEMD",
    "CgroupfsLocation",
    "Placement",
    "SystemdLocation",
    "parse_cgroups_path",
    "place",
]

CGROUPFS = "cgroupfs"
SYSTEMD = "systemd"
DISABLED = "disabled"

POINTER = "linux.cgroupsPath"
_NAME_MAX = 255


class CgroupfsLocation:
    """A directory by its path within each hierarchy.

    ``path`` starts with "/" and then means the same in every hierarchy, or does not and is still to be resolved by
    ``place``. ``is_explicit`` tells what the config asked for from the default made of the container's id: only
    an explicit one must not be given up silently.
    """

    __slots__ = ("is_explicit", "path")

    driver = CGROUPFS

    def __init__(self, path: str, *, is_explicit: bool = True) -> None:
        self.path = path
        self.is_explicit = is_explicit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CgroupfsLocation):
            return NotImplemented
        return (self.path, self.is_explicit) == (other.path, other.is_explicit)

    def __hash__(self) -> int:
        return hash((self.path, self.is_explicit))

    def __repr__(self) -> str:
        return f"CgroupfsLocation({self.path!r}, is_explicit={self.is_explicit})"

    @property
    def is_relative(self) -> bool:
        """The place depends on the group of the process that resolves it."""
        return not self.path.startswith("/")

    def __str__(self) -> str:
        return self.path


class SystemdLocation:
    """A unit: ``name`` (or ``prefix-name.scope``) in ``slice``. Empty ``slice`` or ``prefix``: the driver's default."""

    __slots__ = ("is_explicit", "name", "prefix", "slice")

    driver = SYSTEMD

    # The word is systemd's; nothing in this class needs the builtin.
    def __init__(self, slice: str, prefix: str, name: str, *, is_explicit: bool = True) -> None:  # noqa: A002
        self.slice = slice
        self.prefix = prefix
        self.name = name
        self.is_explicit = is_explicit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SystemdLocation):
            return NotImplemented
        return str(self) == str(other) and self.is_explicit == other.is_explicit

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"SystemdLocation({self.slice!r}, {self.prefix!r}, {self.name!r}, is_explicit={self.is_explicit})"

    def __str__(self) -> str:
        return f"{self.slice}:{self.prefix}:{self.name}"

    @property
    def unit(self) -> str:
        """The unit's name: a name ending in ``.slice`` is the unit itself, else it is a scope."""
        if self.name.endswith(".slice"):
            return self.name
        return f"{self.prefix}-{self.name}.scope" if self.prefix else f"{self.name}.scope"


class Placement:
    """A location resolved against a layout.

    ``paths[i]`` is the absolute path within ``layout.hierarchies[i]`` and ``directories[i]`` the directory; both are
    None where Corral does not use the hierarchy, and ``absences[i]`` then says why (else it is empty).
    """

    __slots__ = ("absences", "directories", "location", "paths")

    def __init__(
        self,
        location: CgroupfsLocation,
        paths: tuple[str | None, ...],
        directories: tuple[str | None, ...],
        absences: tuple[str, ...],
    ) -> None:
        self.location = location
        self.paths = paths
        self.directories = directories
        self.absences = absences

    def __repr__(self) -> str:
        return f"Placement({self.location!r}, {self.directories!r})"


def parse_cgroups_path(
    text: str | None, *, driver: str, container_id: str, default_prefix: str = "corral"
) -> CgroupfsLocation | SystemdLocation:
    """What ``linux.cgroupsPath`` means to ``driver`` (``cgroupfs`` or ``systemd``). Absent or empty: the default.

    The default is the container's id, relative (cgroupfs) or as ``default_prefix-ID.scope`` in the driver's slice.
    Raises: InvalidArgument, naming path and driver, for the other driver's form, for "..", for the root group and
    for names that the kernel or systemd refuses.
    """
    if driver == SYSTEMD:
        if not text:
            return SystemdLocation("", default_prefix, container_id, is_explicit=False)
        return _parse_systemd(text)
    if driver != CGROUPFS:
        raise InvalidArgument(
            f"choose cgroup driver {driver!r}: it is neither 'cgroupfs' nor 'systemd'",
            hint="a third choice of --cgroup-manager is 'disabled': containers without groups",
        )
    if not text:
        return CgroupfsLocation(_normal(container_id, container_id), is_explicit=False)
    if is_systemd_form(text):
        raise _refusal(
            text,
            CGROUPFS,
            "it is in the systemd form 'slice:prefix:name'",
            hint="ask for the systemd driver (--systemd-cgroup), or give a path that begins with '/'",
        )
    return CgroupfsLocation(_normal(text, text))


def is_systemd_form(text: str) -> bool:
    """No leading slash and exactly two colons: ``slice:prefix:name``."""
    return not text.startswith("/") and text.count(":") == 2


def place(location: CgroupfsLocation, layout: Layout) -> Placement:
    """Resolve ``location`` in every hierarchy of ``layout``; pure.

    An absolute path is the same in each, counted from what the mount shows. A relative one is joined to this
    process's own group: below it on v1; on v2 beside it, since a v2 group that holds processes cannot give
    controllers to its children.
    Raises: FailedPrecondition when it is relative and no hierarchy shows this process's group.
    """
    paths: list[str | None] = []
    absences: list[str] = []
    for hierarchy in layout.hierarchies:
        path, reason = _path_in(location, hierarchy)
        paths.append(path)
        absences.append(reason)
    if layout.hierarchies and location.is_relative and not any(paths):
        raise FailedPrecondition(
            f"resolve cgroup path {location.path!r}: it is relative, and no mounted hierarchy shows this process's "
            "own group",
            hint="give an absolute cgroupsPath, or mount the control groups inside this cgroup namespace",
            pointer=POINTER if location.is_explicit else "",
            phase="cgroup",
        )
    directories = tuple(
        None if path is None else hierarchy.directory(path)
        for path, hierarchy in zip(paths, layout.hierarchies, strict=True)
    )
    return Placement(location, tuple(paths), directories, tuple(absences))


def _path_in(location: CgroupfsLocation, hierarchy: Hierarchy) -> tuple[str | None, str]:
    if hierarchy.is_named and hierarchy.controllers != ("name=systemd",):
        return None, f"the hierarchy {hierarchy.label} belongs to another program"
    if not location.is_relative:
        return location.path, ""
    own = hierarchy.visible_own_path
    if own is None:
        return None, f"the mount {hierarchy.mount_point!r} does not show this process's group {hierarchy.own_path!r}"
    if hierarchy.version == 2:
        own = own.rpartition("/")[0] or "/"
    return f"{own.rstrip('/')}/{location.path}", ""


def _normal(path: str, shown: str) -> str:
    """``path`` without empty and "." components. Refused, not repaired: "..", the root, odd names."""
    components = [c for c in path.split("/") if c not in ("", ".")]
    if not components:
        raise _refusal(shown, CGROUPFS, "it names the root group", hint="name a group of the container's own")
    for component in components:
        if component == "..":
            raise _refusal(shown, CGROUPFS, "it has a '..' component", hint="give the path without '..'")
        if ":" in component:
            raise _refusal(shown, CGROUPFS, "a directory name with ':' is never made", hint=_COLON_HINT)
        if "\n" in component or "\0" in component:
            raise _refusal(shown, CGROUPFS, "it has a newline or NUL character")
        if len(component.encode("utf-8", "surrogateescape")) > _NAME_MAX:
            raise _refusal(shown, CGROUPFS, f"a component is longer than {_NAME_MAX} bytes")
        if component in ("tasks", "notify_on_release") or component.startswith("cgroup."):
            raise _refusal(shown, CGROUPFS, f"{component!r} is a control file's name")
    return ("/" if path.startswith("/") else "") + "/".join(components)


_COLON_HINT = "the systemd form 'slice:prefix:name' has no leading slash and needs the systemd driver"


def _parse_systemd(text: str) -> SystemdLocation:
    if not is_systemd_form(text):
        raise _refusal(
            text,
            SYSTEMD,
            "it is not of the form 'slice:prefix:name'",
            hint="leave --systemd-cgroup out for a plain path, or write 'system.slice:prefix:name'",
        )
    slice_name, prefix, name = text.split(":")
    if not name:
        raise _refusal(text, SYSTEMD, "the name after the second colon is empty")
    if slice_name and (not slice_name.endswith(".slice") or _is_bad_slice(slice_name)):
        raise _refusal(text, SYSTEMD, f"{slice_name!r} is not a slice's name", hint="a slice is named 'a-b.slice'")
    for part in (slice_name, prefix, name):
        if "/" in part or part in (".", "..") or any(c < "!" or c == "\x7f" for c in part):
            raise _refusal(text, SYSTEMD, f"{part!r} cannot be part of a unit's name")
    return SystemdLocation(slice_name, prefix, name)


def _is_bad_slice(name: str) -> bool:
    """systemd.slice(5): no leading or trailing dash, no two in a row; ``-.slice`` is the root."""
    stem = name.removesuffix(".slice")
    return stem != "-" and (not stem or stem.startswith("-") or stem.endswith("-") or "--" in stem)


def _refusal(path: str, driver: str, cause: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(
        f"place group at {path!r} with the {driver} driver: {cause}", hint=hint, pointer=POINTER, phase="cgroup"
    )
