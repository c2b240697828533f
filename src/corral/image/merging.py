"""One tree out of several layers, without a mount: for images that are bind-mounted into containers.

Files are hard links to the layers' own, so it costs directories only; whoever uses it must not write to it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from corral.errors import Unsupported
from corral.image.making import DIRECTORY, make_once

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_opaque", "is_whiteout", "merged_tree"]

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


def merged_tree(store: str, chain_id: str, layers: Sequence[str]) -> str:
    """The directory with what an overlay of ``layers`` (directories, top first) would show, made if it is missing.

    ``store``: where it is kept, under the image's topmost ``chain_id``. Read-only for its users. Raises: Unsupported
    where the file system has no hard links; OSError.
    """
    final = os.path.join(store, ".merged-" + chain_id.partition(":")[2])

    def fill(target: int) -> None:
        folders = [os.open(layer, DIRECTORY) for layer in layers]
        try:
            _merge(folders, target)
        except OSError as exc:
            if exc.errno in (errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP):
                raise Unsupported(f"merge the layers in {store}: hard links are not possible there") from exc
            raise
        finally:
            for folder in folders:
                os.close(folder)

    return make_once(final, fill)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry of a layer hides what is below it."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(fd: int) -> bool:
    """Whether a directory of a layer hides the directories below it."""
    for name in _OPAQUE:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            pass
    return False


def _merge(folders: list[int], target: int) -> None:
    """Fill ``target`` from directories of the same path, top first; all borrowed."""
    seen: set[str] = set()
    below: dict[str, list[int]] = {}
    closed: set[str] = set()
    try:
        for folder in folders:
            for name in os.listdir(folder):
                _take(folder, name, target, seen=seen, below=below, closed=closed)
            if is_opaque(folder):
                break
        for name, inner in below.items():
            _merge_directory(inner, name, target)
    finally:
        for inner in below.values():
            for fd in inner:
                os.close(fd)
    _dress(folders[0], target)


def _take(
    folder: int, name: str, target: int, *, seen: set[str], below: dict[str, list[int]], closed: set[str]
) -> None:
    if name in closed:
        return
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        seen.add(name)
        fd = os.open(name, DIRECTORY, dir_fd=folder)
        below.setdefault(name, []).append(fd)
        if is_opaque(fd):
            closed.add(name)
        return
    # A file below a directory ends what that directory merges with; a file above all hides everything.
    closed.add(name)
    if name in seen:
        return
    seen.add(name)
    if not is_whiteout(status):
        os.link(name, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)


def _merge_directory(inner: list[int], name: str, target: int) -> None:
    os.mkdir(name, 0o700, dir_fd=target)
    fd = os.open(name, DIRECTORY, dir_fd=target)
    try:
        _merge(inner, fd)
    finally:
        os.close(fd)


def _dress(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
