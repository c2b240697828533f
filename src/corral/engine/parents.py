"""The cgroup above all containers of a store, and the leaf in it where keeper and monitors live.

So no container, and no process that looks after one, is in the group of whoever happened to start it: a session or a
service that ends takes none of them along.
"""

from __future__ import annotations

import posix

from corral.cgroup.layout import read_layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.errors import CorralError
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["default_parent", "supervisor_groups", "usable_parent"]

LEAF = "holder"
VARIABLE = b"CORRAL_CGROUP_PARENT"


def default_parent(places: Places) -> str:
    """The parent's path in each hierarchy: one for each store, so that stores do not meet."""
    given = posix.environ.get(VARIABLE, b"").decode("utf-8", "surrogateescape").strip("/")
    if given and not given.endswith(".slice"):
        return f"/{given}"
    import zlib

    return f"/corral/{zlib.crc32(places.store.encode('utf-8', 'surrogateescape')):08x}"


def usable_parent(places: Places) -> str:
    """``default_parent``; "" for a user who may not make groups there: containers stay where their monitors are."""
    from corral.cgroup.direct import ensure_delegated_parent
    from corral.engine.places import is_rootless

    parent = default_parent(places)
    if not is_rootless():
        return parent
    try:
        ensure_delegated_parent(CgroupfsLocation(parent), read_layout())
    except (CorralError, OSError):
        return ""
    return parent


def supervisor_groups(places: Places) -> list[str]:
    """Directories of the leaf for a keeper that is to be started; [] where groups cannot be made."""
    from corral.cgroup.direct import ensure_delegated_parent

    location = CgroupfsLocation(default_parent(places))
    try:
        layout = read_layout()
        ensure_delegated_parent(location, layout)
        placement = place(CgroupfsLocation(f"{location.path}/{LEAF}"), layout)
    except (CorralError, OSError):
        return []
    found = []
    for hierarchy, directory in zip(layout.hierarchies, placement.directories, strict=True):
        if directory is None or ("cpuset" in hierarchy.controllers and hierarchy.version == 1):
            continue
        try:
            if not paths.isdir(directory):
                posix.mkdir(directory, 0o755)
        except OSError:
            continue
        found.append(directory)
    return found
