"""Both ends of ``cp`` on a tree that somebody hostile may be changing: looking, packing, unpacking; by descriptors.

A *request* is plain data, as it may be carried out in another process (``engine.inside``):
``at`` the directory to unpack into, ``owner`` [uid, gid] for all that is new or None for the archive's, ``is_host``
whether it is a directory of this host, where links lead nowhere, ``path`` what to pack, ``name`` what it is called in
the archive ("" = only a directory's content, without its own entry), ``bare`` paths of the archive whose content is
left out, since something is mounted there.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Any

from corral.errors import NotFound
from corral.image.extract import extract, open_folder
from corral.image.tarwrite import Ids, TreeWriter, end_of_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.image.tarstream import Member, Source

__all__ = ["look", "open_root", "put", "take"]

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40


def look(root_fd: int, path: str, *, is_followed: bool = True) -> dict[str, Any] | None:
    """What ``path`` is in the tree: ``kind`` (``directory``, ``file``, ``link``, ``other``), ``mode``, ``uid``,
    ``gid``, ``size``, ``mtime_ns``, ``link`` (its text), and ``path``, where it is once links are followed. None:
    nothing is there.

    ``is_followed``: a link as the last component means what it points to.
    """
    path = posixpath.normpath("/" + path.strip("/"))
    for _ in range(_MAX_LINKS):
        folder, name = posixpath.split(path)
        if not name:
            name = "."
        try:
            fd = open_folder(root_fd, folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and is_followed:
                text = os.readlink(name, dir_fd=fd)
                path = posixpath.join(folder, text)
                continue
            return _describe(status, path, os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else "")
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)
    return None


def _describe(status: os.stat_result, path: str, link: str) -> dict[str, Any]:
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
    kind = next((name for test, name in kinds if test(status.st_mode)), "other")
    return {
        "kind": kind,
        "mode": status.st_mode,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "link": link,
        "path": path,
    }


def put(root_fd: int, request: dict[str, Any], stream: Source, ids: Ids | None = None) -> None:
    """Unpack the archive into ``at``. ``ids``: owners inside to owners on disk. Raises: CorralError."""
    owner, is_host = request.get("owner"), bool(request.get("is_host"))
    plain = ids or Ids()

    def adopt(member: Member) -> None:
        if owner is not None and (is_host or [member.uid, member.gid] != owner):
            # A program of a container's user must not become one that runs as root, nor one as whoever is here.
            member.mode &= ~(stat.S_ISUID | stat.S_ISGID)
            member.xattrs.pop(b"security.capability", None)
        member.uid, member.gid = plain.to_disk(*(owner or (member.uid, member.gid)))

    extract(stream, root_fd, request["at"], adopt=adopt, along_links=not is_host)


def take(root_fd: int, request: dict[str, Any], ids: Ids | None = None) -> Iterator[bytes]:
    """The archive of ``path``, whose entries begin with ``name``. Raises: NotFound."""
    path, shown = request["path"], os.fsencode(request["name"])
    folder, name = posixpath.split(posixpath.normpath("/" + path.strip("/")))
    writer = TreeWriter(ids, is_precise=True)
    try:
        parent = open_folder(root_fd, folder)
    except OSError as exc:
        raise NotFound(f"copy {path}: {(exc.strerror or '').lower()}", path=path) from exc
    try:
        if name and not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            yield from writer.entry(parent, os.fsencode(name), shown)
        else:
            fd = os.open(name or ".", _DIR_FLAGS, dir_fd=parent)
            try:
                bare = frozenset(map(os.fsencode, request.get("bare", ())))
                yield from writer.tree(fd, shown, bare=bare, with_top=bool(shown))
            finally:
                os.close(fd)
    except FileNotFoundError as exc:
        raise NotFound(f"copy {path}: no such file or directory", path=path) from exc
    finally:
        os.close(parent)
    yield end_of_archive()


def open_root(path: str) -> int:
    """A descriptor of a tree's top, owned by the caller, for the functions here."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
