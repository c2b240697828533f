"""The layers of images, unpacked: ``STORE/layers/CHAIN/{diff/, layer.json}``, CHAIN the hex digits of a chain id.

A layer is made as ``.new-CHAIN`` by whoever holds the flock on that directory, and renamed when it is complete and its
digest is right; others wait for the lock and find it made. A process that dies leaves a directory that nobody holds,
and the next one starts anew. Nothing is synced while somebody waits: a layer knows the boot that it was made in and
whether it reached the disk since, and one that may not have is made again after a crash of the machine.

Reading is cheap to import (each start of a container does it); what unpacks is imported when something is missing.
"""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.linux import paths
from corral.linux.procfs import read_boot_id
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol

    from corral.image.layer_stream import LayerStream
    from corral.image.layers import Applied, Marks

    class Wanted(Protocol):
        """A layer of an image (``store.Layer``)."""

        @property
        def digest(self) -> str: ...
        @property
        def diff_id(self) -> str: ...
        @property
        def chain_id(self) -> str: ...

    Open = Callable[[Any], LayerStream]
    OnDone = Callable[[str], None]
    Check = Callable[[], None]
    Unpack = Callable[[Wanted, int], Applied]


__all__ = ["LayerStore", "Snapshot"]

SCHEMA = 1
PARALLEL = 3
_HEX = frozenset("0123456789abcdef")
_POLL_S = 0.02
_SYNC_AGE_S = 30
_DIR_FLAGS = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


class Snapshot:
    """One layer that is there. ``is_opaque``: nothing below it shows."""

    __slots__ = ("chain_id", "diff_id", "entries", "is_opaque", "made_ns", "path", "size_bytes")

    def __init__(self, path: str, record: dict[str, Any]) -> None:
        self.path = path
        self.chain_id: str = record["chain_id"]
        self.diff_id: str = record["diff_id"]
        self.entries: int = record["entries"]
        self.size_bytes: int = record["size_bytes"]
        self.made_ns: int = record["made_ns"]
        self.is_opaque: bool = record["is_opaque"]


