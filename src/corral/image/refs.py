"""refs.json: which names lead to which images, and which images there are.

An image is known by the digest of its config, its *id*; the record says by which manifest its content is found. The
file is replaced as a whole, under the guard's exclusive lock. Cheap to import.
"""

from __future__ import annotations

import posix

from corral.errors import FailedPrecondition, InvalidArgument
from corral.image.digests import is_digest
from corral.image.disk import Lock, storage_error, write_atomically
from corral.image.manifest import as_object
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

SCHEMA = 1
_MAX_BYTES = 64 << 20


class Record:
    """One image: ``manifest`` leads to its content; ``repo_digests`` are ``repository@digest`` it was fetched as."""

    __slots__ = ("added_ns", "manifest", "repo_digests")

    def __init__(self, manifest: str, added_ns: int, repo_digests: list[str] | None = None) -> None:
        self.manifest = manifest
        self.added_ns = added_ns
        self.repo_digests = repo_digests if repo_digests is not None else []


class Refs:
    """The content of refs.json: ``names`` (complete names with tag -> id) and ``images`` (id -> record)."""

    __slots__ = ("images", "names")

    def __init__(self, names: dict[str, str], images: dict[str, Record]) -> None:
        self.names = names
        self.images = images

    def names_of(self, image_id: str) -> list[str]:
        """The names of an image, sorted."""
        return sorted(name for name, target in self.names.items() if target == image_id)

    def to_json(self) -> dict[str, object]:
        """The document."""
        images = {
            image_id: {"manifest": item.manifest, "added_ns": item.added_ns, "repo_digests": item.repo_digests}
            for image_id, item in self.images.items()
        }
        return {"schema": SCHEMA, "names": self.names, "images": images}


def read_refs(root: str) -> Refs:
    """What refs.json says; without the file, nothing. Needs no lock."""
    path = f"{root}/refs.json"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return Refs({}, {})
    except OSError as exc:
        raise storage_error("open", path, exc) from exc
    try:
        data = posix.read(fd, min(posix.fstat(fd).st_size, _MAX_BYTES) + 1)
    finally:
        posix.close(fd)
    try:
        return _parse(data, path)
    except InvalidArgument as exc:
        exc.hint = (
            "the file was damaged; move it away and pull or load the images again (their content is kept until then)"
        )
        raise


def _parse(data: bytes, path: str) -> Refs:
    value = as_object(loads(data, path), path, "")
    if value.get("schema") != SCHEMA:
        raise FailedPrecondition(
            f"read {path}: schema {value.get('schema')!r}, but this version knows {SCHEMA}",
            hint="a newer version of corral wrote this store: use that one",
        )
    names = as_object(value.get("names"), path, "names")
    images = {
        image_id: _record(as_object(item, path, f"images[{image_id!r}]"), path, image_id)
        for image_id, item in as_object(value.get("images"), path, "images").items()
    }
    for name, image_id in names.items():
        if not isinstance(image_id, str) or image_id not in images:
            raise InvalidArgument(f"read {path}: names[{name!r}] leads to no image")
    return Refs({name: str(image_id) for name, image_id in names.items()}, images)


def _record(value: dict[str, object], path: str, image_id: str) -> Record:
    manifest, added, digests = value.get("manifest"), value.get("added_ns"), value.get("repo_digests")
    if not (is_digest(image_id) and is_digest(manifest) and isinstance(added, int) and isinstance(digests, list)):
        raise InvalidArgument(f"read {path}: images[{image_id!r}] is no record of an image")
    return Record(str(manifest), added, [str(item) for item in digests])


class Change:
    """``with Change(root) as refs:`` changes refs.json: exclusive, written at the end if nothing was raised."""

    __slots__ = ("_before", "_lock", "_refs", "_root")

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock(root)
        self._refs = Refs({}, {})
        self._before = ""

    def __enter__(self) -> Refs:
        self._lock.__enter__()
        try:
            self._refs = read_refs(self._root)
            self._before = dumps(self._refs.to_json())
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self._refs

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                text = dumps(self._refs.to_json())
                if text != self._before:
                    write_atomically(f"{self._root}/refs.json", text.encode(), mode=0o600)
        finally:
            self._lock.__exit__(kind, exc, trace)
