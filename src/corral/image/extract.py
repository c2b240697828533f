"""Unpacks an archive into a tree that is in use, perhaps by somebody hostile: what ``cp`` into a container does.

As ``layers.apply``, each entry is made relative to a descriptor that was reached without following links, or along
links that we resolve inside the tree; no renaming in the tree meanwhile leads outside of it. Unlike there, what exists
counts: directories are kept as they are, links to directories lead on, files are replaced, whiteouts are plain files.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from corral.errors import FailedPrecondition, NotFound
from corral.image.layers import Applied, Applier, Limits, as_error
from corral.image.tarfields import show
from corral.image.tarstream import TarReader
from corral.linux.beneath import open_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.image.tarstream import Member, Source

__all__ = ["extract", "open_folder"]


def open_folder(root_fd: int, path: str) -> int:
    """A descriptor, owned by the caller, of a directory inside the tree of ``root_fd``. Raises: OSError."""
    handle = open_path(root_fd, path)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
    finally:
        os.close(handle)


def extract(
    stream: Source,
    root_fd: int,
    at: str,
    *,
    adopt: Callable[[Member], None] | None = None,
    along_links: bool = True,
) -> Applied:
    """Unpack the tar ``stream`` into the directory ``at`` of the tree ``root_fd`` (borrowed).

    ``adopt`` changes an entry before it is made: its owner on disk, its mode. ``along_links``: links to directories
    below ``at`` lead on, inside the tree. Not so where the tree is a host's: a link that one archive brought would lead
    the next one.
    Raises: NotFound, FailedPrecondition, InvalidArgument, PermissionDenied, ResourceExhausted. What was unpacked until
    then stays.
    """
    try:
        folder = open_folder(root_fd, at)
    except OSError as exc:
        raise NotFound(f"copy to {at}: {(exc.strerror or '').lower()}", path=at, errno=exc.errno or 0) from exc
    try:
        copier = _Copier(root_fd, folder, at, along_links=along_links)
        reader = TarReader(stream)
        try:
            for member in reader:
                if adopt is not None:
                    adopt(member)
                try:
                    copier.add(member, reader)
                except OSError as exc:
                    raise as_error(member, exc) from exc
            copier.finish()
        finally:
            copier.close()
        return copier.applied
    finally:
        os.close(folder)


class _Copier(Applier):
    """The differences to unpacking a layer."""

    def __init__(self, root_fd: int, folder_fd: int, at: str, *, along_links: bool) -> None:
        super().__init__(folder_fd, "user", owners=True, limits=Limits())
        self._tree = root_fd
        self._at = at
        self._leads_on = along_links

    def _is_mark(self, parts: list[bytes], member: Member) -> bool:
        return False

    def _add_root(self, member: Member) -> None:
        pass

    def _clear(self, parent: int, name: bytes) -> bool:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise FailedPrecondition(f"copy over the directory {show(name)}: what comes is none")
        os.unlink(name, dir_fd=parent)
        return False

    def _add_directory(self, member: Member, parent: int, name: bytes, parts: list[bytes]) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            super()._add_directory(member, parent, name, parts)
            return
        if stat.S_ISLNK(status.st_mode):
            os.close(self._along_links([*parts, name], member.name))
        elif not stat.S_ISDIR(status.st_mode):
            raise FailedPrecondition(f"copy the directory {show(member.name)}: a file of its name is there")

    def _along_links(self, parts: list[bytes], whole: bytes) -> int:
        path = f"{self._at}/{os.fsdecode(b'/'.join(parts))}"
        if not self._leads_on:
            raise FailedPrecondition(
                f"copy {show(whole)}: {path!r} is a link, or a file, where a directory comes",
                hint="remove it, or copy to another directory",
                path=path,
            )
        try:
            return open_folder(self._tree, path)
        except OSError as exc:
            raise NotFound(f"copy {show(whole)}: {path!r}: {(exc.strerror or '').lower()}") from exc
