"""Who may remove content, and when: the store's lock, the leases of containers, the leases of work under way.

Three things keep content: a name or record in refs.json, a *lease* (somebody, usually a container, uses an image: a
small file ``leases/OWNER``), and *work* (a pull, load or push that is going on: a file below ``work/`` that its process
holds a flock on, with the digests it wants kept). The kernel drops the flock when the process dies, so dead work keeps
nothing.

``lock`` is held shared to add a digest to work, exclusively to change refs and to sweep, always for short: a sweep
reads what is kept and removes the rest under it. So whoever first adds a digest to its work and *then* looks whether
the blob is there cannot lose it. Cheap to import.
"""

from __future__ import annotations

import fcntl
import posix

from corral.errors import InvalidArgument
from corral.image.digests import is_digest
from corral.image.disk import Lock, storage_error, unique, write_atomically
from corral.image.manifest import as_object
from corral.linux import paths
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

_OWNER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_FLAGS = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW


class Work:
    """What one pull, load or push wants kept until it is done. Use as a ``with`` block, in one process."""

    __slots__ = ("_fd", "_path", "_root")

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = ""
        self._fd = -1

    def __enter__(self) -> Self:
        path = f"{self._root}/work/{unique()}"
        # Under the lock, so that no sweep sees the file before its flock.
        with Lock(self._root, is_shared=True):
            try:
                paths.make_directories(f"{self._root}/work", 0o700)
                self._fd = posix.open(path, _FLAGS | posix.O_APPEND, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise storage_error("make", path, exc) from exc
        self._path = path
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            posix.unlink(self._path)
        except OSError:
            pass  # a sweep removes it, now that nobody holds it
        posix.close(self._fd)

    def keep(self, digests: Iterable[str]) -> None:
        """No sweep removes these any more, whether they are here already or still to come."""
        lines = "".join(f"{digest}\n" for digest in digests).encode()
        with Lock(self._root, is_shared=True):
            try:
                posix.write(self._fd, lines)
            except OSError as exc:
                raise storage_error("write", self._path, exc) from exc


def kept_by_work(root: str) -> set[str]:
    """The digests that work under way wants; files of dead work are removed. The caller holds the lock exclusively."""
    kept: set[str] = set()
    folder = f"{root}/work"
    for name in _names(folder):
        path = f"{folder}/{name}"
        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = posix.read(fd, posix.fstat(fd).st_size).decode()
            kept.update(line for line in text.split("\n") if is_digest(line))
        else:
            try:
                posix.unlink(path)
            except FileNotFoundError:
                pass
        finally:
            posix.close(fd)
    return kept


class Lease:
    """That ``owner`` uses the image ``image_id``, whose manifest is ``manifest``."""

    __slots__ = ("image_id", "manifest", "owner")

    def __init__(self, owner: str, image_id: str, manifest: str) -> None:
        self.owner = owner
        self.image_id = image_id
        self.manifest = manifest


def write_lease(root: str, lease: Lease, *, is_synced: bool = True) -> None:
    """Make or replace the owner's lease, durably if ``is_synced``.

    The caller holds the lock, and the image exists under it.
    """
    _check_owner(lease.owner)
    try:
        paths.make_directories(f"{root}/leases", 0o700)
    except OSError as exc:
        raise storage_error("make", f"{root}/leases", exc) from exc
    text = dumps({"image": lease.image_id, "manifest": lease.manifest})
    # The temporary name begins with a dot: no owner's does.
    temporary = f"{root}/leases/.new-{unique()}"
    write_atomically(
        f"{root}/leases/{lease.owner}", text.encode(), mode=0o600, temporary=temporary, is_synced=is_synced
    )


def remove_lease(root: str, owner: str) -> None:
    """End the owner's lease; none is fine."""
    _check_owner(owner)
    try:
        posix.unlink(f"{root}/leases/{owner}")
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise storage_error("remove", f"{root}/leases/{owner}", exc) from exc


def read_leases(root: str) -> list[Lease]:
    """All leases, by owner."""
    leases = []
    for owner in sorted(_names(f"{root}/leases")):
        if owner.startswith("."):
            continue
        path = f"{root}/leases/{owner}"
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            value = as_object(loads(posix.read(fd, 4096), path), path, "")
        finally:
            posix.close(fd)
        image_id, manifest = value.get("image"), value.get("manifest")
        if not (is_digest(image_id) and is_digest(manifest)):
            raise InvalidArgument(f"read {path}: not a lease", hint="remove the file if its container is gone")
        leases.append(Lease(owner, str(image_id), str(manifest)))
    return leases


def _names(folder: str) -> list[str]:
    try:
        return posix.listdir(folder)
    except FileNotFoundError:
        return []


def _check_owner(owner: str) -> None:
    if not owner or owner[0] == "." or len(owner) > 200 or not _OWNER.issuperset(owner):
        raise InvalidArgument(f"lease for {owner!r}: an owner is named by letters, digits, '_', '.' and '-'")