class LayerStore:
    """The layers below one directory. Holds nothing in memory: any number of threads and processes may use it.

    ``marks``: by which attributes the overlay will know opaque directories, ``user`` for a rootless store.
    ``remover``: who empties a directory (of that descriptor) if this process may not.
    """

    __slots__ = ("_boot", "_marks", "_remover", "path")

    def __init__(self, path: str, *, marks: Marks = "trusted", remover: Callable[[int], None] | None = None) -> None:
        self.path = path
        self._marks = marks
        self._remover = remover or _empty
        self._boot = read_boot_id()

    # ---- reading ----------------------------------------------------------------------------------

    def find(self, chain_ids: Iterable[str]) -> list[str] | None:
        """The directories of these layers (top first in, top first out), or None if one is missing.

        Layers below an opaque one are left out. The caller has a lease on their image, so that they stay.
        """
        found = []
        with _Lock(self.path, fcntl.LOCK_SH):
            for chain_id in chain_ids:
                record = self._record_or_none(chain_id)
                if record is None:
                    return None
                found.append(f"{self._folder(chain_id)}/diff")
                if record["is_opaque"]:
                    break
        return found

    def get(self, chain_id: str) -> Snapshot:
        """One layer. Raises: NotFound."""
        record = self._record_or_none(chain_id)
        if record is None:
            raise NotFound(f"find layer {chain_id}: it is not unpacked here")
        return Snapshot(self._folder(chain_id), record)

    def snapshots(self) -> list[Snapshot]:
        """All complete layers."""
        return [
            Snapshot(f"{self.path}/{name}", record)
            for name in _names(self.path)
            if _HEX.issuperset(name) and (record := self._record_or_none(f"sha256:{name}")) is not None
        ]

    def _folder(self, chain_id: str, prefix: str = "") -> str:
        name = chain_id.partition(":")[2]
        if not name or not _HEX.issuperset(name):
            raise InvalidArgument(f"find layer {chain_id!r}: not a digest")
        return f"{self.path}/{prefix}{name}"

    def _record_or_none(self, chain_id: str) -> dict[str, Any] | None:
        path = f"{self._folder(chain_id)}/layer.json"
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            text = posix.read(fd, 65536)
        finally:
            posix.close(fd)
        try:
            record = loads(text, path)
        except CorralError:
            return None  # cut off by a crash of the machine
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            return None
        return record if record["is_synced"] or record["boot_id"] == self._boot else None

    # ---- making -----------------------------------------------------------------------------------

    def ensure(
        self,
        layers: Sequence[Wanted],
        open_stream: Open,
        *,
        on_done: OnDone | None = None,
        check: Check | None = None,
        unpack: Unpack | None = None,
    ) -> list[str]:
        """The directories of ``layers`` (bottom first, as an image has them), top first; missing ones are unpacked.

        ``open_stream`` gives a layer's tar bytes (``ImageStore.open_layer``). ``on_done`` hears of each chain id that
        is there, from any thread; ``check`` may raise to end the work. ``unpack``: who unpacks instead, into a
        descriptor of the layer's directory.
        The caller has a lease on the image. Raises: CorralError of reading or unpacking a layer.
        """
        found = self.find(layer.chain_id for layer in reversed(layers))
        if found is not None:
            return found
        from corral.image.unpacking import Unpacking

        paths.make_directories(self.path, 0o700)
        Unpacking(self, open_stream, on_done=on_done, check=check, unpack=unpack).run(layers)
        found = self.find(layer.chain_id for layer in reversed(layers))
        if found is None:
            raise NotFound("unpack the image: a layer was removed meanwhile", hint="try again; is its image in use?")
        self.sync(min_age_s=_SYNC_AGE_S)
        return found

    def reserve(self, chain_id: str, check: Check | None) -> int | None:
        """The exclusive right to make a layer: a descriptor of its ``.new-`` directory, which is empty; the caller's.

        None: it is there. Waits for whoever is making it.
        """
        new = self._folder(chain_id, ".new-")
        while self._record_or_none(chain_id) is None:
            try:
                posix.mkdir(new, 0o700)
            except FileExistsError:
                pass
            try:
                fd = posix.open(new, _DIR_FLAGS)
            except FileNotFoundError:
                continue
            is_ours = False
            try:
                self._lock_new(fd, check)
                # Not there: it was completed, or given up, while we waited.
                if self._is_at(fd, new):
                    is_ours = self._begin(fd, chain_id, new)
                    if is_ours:
                        return fd
            finally:
                if not is_ours:
                    posix.close(fd)
        return None

    def _begin(self, fd: int, chain_id: str, new: str) -> bool:
        """Make the directory empty; False if the layer was completed between our look and our mkdir."""
        self._remover(fd)
        if self._record_or_none(chain_id) is not None:
            posix.rmdir(new)
            return False
        self._discard_stale(chain_id)
        return True

    def _lock_new(self, fd: int, check: Check | None) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if check is not None:
                    check()
                time.sleep(_POLL_S)

    def _is_at(self, fd: int, path: str) -> bool:
        try:
            there, ours = posix.stat(path, follow_symlinks=False), posix.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _discard_stale(self, chain_id: str) -> None:
        """Take away a layer of an earlier boot that may not have reached the disk. Under the right to make it."""
        folder = self._folder(chain_id)
        if paths.exists(folder):
            posix.rename(folder, f"{self._folder(chain_id, '.dead-')}-{time.time_ns()}")

    def commit(self, fd: int, layer: Wanted, applied: Applied) -> None:
        """Give the complete directory ``fd`` (of ``reserve``) its name."""
        record = {
            "schema": SCHEMA,
            "chain_id": layer.chain_id,
            "diff_id": layer.diff_id,
            "blob": layer.digest,
            "size_bytes": applied.size_bytes,
            "entries": applied.entries,
            "is_opaque": applied.is_opaque,
            "boot_id": self._boot,
            "is_synced": False,
            "made_ns": time.time_ns(),
            "marks": self._marks,
        }
        _write_record(fd, record)
        with _Lock(self.path, fcntl.LOCK_SH):
            posix.rename(self._folder(layer.chain_id, ".new-"), self._folder(layer.chain_id))

    @property
    def marks(self) -> Marks:
        """The kind of attributes of its opaque directories."""
        return self._marks

    # ---- keeping ----------------------------------------------------------------------------------

    def sync(self, *, min_age_s: float = 0) -> int:
        """Bring layers to the disk that are not known to be there and are older than ``min_age_s``; their number."""
        waiting = []
        limit = time.time_ns() - int(min_age_s * 1e9)
        for name in _names(self.path):
            if name.startswith("."):
                continue
            record = self._record_or_none(f"sha256:{name}")
            if record is not None and not record["is_synced"] and record["made_ns"] <= limit:
                waiting.append((name, record))
        if not waiting:
            return 0
        from corral.linux.syscalls import syncfs

        top = posix.open(self.path, _DIR_FLAGS)
        try:
            syncfs(top)
        finally:
            posix.close(top)
        for name, record in waiting:
            try:
                fd = posix.open(f"{self.path}/{name}", _DIR_FLAGS)
            except FileNotFoundError:
                continue
            try:
                _write_record(fd, {**record, "is_synced": True})
            finally:
                posix.close(fd)
        return len(waiting)

    def gc(self, keep: Callable[[], Iterable[str]]) -> int:
        """Remove every layer that ``keep()`` (chain ids) does not name, and what dead processes left; freed bytes.

        ``keep`` is called while nobody can begin to use a layer. Nobody waits for the removal itself.
        """
        freed = 0
        if not paths.isdir(self.path):
            return 0
        with _Lock(self.path, fcntl.LOCK_EX):
            kept = {chain_id.partition(":")[2] for chain_id in keep()}
            for name in _names(self.path):
                # Copies with other owners, and merged trees, live as long as the layer that they were made of.
                chain = name.split("-")[1][:64] if name.startswith((".shifted-", ".merged-")) else name
                if chain in kept or chain.startswith("."):
                    continue
                record = self._record_or_none(f"sha256:{name}") if chain == name else None
                freed += record["size_bytes"] if record is not None else 0
                posix.rename(f"{self.path}/{name}", f"{self.path}/.dead-{name.lstrip('.')}-{time.time_ns()}")
        self._sweep()
        return freed

    def remove(self, chain_id: str) -> None:
        """Remove one layer; none is fine. The caller knows that no container has it."""
        with _Lock(self.path, fcntl.LOCK_EX):
            try:
                posix.rename(self._folder(chain_id), f"{self._folder(chain_id, '.dead-')}-{time.time_ns()}")
            except FileNotFoundError:
                return
        self._sweep()

    def _sweep(self) -> None:
        """Remove ``.dead-`` directories, and ``.new-`` ones whose maker is gone."""
        for name in _names(self.path):
            if not name.startswith((".dead-", ".new-")):
                continue
            path = f"{self.path}/{name}"
            try:
                fd = posix.open(path, _DIR_FLAGS)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at(fd, path):
                    self._remover(fd)
                    posix.rmdir(path)
            except BlockingIOError:
                pass  # somebody is at it
            finally:
                posix.close(fd)

    def usage_bytes(self) -> int:
        """Size of all complete layers, as their files appear."""
        return sum(snapshot.size_bytes for snapshot in self.snapshots())


