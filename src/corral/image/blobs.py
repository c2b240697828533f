"""The content store: files named by their digest, below ``blobs/ALGORITHM/HEX``.

A file there is complete and was verified when it came. Content gets there by rename only. How it comes, piece by piece
and from several sources at once, is ``ingest``'s part; who may remove it, ``guard``'s. Cheap to import.

Source: image-spec image-layout.md "Blobs".
"""

from __future__ import annotations

import posix

from corral.errors import Internal, NotFound, ResourceExhausted
from corral.image.digests import ALGORITHMS, digest_of, hasher_of, is_digest, parse_digest, split
from corral.image.disk import Lock, storage_error, unique, write_atomically
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


class BlobStore:
    """The blobs of one image store, whose directory is ``root``. Safe for any number of threads and processes."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, digest: str) -> str:
        """Where the blob is, or would be."""
        algorithm, digits = split(parse_digest(digest))
        return f"{self.root}/blobs/{algorithm}/{digits}"

    def partial_path(self, digest: str) -> str:
        """Where the blob grows while it comes."""
        algorithm, digits = split(parse_digest(digest))
        return f"{self.root}/ingest/{algorithm}-{digits}"

    def make_directories(self) -> None:
        """Make the directories that writing needs; only the owner may look inside."""
        try:
            paths.make_directories(self.root, 0o700)
            for name in ("ingest", "blobs", *(f"blobs/{algorithm}" for algorithm in ALGORITHMS)):
                paths.make_directories(f"{self.root}/{name}", 0o700)
        except OSError as exc:
            raise storage_error("make", str(exc.filename or self.root), exc) from exc

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return paths.isfile(self.path(digest))

    def size(self, digest: str) -> int:
        """Its size in bytes. Raises: NotFound."""
        try:
            return posix.stat(self.path(digest)).st_size
        except FileNotFoundError as exc:
            raise _absent(digest) from exc

    def open(self, digest: str) -> int:
        """A descriptor for reading, owned by the caller. Raises: NotFound."""
        try:
            return posix.open(self.path(digest), posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise _absent(digest) from exc
        except OSError as exc:
            raise storage_error("open", self.path(digest), exc) from exc

    def read(self, digest: str, limit_bytes: int) -> bytes:
        """A small blob, verified once more. Raises: NotFound; Internal if the disk no longer holds what it held."""
        fd = self.open(digest)
        parts: list[bytes] = []
        rest = limit_bytes
        try:
            while rest > 0 and (data := posix.read(fd, min(rest, _CHUNK))):
                parts.append(data)
                rest -= len(data)
            if rest <= 0 and posix.fstat(fd).st_size > limit_bytes:
                raise ResourceExhausted(f"read blob {digest}: larger than {limit_bytes} bytes")
        except OSError as exc:
            raise storage_error("read", self.path(digest), exc) from exc
        finally:
            posix.close(fd)
        data = b"".join(parts)
        if not _matches(data, digest):
            raise Internal(
                f"read blob {digest}: its content has changed on disk",
                hint="remove the image with `corral rmi -f`, pull it again, and check the disk",
                path=self.path(digest),
            )
        return data

    def put(self, data: bytes) -> str:
        """Store a small document, and return its digest. Idempotent."""
        digest = digest_of(data)
        path = self.path(digest)
        if paths.isfile(path):
            return digest
        self.make_directories()
        # Under the lock, so that gc takes none of these files for a left-over.
        with Lock(self.root, is_shared=True):
            write_atomically(path, data, mode=0o444, temporary=f"{self.root}/ingest/.put-{unique()}")
        return digest

    def entries(self) -> Iterator[tuple[str, int]]:
        """(digest, size in bytes) of every blob."""
        for algorithm in ALGORITHMS:
            folder = f"{self.root}/blobs/{algorithm}"
            try:
                names = posix.listdir(folder)
            except FileNotFoundError:
                continue
            for name in sorted(names):
                digest = f"{algorithm}:{name}"
                if not is_digest(digest):
                    continue
                try:
                    yield digest, posix.stat(f"{folder}/{name}").st_size
                except FileNotFoundError:
                    continue

    def remove(self, digest: str) -> None:
        """Remove the blob; one that is not here is fine. The caller holds the guard's lock."""
        try:
            posix.unlink(self.path(digest))
        except FileNotFoundError:
            pass


def _matches(data: bytes, digest: str) -> bool:
    if digest.startswith("sha256:"):
        return digest_of(data) == digest
    hasher = hasher_of(digest)
    hasher.update(data)
    return f"{split(digest)[0]}:{hasher.hexdigest()}" == digest


def _absent(digest: str) -> NotFound:
    return NotFound(f"open blob {digest}: not in the store", hint="pull the image again")
