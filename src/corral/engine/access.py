"""How to reach a container's files: through its process while it lives, else by a process of ours that mounts its root.

Of a live container everything that it sees is reached, its volumes included, by the descriptor of its root: no path of
the host, so nothing that it does to its tree leads out of it. The root of one that does not live is mounted in a
private mount namespace (``corral-within``); a path on one of its volumes is reached in the volume itself.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import TYPE_CHECKING, Any

from corral.engine import leases, status
from corral.engine.copytree import look, open_root, put, take
from corral.engine.files import from_os_error
from corral.engine.hostroot import host_parts
from corral.engine.idmaps import own_maps
from corral.engine.places import is_rootless
from corral.engine.rootfs import describe, id_maps, reach_layers
from corral.engine.within import call
from corral.errors import CorralError, FailedPrecondition
from corral.image.ingest import FdReader
from corral.image.tarwrite import Ids
from corral.linux.closing import Closing
from corral.linux.idmap import is_initial_map, read_map
from corral.linux.mountinfo import parse_mountinfo
from corral.linux.procfs import is_same_process, read_stat
from corral.runtime.within import Within

if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["Tree", "mounted_inside", "open_container", "open_directory", "open_host", "open_mounted", "targets_of"]

_OWN_TARGETS = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/corral-init")

# Covered in the namespace of one process alone: a directory that every host has and every user can reach.
_MOUNT_POINT = "/sys"

LEASE_S = 3600.0
WAIT_S = 30.0


class Tree(Closing):
    """Files that can be looked at, packed and unpacked; see ``copytree`` for the requests. Close it.

    Either ``root_fd`` (owned) is the tree, or ``where`` and ``root`` say how a process reaches it.
    """

    def __init__(self, root_fd: int = -1, ids: Ids | None = None, where: Within | None = None, root: str = "") -> None:
        self._fd = root_fd
        self._ids = ids
        self._where = where
        self._root = root
        self._lease: leases.Lease | None = None

    def hold(self, lease: leases.Lease) -> None:
        """Give the lease back when this is closed."""
        self._lease = lease

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def look(self, path: str, *, is_followed: bool = True) -> dict[str, Any] | None:
        """See ``copytree.look``."""
        if self._where is None:
            return look(self._fd, path, is_followed=is_followed)
        asked = {"root": self._root, "path": path, "is_followed": is_followed}
        found: dict[str, Any] | None = call(self._where, "look", asked)
        return found

    def put(self, request: dict[str, Any], source_fd: int) -> None:
        """Unpack the archive that ``source_fd`` (borrowed) gives; see ``copytree.put``."""
        if self._where is None:
            put(self._fd, request, FdReader(source_fd), self._ids)
        else:
            call(self._where, "copy_in", {**request, "root": self._root}, fds=[source_fd])

    def take(self, request: dict[str, Any], target_fd: int) -> None:
        """Write the archive to ``target_fd`` (borrowed); see ``copytree.take``.

        Raises: BrokenPipeError when nobody reads it, CorralError.
        """
        if self._where is None:
            for piece in take(self._fd, request, self._ids):
                rest = piece
                while rest:
                    rest = rest[_write_some(target_fd, rest) :]
            return
        try:
            call(self._where, "copy_out", {**request, "root": self._root}, fds=[target_fd])
        except CorralError as exc:
            if exc.errno == errno.EPIPE:
                raise BrokenPipeError(exc.errno, exc.message) from exc
            raise


def _write_some(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise from_os_error("write", "the archive", exc) from exc


def open_host() -> Tree:
    """This host's own files; a rootless user's belong to root of its containers, as they do there."""
    return Tree(open_root("/"), Ids(*own_maps()) if is_rootless() else None)


def open_container(places: Places, container_id: str, path: str) -> tuple[Tree, str]:
    """The tree in which ``path`` of a container lies, and the path in it. Raises: NotFound, FailedPrecondition."""
    facts = status.look(places, container_id)
    if facts.is_live:
        return _open_live(facts), path
    for target, source in _volumes(places, facts.definition):
        if path == target or path.startswith(target + "/"):
            return open_directory(source, facts.definition, places), path[len(target) :] or "/"
    return _open_stopped(places, facts), path


def _open_live(facts: status.Facts) -> Tree:
    pid = facts.pid
    if is_rootless():
        where = Within(join=(pid, read_stat(pid).start_time_ticks))
        return Tree(where=where, root=f"/proc/{pid}/root")
    try:
        root = open_root(f"/proc/{pid}/root")
    except OSError as exc:
        raise FailedPrecondition(f"reach the files of container {facts.container_id[:12]}: it just ended") from exc
    ids = _ids_of(pid)
    # What was opened is the container's only if its process still was, afterwards: pids are used again.
    if facts.record is None or not is_same_process(pid, facts.record.start_time):
        os.close(root)
        raise FailedPrecondition(f"reach the files of container {facts.container_id[:12]}: it just ended")
    return Tree(root, ids)


def mounted_inside(places: Places, container_id: str) -> list[str]:
    """Where something is mounted in a live container's root that is not the root itself; relative paths."""
    facts = status.look(places, container_id)
    if not facts.is_live:
        return []
    own = {"/"}
    if facts.definition["root"]["kind"] == "host" and is_rootless():
        own.update(part.target for part in host_parts(places.container(container_id))[1])
    try:
        with open(f"/proc/{facts.pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            found = {mount.mount_point for mount in parse_mountinfo(file.read())}
    except (FileNotFoundError, ProcessLookupError):
        return []
    return sorted(path.lstrip("/") for path in found - own)


def _ids_of(pid: int) -> Ids | None:
    uids, gids = read_map("uid", pid), read_map("gid", pid)
    return None if is_initial_map(uids) and is_initial_map(gids) else Ids(uids, gids)


def _open_stopped(places: Places, facts: status.Facts) -> Tree:
    container_id, definition = facts.container_id, facts.definition
    if definition["root"].get("is_direct"):
        return open_directory(definition["root"]["path"], definition, places)
    # It must not be started meanwhile: one upper directory, one mount.
    lease = leases.acquire(places, container_id, "commit", deadline_s=LEASE_S, wait_s=WAIT_S)
    try:
        tree = open_mounted(places, definition, reach_layers(places, definition))
        tree.hold(lease)
        return tree
    except BaseException:
        lease.close()
        raise


def open_mounted(places: Places, definition: dict[str, Any], layers: list[str]) -> Tree:
    """The root of a container that does not live, of ``layers``. The caller has a lease that keeps it so."""
    plan = describe(definition, layers, places)
    plan.is_volatile = False
    uid_map, gid_map = own_maps() if is_rootless() else id_maps(definition, places)
    return Tree(where=Within(uid_map, gid_map, rootfs=plan, path=_MOUNT_POINT), root=_MOUNT_POINT)


def open_directory(path: str, definition: dict[str, Any], places: Places) -> Tree:
    """A directory of this host, with the owners that a container sees in it."""
    if is_rootless():
        return Tree(where=Within(*own_maps()), root=path)
    uid_map, gid_map = id_maps(definition, places)
    return Tree(open_root(path), Ids(uid_map, gid_map))


def _volumes(places: Places, definition: dict[str, Any]) -> list[tuple[str, str]]:
    """Target and source of what would be mounted from outside, the deepest target first."""
    found = []
    mounts = definition.get("mounts", [])
    named: dict[str, str] = {}
    if any(mount["type"] == "volume" for mount in mounts):
        from corral.engine.volumes import volume_directories

        named = volume_directories(places, definition)
    for mount in mounts:
        source = mount.get("source", "") if mount["type"] == "bind" else named.get(mount.get("source", ""), "")
        if source and os.path.isdir(source):
            found.append((posixpath.normpath(mount["target"]), source))
    return sorted(found, key=lambda pair: len(pair[0]), reverse=True)


def targets_of(definition: dict[str, Any]) -> list[str]:
    """Mount points that the runtime makes in the writable directory where the image has none."""
    return [
        *(mount["target"] for mount in definition.get("mounts", [])),
        *_OWN_TARGETS,
    ]
