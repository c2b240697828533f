"""The cgroup above all containers of a store, and the leaf in it where keeper and monitors live.

So no container, and no process that looks after one, is in the group of whoever happened to start it: a session or a
service that ends takes none of them along. The group lives as long as there are containers: the keeper removes it when
it ends, and ``release_groups`` where no keeper did.
"""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from corral.cgroup.layout import read_layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.errors import CorralError
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = [
    "default_parent",
    "keeper_arguments",
    "owns_parent",
    "parent_directories",
    "release_groups",
    "usable_parent",
]

LEAF = "holder"
VARIABLE = b"CORRAL_CGROUP_PARENT"
# For a keeper that has nothing to do to end when it is asked to.
_END_S = 2.0


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


def keeper_arguments(places: Places) -> list[str]:
    """What to tell a keeper that is to be started of its groups, which are there then; [] where none can be made."""
    words = [word for group in _leaf_directories(places) for word in ("--cgroup", group)]
    if words:
        words += [word for parent in parent_directories(places) for word in ("--parent", parent)]
        words += ["--owns-parents"] if owns_parent() else []
    return words


def _leaf_directories(places: Places) -> list[str]:
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


def owns_parent() -> bool:
    """Whether the parent is the store's alone, and goes when it is empty: not one that somebody chose."""
    return VARIABLE not in posix.environ


def parent_directories(places: Places) -> list[str]:
    """Directories of the parent, in the hierarchies that have it."""
    try:
        found = place(CgroupfsLocation(default_parent(places)), read_layout()).directories
    except (CorralError, OSError):
        return []
    return [directory for directory in found if directory is not None and paths.isdir(directory)]


def release_groups(places: Places) -> bool:
    """Remove the groups of a store that has no containers, as far as nobody is in them; whether any was removed.

    A keeper that has nothing to do is ended for it. None can start meanwhile: its lock is held.
    """
    from corral.engine import names

    directories = parent_directories(places)
    held = [f"{directory}/{LEAF}" for directory in directories if paths.isdir(f"{directory}/{LEAF}")]
    if names.list_ids(places) or not (held or (owns_parent() and directories)):
        return False
    lock = _lock_out_keeper(places)
    if lock < 0:
        return False
    try:
        if names.list_ids(places):
            return False
        # Those that are populated, by whomever, or have groups below them, refuse.
        until = time.monotonic() + _END_S
        removed = [_is_removed(path, until) for path in (*held, *(directories if owns_parent() else ()))]
        return any(removed)
    finally:
        posix.close(lock)


def _is_removed(path: str, until: float) -> bool:
    while True:
        try:
            posix.rmdir(path)
        except OSError as exc:
            # A keeper that was killed lets go of its lock a moment before it leaves its groups.
            if exc.errno != errno.EBUSY or time.monotonic() > until or _has_groups(path):
                return False
            time.sleep(0.01)
        else:
            return True


def _has_groups(path: str) -> bool:
    try:
        with posix.scandir(path) as entries:
            return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False


def _lock_out_keeper(places: Places) -> int:
    """The keeper's lock, held; -1 when a keeper has it that does not end, or there cannot be one."""
    try:
        lock = posix.open(
            f"{places.run}/keeper.lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600
        )
    except OSError:
        return -1
    until = time.monotonic() + _END_S
    while not _is_taken(lock):
        if time.monotonic() > until:
            posix.close(lock)
            return -1
        _ask_keeper_to_end(places)
        time.sleep(0.01)
    return lock


def _ask_keeper_to_end(places: Places) -> None:
    from corral.engine.keeper import Keeper, has_keeper

    if not has_keeper(places):
        return  # it is on its way out
    try:
        with Keeper.open(places) as keeper:
            keeper.shut_down()
    except (CorralError, OSError):
        return  # the last monitor may be about to end


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
