"""Copies of layers with other owners: for user namespaces where the kernel cannot map the ids of a mount.

A copy is kept beside the layers, made once for each map, under a lock, and renamed when it is complete. Contents are
shared where the file system can (reflinks), else copied.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import zlib
from typing import TYPE_CHECKING

from corral.image.making import DIRECTORY, make_once
from corral.image.tarwrite import check_depth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.image.tarwrite import Ids

    Extent = tuple[int, int, int]

__all__ = ["PREFIX", "shifted_layer"]

PREFIX = ".shifted-"
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409
_CAPABILITY = "security.capability"


def shifted_layer(store: str, layer: str, maps: tuple[Sequence[Extent], Sequence[Extent]], ids: Ids) -> str:
    """The copy of the directory ``layer`` (``STORE/layers/CHAIN/diff``) whose owners are ``ids.to_disk``.

    Made if it is missing. ``store``: STORE/layers. ``maps``: what ``ids`` was made of. Only root may. Raises: OSError.
    """
    chain = os.path.basename(os.path.dirname(layer))
    final = f"{store}/{PREFIX}{chain}-{zlib.crc32(repr(maps).encode()):08x}"

    def fill(target: int) -> None:
        source = os.open(layer, DIRECTORY)
        try:
            _Copy(ids, target).directory(source, target)
        finally:
            os.close(source)

    return make_once(final, fill, mode=0o700)


class _Copy:
    def __init__(self, ids: Ids, root: int) -> None:
        self._ids = ids
        self._root = root
        # Where in the copy a file with several names was first put.
        self._linked: dict[tuple[int, int], str] = {}
        self._root_uid = ids.to_disk(0, 0)[0]

    def directory(self, source: int, target: int, path: str = "") -> None:
        """Copy what is in one directory, then what the directory itself looks like; both are borrowed."""
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                check_depth(os.fsencode(path))
                os.mkdir(name, 0o700, dir_fd=target)
                inner, copy = os.open(name, DIRECTORY, dir_fd=source), os.open(name, DIRECTORY, dir_fd=target)
                try:
                    self.directory(inner, copy, f"{path}{name}/")
                finally:
                    os.close(inner)
                    os.close(copy)
            elif stat.S_ISREG(status.st_mode):
                self._file(source, target, name, status, path)
            else:
                self._other(source, target, name, status)
        self._dress(source, target)

    def _file(self, source: int, target: int, name: str, status: os.stat_result, path: str) -> None:
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._linked.setdefault(key, path + name)
            if first != path + name:
                os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target, follow_symlinks=False)
                return
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            writer = os.open(name, _FILE_FLAGS, 0o600, dir_fd=target)
            try:
                _copy_content(reader, writer, status.st_size)
                self._dress(reader, writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _other(self, source: int, target: int, name: str, status: os.stat_result) -> None:
        uid, gid = self._ids.to_disk(status.st_uid, status.st_gid)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def _dress(self, source: int, target: int) -> None:
        status = os.fstat(source)
        os.fchown(target, *self._ids.to_disk(status.st_uid, status.st_gid))
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            value = os.getxattr(source, name)
            if name == _CAPABILITY and len(value) == 20:
                # Capabilities count in the namespace whose root is that user. Source: struct vfs_ns_cap_data.
                (magic,) = struct.unpack_from("<I", value)
                value = struct.pack("<I", 0x03000000 | magic & 1) + value[4:] + struct.pack("<I", self._root_uid)
            os.setxattr(target, name, value)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_content(reader: int, writer: int, size: int) -> None:
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
        return
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV):
            raise
    left = size
    while left and (copied := os.copy_file_range(reader, writer, left)):
        left -= copied
