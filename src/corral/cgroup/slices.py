"""systemd's names: escaping, how slices nest, and the group that a unit gets. Pure.

Knows nothing of D-Bus and of limits. What systemd itself says of a running unit (its ``ControlGroup``) has the last
word; this is for knowing the place beforehand, and for comparing.

Source: systemd.slice(5), systemd.unit(5) "String Escaping for Inclusion in Unit Names", systemd-escape(1).
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cgroup.location import SystemdLocation

__all__ = [
    "ROOT_SLICE",
    "SYSTEM_SLICE",
    "USER_SLICE",
    "UnitPlace",
    "directory_name",
    "escape_name",
    "escape_path",
    "nest_slice",
    "parent_slice",
    "place_unit",
    "slice_from_path",
    "slice_path",
    "unescape_name",
]

ROOT_SLICE = "-.slice"
# Where a container goes that names no slice. runc's choices; a user manager has its own "user.slice" below itself.
SYSTEM_SLICE = "system.slice"
USER_SLICE = "user.slice"

_SUFFIX = ".slice"
_NAME_MAX = 255
_PLAIN = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_.")
# "-" and "\" are what the escaping itself writes; "@" separates an instance.
_IN_UNITS = _PLAIN | frozenset("-\\@")
_TYPES = (".scope", _SUFFIX)
# Directory names that the kernel gives to files of its own, by their first part.
_CONTROLLERS = frozenset(
    "cpu cpuacct cpuset io blkio memory devices freezer pids hugetlb rdma misc dmem net_cls net_prio perf_event".split()
)


class UnitPlace:
    """Where a unit's group is: ``unit`` in ``slice`` (systemd's ``Slice=``), ``path`` within each hierarchy.

    ``parents`` are the slices from the outermost to ``slice``; empty for a unit right in the root slice.
    """

    __slots__ = ("parents", "path", "slice", "unit")

    # The word is systemd's.
    def __init__(self, unit: str, slice: str, path: str, parents: tuple[str, ...]) -> None:  # noqa: A002
        self.unit = unit
        self.slice = slice
        self.path = path
        self.parents = parents

    def __repr__(self) -> str:
        return f"UnitPlace({self.unit!r} in {self.slice!r} at {self.path!r})"

    @property
    def is_slice(self) -> bool:
        """The unit is a slice: it holds groups, takes no pids, and is not delegated."""
        return self.unit.endswith(_SUFFIX)


def escape_name(text: str) -> str:
    r"""``text`` as part of a unit's name: "/" becomes "-", what is not in ``[A-Za-z0-9:_.]`` ``\xNN`` by byte."""
    parts = []
    for at, byte in enumerate(text.encode("utf-8", "surrogateescape")):
        char = chr(byte)
        if char == "/":
            parts.append("-")
        elif char not in _PLAIN or (at == 0 and char == "."):
            parts.append(f"\\x{byte:02x}")
        else:
            parts.append(char)
    return "".join(parts)


def unescape_name(name: str) -> str:
    r"""The inverse of ``escape_name``. Raises: InvalidArgument for a backslash that begins no ``\xNN``."""
    data = bytearray()
    at = 0
    raw = name.encode("utf-8", "surrogateescape")
    while at < len(raw):
        if raw[at : at + 1] == b"-":
            data += b"/"
        elif raw[at : at + 1] == b"\\":
            digits = raw[at + 2 : at + 4]
            if raw[at + 1 : at + 2] != b"x" or len(digits) < 2 or set(digits) - set(b"0123456789abcdefABCDEF"):
                raise InvalidArgument(f"unescape unit name {name!r}: a backslash begins no \\xNN at byte {at}")
            data.append(int(digits, 16))
            at += 3
        else:
            data += raw[at : at + 1]
        at += 1
    return data.decode("utf-8", "surrogateescape")


