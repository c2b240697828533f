"""What a load reads: an archive, once and front to back, or a directory.

Each file of an archive goes to the store as a blob; what no image turns out to need is swept. A path inside an archive
is a key in a table and never a path on disk.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Protocol

from corral.errors import InvalidArgument
from corral.image.digests import is_digest, split
from corral.image.disk import storage_error
from corral.image.ingest import CHUNK, FdReader, Readable, claim, ingest
from corral.image.layer_stream import Unpacked
from corral.image.manifest import MAX_BLOB_BYTES, MAX_MANIFEST_BYTES, Descriptor
from corral.image.tarstream import FILE, LINK, SYMLINK, Member, TarReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.image.guard import Work
    from corral.image.manifest import Platform
    from corral.image.progress import Cancel
    from corral.image.store import ImageStore

NOT_IMAGES_HINT = "for the tar of a root filesystem use `corral import`"
_MAX_MEMBERS = 100_000
_MAX_PADDING_BYTES = 64 << 20
_DOCUMENTS = frozenset({"manifest.json", "index.json", "oci-layout"})
# Left over from formats before 2016; no reader needs them.
_LEGACY = ("/VERSION", "/json")


class LoadContext:
    """What all steps of one load share."""

    __slots__ = ("cancel", "label", "name", "store", "wanted", "work")

    def __init__(self, store: ImageStore, work: Work, wanted: Platform, cancel: Cancel, *names: str) -> None:
        self.store = store
        self.work = work
        self.wanted = wanted
        self.cancel = cancel
        self.name, self.label = names

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A small blob that is in the store."""
        return self.store.blobs.read(descriptor.digest, limit_bytes)

    def refuse(self, cause: str, hint: str = "") -> InvalidArgument:
        """The error for this source."""
        return InvalidArgument(f"load {self.label}: {cause}", hint=hint)


class Contents(Protocol):
    """Where the documents and blobs of an archive or a directory are."""

    def document(self, name: str) -> bytes | None:
        """A document at the top, or None."""

    def bring(self, blob: Descriptor) -> None:
        """Have the blob in the store, if the source has it."""


# ---- archives -----------------------------------------------------------------------------------------


class Archive:
    """What was found in an archive: documents, and where the content of each file is in the store."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.files: dict[str, tuple[str, int]] = {}
        self.links: dict[str, str] = {}

    def document(self, name: str) -> bytes | None:
        return self.documents.get(name)

    def bring(self, blob: Descriptor) -> None:
        """All that the archive has is in the store already."""

    def file(self, name: str) -> tuple[str, int] | None:
        """(digest, size) of a file, also through links."""
        for _hop in range(8):
            if name in self.files:
                return self.files[name]
            if name not in self.links:
                return None
            name = self.links[name]
        return None


def read_archive(context: LoadContext, source: Readable) -> Archive:
    """Read the whole archive, compressed or not, into the store. Raises: InvalidArgument, Unsupported."""
    archive = Archive()
    unpacked = Unpacked(source, context.label)
    for count, member in enumerate(_members(context, reader := TarReader(unpacked))):
        if count >= _MAX_MEMBERS:
            raise context.refuse(f"more than {_MAX_MEMBERS} files", NOT_IMAGES_HINT)
        context.cancel.check(f"load {context.label}")
        _take(context, archive, member, reader)
    padding = 0
    while data := unpacked.read(CHUNK):
        # Who writes into a pipe wants all of it read, but not for ever.
        context.cancel.check(f"load {context.label}")
        padding += len(data)
        if padding > _MAX_PADDING_BYTES:
            raise context.refuse(f"more than {_MAX_PADDING_BYTES} bytes follow the archive's end")
    return archive


def _members(context: LoadContext, reader: TarReader) -> Iterator[Member]:
    try:
        yield from reader
    except InvalidArgument as exc:
        raise context.refuse(f"not a tar archive: {exc.message}", NOT_IMAGES_HINT) from exc


def _content(context: LoadContext, reader: TarReader) -> Iterator[memoryview]:
    """The content of the archive's current member."""
    try:
        yield from reader.pieces()
    except InvalidArgument as exc:
        raise context.refuse(
            f"not a whole archive: {exc.message}", "it was cut off while it was written or copied"
        ) from exc


def _take(context: LoadContext, archive: Archive, member: Member, reader: TarReader) -> None:
    name = _key(member.name)
    if member.kind == SYMLINK:
        archive.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), _text(member.link)))
    elif member.kind == LINK:
        archive.links[name] = _key(member.link)
    elif member.kind == FILE and name in _DOCUMENTS:
        if member.stored > MAX_MANIFEST_BYTES:
            raise context.refuse(f"{name} is larger than {MAX_MANIFEST_BYTES} bytes")
        archive.documents[name] = b"".join(map(bytes, _content(context, reader)))
    elif member.kind == FILE and not name.endswith(_LEGACY) and name != "repositories":
        archive.files[name] = _take_blob(context, name, member, reader)


def _take_blob(context: LoadContext, name: str, member: Member, reader: TarReader) -> tuple[str, int]:
    if member.sparse is not None:
        raise context.refuse(f"{name!r} is a sparse file")
    parts = name.split("/")
    digest = ":".join(parts[1:])
    if len(parts) == 3 and parts[0] == "blobs" and is_digest(digest):
        descriptor = Descriptor("", digest, member.size)
        context.work.keep([digest])
        _bring(context, descriptor, _PiecesReader(_content(context, reader)))
        return digest, member.size
    act = f"load {context.label}: {name}"
    return ingest(
        context.store.blobs,
        _PiecesReader(_content(context, reader)),
        act,
        work=context.work,
        limit_bytes=MAX_BLOB_BYTES,
    )


class _PiecesReader:
    """The content of the archive's current member as a ``Readable``."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces

    def read(self, _size: int, /) -> bytes:
        return bytes(next(self._pieces, b""))


def _bring(context: LoadContext, blob: Descriptor, source: Readable) -> None:
    """Put ``source``, which should be ``blob``, into the store, unless it is there."""
    partial = claim(context.store.blobs, blob, context.cancel)
    if partial is None:
        return
    with partial:
        partial.rewind()
        while data := source.read(CHUNK):
            context.cancel.check(f"load {context.label}")
            partial.write(data)
        partial.commit()


def _key(name: bytes) -> str:
    return posixpath.normpath("/" + _text(name)).lstrip("/")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


# ---- directories --------------------------------------------------------------------------------------


class Directory:
    """An OCI layout, or the directory that skopeo's and podman's ``dir:`` writes (``is_flat``)."""

    def __init__(self, context: LoadContext, fd: int) -> None:
        self._context = context
        self._fd = fd
        self.is_flat = False

    def document(self, name: str) -> bytes | None:
        try:
            fd = self._open(name)
        except FileNotFoundError:
            return None
        try:
            data = os.read(fd, MAX_MANIFEST_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > MAX_MANIFEST_BYTES:
            raise self._context.refuse(f"{name} is larger than {MAX_MANIFEST_BYTES} bytes")
        return data

    def bring(self, blob: Descriptor) -> None:
        self._context.work.keep([blob.digest])
        if self._context.store.blobs.has(blob.digest):
            return
        algorithm, digits = split(blob.digest)
        try:
            fd = self._open(digits if self.is_flat else f"blobs/{algorithm}/{digits}")
        except FileNotFoundError:
            return
        try:
            _bring(self._context, blob, FdReader(fd))
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=self._fd)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FileNotFoundError(path) from exc
        except OSError as exc:
            raise storage_error("open", f"{self._context.label}/{path}", exc) from exc
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._context.refuse(f"{path} is not a file")
        return fd
