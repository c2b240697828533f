"""How content gets into the store: through a file that grows in ``ingest/`` and is renamed when its digest is right.

Whoever brings a blob holds a flock on its growing file. A second one, in this process or another, waits for the first:
it finds the blob there afterwards, or, if the first gave up or died, goes on from the bytes that are already there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, Protocol, Self

from corral.errors import InvalidArgument, Unavailable
from corral.image.digests import hasher_of, split
from corral.image.disk import Lock, storage_error, sync_directory, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from corral.image.blobs import BlobStore
    from corral.image.guard import Work
    from corral.image.manifest import Descriptor
    from corral.image.progress import Cancel

CHUNK = 1 << 20
_POLL_S = 0.05


class Readable(Protocol):
    """Anything with bytes to read one after the other."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class FdReader:
    """A descriptor as a ``Readable``; borrowed."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        """The next bytes; none at the end."""
        return os.read(self._fd, size)


class Partial:
    """The exclusive right to bring one blob; ``offset`` bytes are there already. Ends with ``commit`` or ``close``."""

    __slots__ = ("_blobs", "_fd", "_hasher", "_path", "digest", "offset", "size")

    def __init__(self, blobs: BlobStore, descriptor: Descriptor, fd: int) -> None:
        self._blobs = blobs
        self.digest = descriptor.digest
        self._path = blobs.partial_path(descriptor.digest)
        self._fd = fd
        self._hasher = hasher_of(descriptor.digest)
        self.size = descriptor.size
        self.offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def catch_up(self) -> None:
        """Read what a former owner left, so that ``offset`` and the hash stand at its end. Nonsense is thrown away."""
        with _storage("read", self._path):
            if os.fstat(self._fd).st_size > self.size:
                self.rewind()
                return
            while data := os.pread(self._fd, CHUNK, self.offset):
                self._hasher.update(data)
                self.offset += len(data)

    def rewind(self) -> None:
        """Begin again with nothing."""
        with _storage("truncate", self._path):
            os.ftruncate(self._fd, 0)
        self._hasher = hasher_of(self.digest)
        self.offset = 0

    def write(self, data: bytes) -> None:
        """Append. Raises: InvalidArgument as soon as there is more than the descriptor says."""
        if self.offset + len(data) > self.size:
            self.rewind()
            raise InvalidArgument(
                f"fetch blob {self.digest}: more than the {self.size} bytes that its manifest says",
                hint="the source sends other content than it announced: do not trust it",
            )
        self._hasher.update(data)
        view = memoryview(data)
        with _storage("write", self._path):
            while view:
                written = os.pwrite(self._fd, view, self.offset)
                self.offset += written
                view = view[written:]

    def commit(self) -> None:
        """Check size and digest, and give the blob its place, durably. Raises: InvalidArgument; nothing is kept."""
        if self.offset != self.size:
            raise Unavailable(f"fetch blob {self.digest}: it ended after {self.offset} of {self.size} bytes")
        found = f"{split(self.digest)[0]}:{self._hasher.hexdigest()}"
        if found != self.digest:
            self.rewind()
            raise InvalidArgument(
                f"fetch blob {self.digest}: its content is {found}",
                hint="the source sends other content than it announced: do not trust it",
            )
        self._publish(self.digest)

    def _publish(self, digest: str) -> None:
        target = self._blobs.path(digest)
        with _storage("store", target):
            os.fsync(self._fd)
            os.rename(self._path, target)
            # Not before: after a kill in between, its owner must be able to go on with the growing file.
            os.fchmod(self._fd, 0o444)
            sync_directory(os.path.dirname(target))

    def close(self) -> None:
        """Give up the right; what is there stays for whoever comes next. Idempotent."""
        if self._fd >= 0:
            if self.offset == 0 and not self._blobs.has(self.digest):
                # Nothing worth keeping; the name is still ours, for we hold the flock.
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = -1


def claim(
    blobs: BlobStore, descriptor: Descriptor, cancel: Cancel, on_wait: Callable[[int], None] | None = None
) -> Partial | None:
    """The right to bring ``descriptor``'s blob, or None once it is in the store. The caller closes what it gets.

    Waits while another thread or process brings it; ``on_wait`` is then told how many bytes are there.
    Raises: Cancelled.
    """
    path = blobs.partial_path(descriptor.digest)
    act = f"fetch blob {descriptor.digest}"
    while not blobs.has(descriptor.digest):
        with _storage("open", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        partial = Partial(blobs, descriptor, fd)
        is_ours = False
        try:
            while not is_ours:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_ours = True
                except BlockingIOError:
                    if on_wait is not None:
                        on_wait(os.fstat(fd).st_size)
                    cancel.wait(_POLL_S, act)
            is_ours = _is_still_named(fd, path)
            if is_ours:
                partial.catch_up()
                return partial
        except BaseException:
            is_ours = False
            raise
        finally:
            if not is_ours:
                os.close(fd)
    return None


def _is_still_named(fd: int, path: str) -> bool:
    # Who had it before may have renamed or removed it: then the flock is on a file that nobody will find.
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def _open_growing(blobs: BlobStore) -> tuple[int, str]:
    """A new file in ``ingest/`` and its flock, by which `gc` knows that it has an owner."""
    blobs.make_directories()
    while True:
        path = f"{blobs.root}/ingest/.new-{unique()}"
        with _storage("make", path):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        if _is_still_named(fd, path):
            return fd, path
        os.close(fd)


def ingest(blobs: BlobStore, source: Readable, act: str, *, work: Work, limit_bytes: int) -> tuple[str, int]:
    """Store all of ``source``, whose digest is not known before, and keep it for ``work``: (sha256 digest, bytes).

    Raises: InvalidArgument for more than ``limit_bytes``.
    """
    hasher = hashlib.sha256()
    size = 0
    fd, temporary = _open_growing(blobs)
    try:
        while data := source.read(CHUNK):
            size += len(data)
            if size > limit_bytes:
                raise InvalidArgument(f"{act}: more than {limit_bytes} bytes")
            hasher.update(data)
            with _storage("write", temporary):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
        digest = f"sha256:{hasher.hexdigest()}"
        target = blobs.path(digest)
        work.keep([digest])
        if not blobs.has(digest):
            with _storage("store", target):
                os.fsync(fd)
                os.rename(temporary, target)
                os.fchmod(fd, 0o444)
                sync_directory(os.path.dirname(target))
        return digest, size
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        os.close(fd)


def remove_leftovers(blobs: BlobStore) -> int:
    """Remove what transfers that broke off and processes that died have left. Returns how many bytes.

    What grows has an owner who holds a flock on it; small documents are written under the store's lock.
    """
    freed = 0
    with Lock(blobs.root):
        for folder, beginning in (("ingest", ""), ("leases", "."), ("", "refs.json.")):
            for name in _names(f"{blobs.root}/{folder}"):
                if name.startswith(beginning):
                    freed += _remove_if_free(f"{blobs.root}/{folder}/{name}")
    return freed


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _remove_if_free(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_still_named(fd, path):
            return 0
        size = os.fstat(fd).st_blocks * 512
        os.unlink(path)
        return size
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)


@contextlib.contextmanager
def _storage(act: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise storage_error(act, path, exc) from exc