def escape_path(path: str) -> str:
    """``path`` as systemd names units after paths: without outer and repeated slashes; "/" is "-"."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument(f"escape path {path!r}: it has a '..' component")
    return escape_name("/".join(parts)) if parts else "-"


def nest_slice(name: str) -> tuple[str, ...]:
    """The slices from the outermost to ``name``: ``a-b.slice`` gives ``("a.slice", "a-b.slice")``, the root none.

    Raises: InvalidArgument for what is no slice's name.
    """
    if name == ROOT_SLICE:
        return ()
    stem = name.removesuffix(_SUFFIX)
    words = stem.split("-")
    if stem == name or not all(words):
        raise InvalidArgument(
            f"place slice {name!r}: it is not a slice's name",
            hint="a slice is named 'a-b.slice': no dash at either end, no two in a row",
            phase="cgroup",
        )
    _check_unit(name)
    return tuple("-".join(words[: depth + 1]) + _SUFFIX for depth in range(len(words)))


def parent_slice(name: str) -> str:
    """The slice that slice ``name`` lies in; the root lies in itself."""
    return (ROOT_SLICE, *nest_slice(name))[-2] if name != ROOT_SLICE else ROOT_SLICE


def slice_from_path(path: str) -> str:
    """The slice whose group is the absolute ``path``: the inverse of nesting. "/" is the root slice.

    What kubelet hands to a runtime as a pod's parent (``/kubepods.slice/kubepods-podX.slice``).
    Raises: InvalidArgument when the components do not nest as systemd nests them.
    """
    names = [part for part in path.split("/") if part]
    if not path.startswith("/"):
        raise InvalidArgument(f"read slice from path {path!r}: the path is not absolute", phase="cgroup")
    if not names:
        return ROOT_SLICE
    if nest_slice(names[-1]) != tuple(names):
        raise InvalidArgument(
            f"read slice from path {path!r}: slice {names[-1]!r} lies at {slice_path(names[-1])!r}",
            hint="systemd nests slices by the dashes in their names",
            phase="cgroup",
        )
    return names[-1]


def slice_path(name: str) -> str:
    """The group of slice ``name``: "" for the root, else with a leading slash and none at the end."""
    return "".join(f"/{directory_name(part)}" for part in nest_slice(name))


def directory_name(unit: str) -> str:
    """The directory that systemd makes for ``unit``: its name, behind a "_" where the kernel would misread it.

    Source: systemd's Control Group APIs and Delegation, "escaping"; ``memory.scope`` would be a controller's file.
    """
    head, dot, _ = unit.partition(".")
    if unit in ("tasks", "notify_on_release", "release_agent") or unit[:1] in ("_", "."):
        return f"_{unit}"
    return f"_{unit}" if dot and (head == "cgroup" or head in _CONTROLLERS) else unit


def place_unit(location: SystemdLocation, *, is_user: bool = False, manager_path: str = "") -> UnitPlace:
    """Unit, slice and group of ``location``.

    ``is_user``: a user manager runs it, whose own group is ``manager_path`` (the system's is "" or "/").
    Raises: InvalidArgument for names that systemd does not take, and for a slice that cannot lie where it is asked.
    """
    unit = location.unit
    _check_unit(unit)
    asked = location.slice
    if unit.endswith(_SUFFIX):
        if unit == ROOT_SLICE:
            raise InvalidArgument("place unit '-.slice': it is the root, which is not a container's", phase="cgroup")
        slice_name = parent_slice(unit)
        if asked and asked != slice_name:
            raise InvalidArgument(
                f"place slice {unit!r} in {asked!r}: its name puts it into {slice_name!r}",
                hint="leave the slice out, or name the unit after it",
                pointer="linux.cgroupsPath" if location.is_explicit else "",
                phase="cgroup",
            )
    else:
        slice_name = asked or (USER_SLICE if is_user else SYSTEM_SLICE)
    path = f"{manager_path.rstrip('/')}{slice_path(slice_name)}/{directory_name(unit)}"
    return UnitPlace(unit, slice_name, path, nest_slice(slice_name))


def _check_unit(unit: str) -> None:
    stem, dot, _ = unit.rpartition(".")
    if not (dot and stem) or not unit.endswith(_TYPES):
        cause = "it is neither a scope's nor a slice's name"
    elif len(unit) > _NAME_MAX:
        cause = f"it is longer than {_NAME_MAX} bytes"
    elif set(unit) - _IN_UNITS:
        odd = sorted(set(unit) - _IN_UNITS)[0]
        cause = f"{odd!r} has no place in a unit's name"
    elif "@" in stem and unit.endswith(_SUFFIX):
        cause = "a slice has no instances"
    else:
        return
    raise InvalidArgument(
        f"name unit {unit!r}: {cause}",
        hint="escape it (systemd-escape): letters, digits and ':_.-' are taken",
        phase="cgroup",
    )
