"""What the writable directory of a container says about its layers: as a list, and as a layer.

Works on descriptors of directories and mounts nothing: files of the upper directory are what was written, whiteouts
what was removed, and the layers tell the new from the changed.

Source: Documentation/filesystems/overlayfs.rst; image-spec layer.md "Representing Changes".
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from corral.image.merging import is_opaque, is_whiteout
from corral.image.tarwrite import Ids, IterReader, TreeWriter, check_depth, end_of_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Change", "changes_reader", "list_changes", "open_layer", "places_in_the_way"]

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# fuse-overlayfs marks opaque directories by a file too.
_OPAQUE = ".wh..wh..opq"


class Change(NamedTuple):
    """One path, absolute inside the container. ``kind``: ``A`` added, ``C`` changed, ``D`` deleted."""

    kind: str
    path: bytes


def places_in_the_way(targets: Iterable[str]) -> frozenset[bytes]:
    """Mount points and the directories above them: what the runtime may have made in the writable directory."""
    found = set()
    for target in targets:
        path = os.path.normpath("/" + target.strip("/"))
        while path != "/":
            found.add(os.fsencode(path))
            path = os.path.dirname(path)
    return frozenset(found)


def list_changes(
    upper_fd: int, layers: Sequence[int], *, ids: Ids | None = None, places: frozenset[bytes] = frozenset()
) -> list[Change]:
    """All changes, by path. ``layers``: descriptors of the lower directories, top first; all are borrowed.

    ``ids``: owners in the upper directory as the container sees them. ``places``: see ``places_in_the_way``: what is
    empty there, and in no layer, is no change.
    """
    return sorted(_Walk(ids or Ids(), places).directory(upper_fd, list(layers), b""), key=lambda change: change.path)


class _Walk:
    def __init__(self, ids: Ids, places: frozenset[bytes]) -> None:
        self._ids = ids
        self._places = places

    def directory(self, upper: int, below: list[int], path: bytes) -> list[Change]:
        """The changes inside one directory; ``below``: what the layers have at the same place."""
        found: list[Change] = []
        written = os.listdir(upper)
        hides = path != b"" and (_OPAQUE in written or is_opaque(upper))
        names = set()
        for name in written:
            raw = os.fsencode(name)
            names.add(raw)
            if name == _OPAQUE:
                continue
            try:
                found += self._entry(upper, raw, below, path + b"/" + raw)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a live container removed or replaced it meanwhile
        if hides:
            found += [Change("D", path + b"/" + name) for name in _visible(below) - names]
        return found

    def _entry(self, upper: int, name: bytes, below: list[int], path: bytes) -> list[Change]:
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        old = _look(below, name)
        if is_whiteout(status):
            return [Change("D", path)] if old is not None else []
        if not stat.S_ISDIR(status.st_mode):
            if old is None and path in self._places and stat.S_ISREG(status.st_mode) and not status.st_size:
                return []
            return [Change("A" if old is None else "C", path)]
        return self._inner(upper, name, below, path, old)

    def _inner(
        self, upper: int, name: bytes, below: list[int], path: bytes, old: os.stat_result | None
    ) -> list[Change]:
        check_depth(path)
        was_directory = old is not None and stat.S_ISDIR(old.st_mode)
        inner = os.open(name, _DIR_FLAGS, dir_fd=upper)
        lower = _open_all(below, name) if was_directory else []
        try:
            found = self.directory(inner, lower, path)
            status = os.fstat(inner)
        finally:
            os.close(inner)
            for fd in lower:
                os.close(fd)
        if old is None:
            if not found and path in self._places:
                return []
            return [Change("A", path), *found]
        if found or not was_directory or not self._looks_alike(status, old):
            return [Change("C", path), *found]
        return []

    def _looks_alike(self, new: os.stat_result, old: os.stat_result) -> bool:
        owner = (self._ids.uid(new.st_uid), self._ids.gid(new.st_gid))
        return (new.st_mode, *owner) == (old.st_mode, old.st_uid, old.st_gid)


def open_layer(path: bytes | str, folder_fd: int | None = None) -> int:
    """A descriptor, owned by the caller, of a layer's directory: one that this user cannot list is only looked into."""
    try:
        return os.open(path, _DIR_FLAGS, dir_fd=folder_fd)
    except PermissionError:
        return os.open(path, _DIR_FLAGS | os.O_PATH, dir_fd=folder_fd)


def _look(below: list[int], name: bytes) -> os.stat_result | None:
    """What the layers show under ``name``, None for nothing."""
    for folder in below:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, PermissionError):
            continue
        return None if is_whiteout(status) else status
    return None


def _open_all(below: list[int], name: bytes) -> list[int]:
    """The directories of this name that merge, top first; owned by the caller."""
    found: list[int] = []
    for folder in below:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, PermissionError):
            continue
        if not stat.S_ISDIR(status.st_mode):
            break
        found.append(open_layer(name, folder))
        if is_opaque(found[-1]):
            break
    return found


def _visible(below: list[int]) -> set[bytes]:
    """The names that the layers show in a directory."""
    shown: set[bytes] = set()
    hidden: set[bytes] = set()
    for folder in below:
        for raw in _names(folder):
            if raw in hidden or raw in shown:
                continue
            if is_whiteout(os.stat(raw, dir_fd=folder, follow_symlinks=False)):
                hidden.add(raw)
            else:
                shown.add(raw)
    return shown


def _names(folder: int) -> list[bytes]:
    try:
        return [os.fsencode(name) for name in os.listdir(folder)]
    except OSError:
        return []  # this user may not list it, so it saw none of them


def changes_reader(
    upper_fd: int, layers: Sequence[int], *, ids: Ids | None = None, places: frozenset[bytes] = frozenset()
) -> IterReader:
    """The changes as a layer: a tar stream with whiteouts and opaque marks, the same bytes for the same files.

    Parameters as ``list_changes``; the descriptors stay open until all is read.
    """
    changes = list_changes(upper_fd, layers, ids=ids, places=places)
    wanted = {change.path for change in changes}
    for change in changes:
        above = os.path.dirname(change.path)
        while above not in wanted and above != b"/":
            wanted.add(above)
            above = os.path.dirname(above)
    return IterReader(_layer(upper_fd, wanted, TreeWriter(ids)))


def _layer(upper: int, wanted: set[bytes], writer: TreeWriter) -> Iterator[bytes]:
    yield from _folder(upper, b"", wanted, writer)
    yield end_of_archive()


def _folder(fd: int, shown: bytes, wanted: set[bytes], writer: TreeWriter) -> Iterator[bytes]:
    names = sorted(os.fsencode(item) for item in os.listdir(fd))
    if shown and (os.fsencode(_OPAQUE) in names or is_opaque(fd)):
        yield from writer.marker(shown + b"/" + os.fsencode(_OPAQUE))
    for name in names:
        path = shown + b"/" + name if shown else name
        if b"/" + path not in wanted:
            continue
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if is_whiteout(status):
            yield from writer.marker((shown + b"/" if shown else b"") + b".wh." + name)
        elif stat.S_ISDIR(status.st_mode):
            inner = os.open(name, _DIR_FLAGS, dir_fd=fd)
            try:
                yield from writer.directory(inner, path)
                yield from _folder(inner, path, wanted, writer)
            finally:
                os.close(inner)
        else:
            yield from writer.entry(fd, name, path)
