"""Unpacks a layer into a directory, as an overlay wants it, whatever its author intended.

No entry touches anything outside of the directory: each is made relative to a descriptor of its parent, which was
reached without following a link, or along links that we resolve ourselves inside the directory. Nobody else may write
to the directory meanwhile. Whiteouts become the overlay's own; attributes that would mean something to an overlay, and
are not ours, are dropped.

Source: image-spec layer.md "Applying Changesets"; Documentation/filesystems/overlayfs.rst "whiteouts and opaque
directories".
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING, Literal

from corral.errors import CorralError, InvalidArgument, PermissionDenied, ResourceExhausted
from corral.image.tarfields import show
from corral.image.tarstream import BLOCK, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Member, TarReader
from corral.linux.beneath import open_path
from corral.linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.image.tarstream import Source

__all__ = ["Applied", "Applier", "Limits", "Marks", "apply", "as_error", "is_allowed_xattr"]

Marks = Literal["trusted", "user"]

MAX_NAME = 255
MAX_PATH = 4096
MAX_DEPTH = 1024
_CACHED = 64

_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Refused by some file systems, or by a user namespace: the file is of use without them.
_XATTR_REFUSALS = frozenset((errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA, errno.EINVAL))


class Limits:
    """What a layer may cost: bytes of all files as they appear, holes included, and entries."""

    __slots__ = ("max_bytes", "max_entries")

    def __init__(self, max_bytes: int = 1 << 40, max_entries: int = 10_000_000) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries


class Applied:
    """What was unpacked.

    ``skipped_devices``: nodes that an unprivileged caller may not make. ``implied``: directories without an entry of
    their own (below the layer, without leading slash), whose attributes are a guess. ``is_opaque``: the layer hides
    everything below it.
    """

    __slots__ = ("entries", "implied", "is_opaque", "size_bytes", "skipped_devices")

    def __init__(self) -> None:
        self.entries = 0
        self.size_bytes = 0
        self.skipped_devices = 0
        self.implied: list[bytes] = []
        self.is_opaque = False


def apply(
    stream: Source,
    directory_fd: int,
    *,
    marks: Marks = "trusted",
    owners: bool = True,
    limits: Limits | None = None,
    check: Callable[[], None] | None = None,
) -> Applied:
    """Unpack the tar ``stream`` into the directory ``directory_fd`` (borrowed), which is empty at first.

    ``marks``: attributes by which the overlay knows opaque directories: ``user`` for mounts made in a user namespace.
    ``owners``: False leaves every file to the caller. ``check`` is called between entries, and may raise.

    Raises: InvalidArgument for an archive that is damaged, or would act outside of the directory; ResourceExhausted;
    PermissionDenied for owners that this user namespace lacks. What was unpacked until then stays.
    """
    applier = Applier(directory_fd, marks, owners=owners, limits=limits or Limits())
    reader = TarReader(stream)
    try:
        for member in reader:
            if check is not None:
                check()
            try:
                applier.add(member, reader)
            except OSError as exc:
                raise as_error(member, exc) from exc
        applier.finish()
    finally:
        applier.close()
    return applier.applied


def as_error(member: Member, exc: OSError) -> CorralError:
    """What the kernel refused while ``member`` was made, in words."""
    what = f"unpack {show(member.name)}"
    cause = (exc.strerror or "input/output error").lower()
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        return ResourceExhausted(
            f"{what}: {cause}", hint="free space in the store: corral system prune", errno=exc.errno
        )
    if exc.errno == errno.EINVAL and (member.uid or member.gid):
        return PermissionDenied(
            f"{what}: its owner {member.uid}:{member.gid} does not exist in this user namespace",
            hint="give this user more ids in /etc/subuid and /etc/subgid (65536 serve nearly every image)",
            errno=exc.errno,
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(f"{what}: {cause}", errno=exc.errno)
    return InvalidArgument(f"{what}: {cause}", errno=exc.errno or 0)


def _refuse(name: bytes, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"unpack {show(name)}: {why}", hint="what is unpacked is damaged or hostile: do not trust it"
    )


def split_path(name: bytes, whole: bytes) -> list[bytes]:
    """The components of an entry's path, below the layer's root. Raises: InvalidArgument for what leads elsewhere."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise _refuse(whole, "a path with '..' in it")
    if b"\0" in name or len(name) > MAX_PATH or len(parts) > MAX_DEPTH or any(len(part) > MAX_NAME for part in parts):
        raise _refuse(whole, "a path that no file can have")
    return parts