class _Lock:
    """``PATH/lock``, shared or exclusive; held for short only."""

    __slots__ = ("_fd", "_how", "_path")

    def __init__(self, path: str, how: int) -> None:
        self._path = path
        self._how = how
        self._fd = -1

    def __enter__(self) -> None:
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
        try:
            self._fd = posix.open(f"{self._path}/lock", flags, 0o600)
        except FileNotFoundError:
            paths.make_directories(self._path, 0o700)
            self._fd = posix.open(f"{self._path}/lock", flags, 0o600)
        fcntl.flock(self._fd, self._how)

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)


def _names(path: str) -> list[str]:
    try:
        return sorted(name for name in posix.listdir(path) if name != "lock")
    except FileNotFoundError:
        return []


def _write_record(folder_fd: int, record: dict[str, Any]) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
    fd = posix.open(".layer.json", flags, 0o600, dir_fd=folder_fd)
    try:
        posix.write(fd, dumps(record).encode())
    finally:
        posix.close(fd)
    posix.rename(".layer.json", "layer.json", src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _empty(folder_fd: int) -> None:
    """Remove everything in a directory that only we use."""
    names = posix.listdir(folder_fd)
    if not names:
        return
    import shutil

    for name in names:
        try:
            posix.unlink(name, dir_fd=folder_fd)
        except OSError as exc:
            if exc.errno not in (errno.EISDIR, errno.EPERM):
                raise
            shutil.rmtree(name, dir_fd=folder_fd)