class Applier:
    """Makes one entry after the other; ``apply`` is its use. ``extract`` has another."""

    def __init__(self, root_fd: int, marks: Marks, *, owners: bool, limits: Limits) -> None:
        self.applied = Applied()
        self._root = root_fd
        self._marks = marks.encode() + b".overlay."
        self._owners = owners
        self._limits = limits
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._folders: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self._implied: set[bytes] = set()
        space = os.fstatvfs(root_fd)
        self._space = space.f_bavail * space.f_frsize

    # ---- directories ------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Close what is cached: a directory was removed, so that paths may mean something else."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders.clear()

    def close(self) -> None:
        """Close what is held."""
        self._forget()

    def _folder(self, parts: list[bytes], whole: bytes) -> int:
        """A descriptor, borrowed until the next call, of a directory, which is made if it is missing."""
        if not parts:
            return self._root
        path = b"/".join(parts)
        fd = self._folders.get(path, -1)
        if fd >= 0:
            return fd
        try:
            fd = os.open(parts[-1], _DIR_FLAGS, dir_fd=self._folder(parts[:-1], whole))
        except FileNotFoundError:
            fd = self._make_implied(parts, whole)
        except NotADirectoryError:
            fd = self._along_links(parts, whole)
        except OSError as exc:
            if exc.errno != errno.ELOOP:
                raise
            fd = self._along_links(parts, whole)
        if len(self._folders) >= _CACHED:
            self._forget()
        self._folders[path] = fd
        return fd

    def _make_implied(self, parts: list[bytes], whole: bytes) -> int:
        parent = self._folder(parts[:-1], whole)
        os.mkdir(parts[-1], 0o755, dir_fd=parent)
        fd = os.open(parts[-1], _DIR_FLAGS, dir_fd=parent)
        os.fchmod(fd, 0o755)
        self._implied.add(b"/".join(parts))
        return fd

    def _along_links(self, parts: list[bytes], whole: bytes) -> int:
        """The directory that a path with symlinks in it means inside the layer."""
        path = b"/".join(parts)
        try:
            handle = open_path(self._root, os.fsdecode(path))
        except OSError as exc:
            raise _refuse(whole, f"its directory cannot be reached inside the layer ({_words(exc)})") from exc
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
        except NotADirectoryError as exc:
            parent = self._folder(parts[:-1], whole)
            if not _is_whiteout(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)):
                raise _refuse(whole, "something on its path is a file") from exc
            os.unlink(parts[-1], dir_fd=parent)
        finally:
            os.close(handle)
        # A whiteout of this very layer: the directory in its place hides what is below.
        fd = self._make_implied(parts, whole)
        os.setxattr(fd, self._marks + b"opaque", b"y")
        return fd

    # ---- entries ----------------------------------------------------------------------------------

    def add(self, member: Member, reader: TarReader) -> None:
        """Make one entry."""
        applied = self.applied
        applied.entries += 1
        applied.size_bytes += member.size
        if applied.entries > self._limits.max_entries or applied.size_bytes > self._limits.max_bytes:
            raise ResourceExhausted(
                f"unpack {show(member.name)}: the layer has more than {self._limits.max_entries} entries "
                f"or {self._limits.max_bytes} bytes"
            )
        if member.stored > self._space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        parts = split_path(member.name, member.name)
        if not parts:
            self._add_root(member)
            return
        if _WHITEOUT in member.name and self._is_mark(parts, member):
            return
        name = parts.pop()
        parent = self._folder(parts, member.name)
        if member.kind == FILE:
            self._add_file(member, reader, parent, name)
        elif member.kind == DIRECTORY:
            self._add_directory(member, parent, name, parts)
        elif member.kind == SYMLINK:
            self._add_symlink(member, parent, name)
        elif member.kind == LINK:
            self._add_link(member, parent, name)
        else:
            self._add_node(member, parent, name)

    def _add_root(self, member: Member) -> None:
        if member.kind != DIRECTORY:
            raise _refuse(member.name, "the layer's root is not a directory")
        self._dress(self._root, member)
        self._times[b"."] = member.mtime_ns

    def _is_mark(self, parts: list[bytes], member: Member) -> bool:
        """Handle whiteouts, opaque marks and what AUFS left; False for an ordinary entry."""
        for part in parts[:-1]:
            if part.startswith(_META):
                return True
            if part.startswith(_WHITEOUT):
                raise _refuse(member.name, "a whiteout is no directory")
        name = parts[-1]
        if not name.startswith(_WHITEOUT):
            return False
        if name == _OPAQUE:
            self._make_opaque(parts[:-1], member.name)
        elif not name.startswith(_META):
            hidden = name[len(_WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise _refuse(member.name, "a whiteout of nothing")
            self._hide(parts[:-1], hidden, member.name)
        return True

    def _make_opaque(self, parts: list[bytes], whole: bytes) -> None:
        if not parts:
            self.applied.is_opaque = True
            return
        os.setxattr(self._folder(parts, whole), self._marks + b"opaque", b"y")

    def _hide(self, parts: list[bytes], name: bytes, whole: bytes) -> None:
        """A whiteout speaks of lower layers only: what this layer itself has under the name stays."""
        parent = self._folder(parts, whole)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                self._make_opaque([*parts, name], whole)

    def _clear(self, parent: int, name: bytes) -> bool:
        """Remove what an earlier entry made there; True if that was a whiteout."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._forget_below(parent)
            shutil.rmtree(name, dir_fd=parent)
            return False
        os.unlink(name, dir_fd=parent)
        if stat.S_ISLNK(status.st_mode):
            self._forget_below(parent)
        return _is_whiteout(status)

    def _forget_below(self, parent: int) -> None:
        """Drop cached directories, but not the one in use."""
        kept = {path: fd for path, fd in self._folders.items() if fd == parent}
        for fd in self._folders.values():
            if fd != parent:
                os.close(fd)
        self._folders = kept

    def _add_file(self, member: Member, reader: TarReader, parent: int, name: bytes) -> None:
        try:
            fd = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            reader.copy_to(fd, member)
            self._dress(fd, member)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(fd)

    def _add_directory(self, member: Member, parent: int, name: bytes, parts: list[bytes]) -> None:
        is_opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                is_opaque = self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIR_FLAGS, dir_fd=parent)
        try:
            self._dress(fd, member)
            if is_opaque:
                os.setxattr(fd, self._marks + b"opaque", b"y")
        finally:
            os.close(fd)
        path = b"/".join((*parts, name))
        self._implied.discard(path)
        self._times[path] = member.mtime_ns

    def _add_symlink(self, member: Member, parent: int, name: bytes) -> None:
        if not member.link or b"\0" in member.link or len(member.link) >= MAX_PATH:
            raise _refuse(member.name, "a symbolic link to nowhere")
        try:
            os.symlink(member.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.symlink(member.link, name, dir_fd=parent)
        self._dress_by_name(parent, name, member)

    def _add_link(self, member: Member, parent: int, name: bytes) -> None:
        target = split_path(member.link, member.name)
        if not target or any(part.startswith(_WHITEOUT) for part in target):
            raise _refuse(member.name, f"a hard link to {show(member.link)}")
        # Held apart: looking for the target may drop the parent from the cache.
        parent = os.dup(parent)
        try:
            source = self._existing_folder(target[:-1], member)
            try:
                status = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) or _is_whiteout(status):
                    raise _refuse(member.name, f"a hard link to {show(member.link)}, which is no file")
                self._link(source, target[-1], parent, name)
            except FileNotFoundError as exc:
                raise _refuse(member.name, f"a hard link to {show(member.link)}, which the layer lacks") from exc
            finally:
                os.close(source)
        finally:
            os.close(parent)

    def _existing_folder(self, parts: list[bytes], member: Member) -> int:
        """A directory inside the layer, which is there already; the descriptor is the caller's."""
        try:
            return open_path(self._root, os.fsdecode(b"/".join(parts)))
        except OSError as exc:
            raise _refuse(member.name, f"a hard link to {show(member.link)} ({_words(exc)})") from exc

    def _link(self, source: int, target: bytes, parent: int, name: bytes) -> None:
        arguments = {"src_dir_fd": source, "dst_dir_fd": parent, "follow_symlinks": False}
        try:
            os.link(target, name, **arguments)  # type: ignore[arg-type]
        except FileExistsError:
            old = os.stat(name, dir_fd=parent, follow_symlinks=False)
            new = os.stat(target, dir_fd=source, follow_symlinks=False)
            if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino):
                return
            self._clear(parent, name)
            os.link(target, name, **arguments)  # type: ignore[arg-type]

    def _add_node(self, member: Member, parent: int, name: bytes) -> None:
        kinds = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
        device = 0
        if member.kind != FIFO:
            if member.major > 0xFFF or member.minor > 0xFFFFF:
                raise _refuse(member.name, f"a device {member.major}:{member.minor}")
            device = os.makedev(member.major, member.minor)
        try:
            self._make_node(name, kinds[member.kind] | 0o600, device, parent)
        except PermissionError:
            self.applied.skipped_devices += 1
            return
        if member.kind == CHAR and device == 0:
            return  # the overlay takes it for a whiteout, and so does every other unpacker
        self._dress_by_name(parent, name, member)
        os.chmod(name, member.mode, dir_fd=parent)

    def _make_node(self, name: bytes, mode: int, device: int, parent: int) -> None:
        try:
            os.mknod(name, mode, device, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.mknod(name, mode, device, dir_fd=parent)

    # ---- attributes -------------------------------------------------------------------------------

    def _dress(self, fd: int, member: Member) -> None:
        """Owner, mode, attributes: in this order, since a change of owner clears the others."""
        if self._owners and (member.uid != self._uid or member.gid != self._gid):
            os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode)
        for name, value in member.xattrs.items():
            if not is_allowed_xattr(name):
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as exc:
                if exc.errno not in _XATTR_REFUSALS:
                    raise

    def _dress_by_name(self, parent: int, name: bytes, member: Member) -> None:
        if self._owners and (member.uid != self._uid or member.gid != self._gid):
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Times of directories, now that nothing is made in them any more."""
        for path, when in self._times.items():
            try:
                fd = openat2(self._root, os.fsdecode(path), _DIR_FLAGS, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except OSError:
                continue  # replaced by a later entry, or a link leads there by now
            try:
                os.utime(fd, ns=(when, when))
            finally:
                os.close(fd)
        self.applied.implied = sorted(self._implied)


def is_allowed_xattr(name: bytes) -> bool:
    """Whether an archive may set it: what a program may set on its own files, capabilities and access lists."""
    if name.startswith(b"user."):
        return not name.startswith((b"user.overlay.", b"user.fuseoverlayfs."))
    return name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _words(exc: OSError) -> str:
    return (exc.strerror or "").lower()
