"""The engine's files: read whole, replaced whole, and trees removed without trusting what lies in them."""

from __future__ import annotations

import errno
import posix

from corral.errors import Internal, PermissionDenied, ResourceExhausted
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "empty_tree",
    "from_os_error",
    "overwrite",
    "read_bytes_or_none",
    "read_object_or_none",
    "remove_tree",
    "replace",
    "tree_bytes",
    "write_object",
]

_FORMAT, _DIRECTORY = 0o170000, 0o040000
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_MAX_BYTES = 64 << 20
_PAGE = 4096


def from_os_error(operation: str, path: str, exc: OSError) -> ResourceExhausted | PermissionDenied | Internal:
    """The error to raise for what the kernel said of one of our own files."""
    number = exc.errno or errno.EIO
    kind = ResourceExhausted if number in _NO_SPACE else PermissionDenied if number in _DENIED else Internal
    hint = "free some space in the store" if number in (errno.ENOSPC, errno.EDQUOT) else ""
    return kind(f"{operation} {path}: {posix.strerror(number).lower()}", hint=hint, path=path, errno=number)


def _cause(exc: OSError) -> str:
    return posix.strerror(exc.errno or errno.EIO).lower()


def read_bytes_or_none(path: str, *, limit: int = _MAX_BYTES, is_link_fine: bool = False) -> bytes | None:
    """The content of a file; None if there is none. ``is_link_fine``: of the host's files. Raises: OSError."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | (0 if is_link_fine else posix.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        chunks, size = [], 0
        while chunk := posix.read(fd, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise OSError(errno.EFBIG, posix.strerror(errno.EFBIG), path)
    finally:
        posix.close(fd)
    return b"".join(chunks)


def read_object_or_none(path: str) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no file, or it holds none (it was cut off). Raises: OSError."""
    data = read_bytes_or_none(path)
    if data is None:
        return None
    from corral.errors import CorralError

    try:
        value = loads(data, path)
    except CorralError:
        return None
    return value if isinstance(value, dict) else None


def replace(path: str, content: bytes, *, is_synced: bool = False, mode: int = 0o600) -> None:
    """Put ``content`` in place of the file by tmp and rename: readers see the old or the new, never a part.

    ``is_synced``: also after a loss of power. Raises: CorralError.
    """
    head, _, name = path.rpartition("/")
    fresh = f"{head}/.{name}-{posix.urandom(6).hex()}"
    try:
        fd = posix.open(fresh, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[posix.write(fd, view) :]
            if is_synced:
                posix.fdatasync(fd)
        finally:
            posix.close(fd)
        posix.rename(fresh, path)
    except OSError as exc:
        try:
            posix.unlink(fresh)
        except OSError:
            pass  # It never came to be, or stays: dot files are nobody's, and go with their directory.
        raise from_os_error("write", path, exc) from exc


def overwrite(path: str, content: bytes) -> bool:
    """Write ``content``, JSON, over a file in the one block that it has already; whether there is one and it fits.

    By one write of a page at most, filled up with blanks: who reads meanwhile sees the old or the new.
    """
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except OSError:
        return False
    try:
        held = posix.fstat(fd)
        padded = content.ljust(held.st_size)
        if not held.st_blocks or len(padded) > _PAGE:
            return False
        return posix.pwrite(fd, padded, 0) == len(padded)
    except OSError:
        return False
    finally:
        posix.close(fd)


def write_object(path: str, value: object, *, is_synced: bool = False) -> None:
    """``replace`` with one line of JSON. Raises: CorralError."""
    replace(path, dumps(value).encode() + b"\n", is_synced=is_synced)


def remove_tree(path: str) -> list[str]:
    """Remove a directory with all below, whatever a hostile workload made of it; returns what stays and why.

    Works at the names of one directory at a time (directories below are first moved up), so depth costs neither stack
    nor descriptors, and no link is followed. A tree that is gone already is fine.
    """
    try:
        top = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as exc:
        if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
            return [f"{path}: {_cause(exc)}"]
        posix.unlink(path)
        return []
    try:
        problems = empty_tree(top, path)
    finally:
        posix.close(top)
    try:
        posix.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        problems.append(f"{path}: {_cause(exc)}")
    return problems


def empty_tree(top: int, shown: str) -> list[str]:
    """Empty the directory ``top`` (borrowed), called ``shown``, as ``remove_tree`` does; returns what stays and why."""
    # Its directories lose their content, then themselves, those below being moved up.
    problems: list[str] = []
    stuck: set[str] = set()
    moved = 0
    while True:
        directories = [name for name in _unlink_files(top, shown, problems, stuck) if name not in stuck]
        if not directories:
            return problems
        for name in directories:
            moved = _flatten(top, name, moved, shown=shown, problems=problems, stuck=stuck)


def _unlink_files(directory: int, shown: str, problems: list[str], stuck: set[str]) -> list[str]:
    """Unlink all that is no directory; returns the directories."""
    directories = []
    with posix.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            directories.append(name)
        elif name not in stuck:
            try:
                posix.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                pass
            except OSError as exc:
                stuck.add(name)
                problems.append(f"{shown}/{name}: {_cause(exc)}")
    return directories


def _flatten(top: int, name: str, moved: int, *, shown: str, problems: list[str], stuck: set[str]) -> int:
    """Remove the directory ``name`` of ``top``, after its own directories were moved to ``top``; returns the count."""
    below = f"{shown}/{name}"
    try:
        try:
            child = posix.open(
                name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=top
            )
        except PermissionError:
            posix.chmod(name, 0o700, dir_fd=top)
            child = posix.open(
                name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=top
            )
        try:
            if posix.geteuid() != 0:
                posix.fchmod(child, 0o700)
            before = len(problems)
            for inner in _unlink_files(child, below, problems, set()):
                moved += 1
                try:
                    posix.rename(inner, f".moved-{moved}-{posix.urandom(4).hex()}", src_dir_fd=child, dst_dir_fd=top)
                except OSError as exc:
                    # Another project quota: the tree there is emptied where it is.
                    if exc.errno != errno.EXDEV:
                        raise
                    problems += _empty_in(child, inner, f"{below}/{inner}")
        finally:
            posix.close(child)
        if len(problems) > before:
            stuck.add(name)
            return moved
        posix.rmdir(name, dir_fd=top)
    except FileNotFoundError:
        pass
    except OSError as exc:
        stuck.add(name)
        problems.append(f"{below}: {_cause(exc)}")
    return moved


def _empty_in(parent: int, name: str, shown: str) -> list[str]:
    inner = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent)
    try:
        problems = empty_tree(inner, shown)
    finally:
        posix.close(inner)
    if not problems:
        posix.rmdir(name, dir_fd=parent)
    return problems


def tree_bytes(path: str) -> int:
    """How much the files below hold, each counted once. What cannot be read is left out."""
    seen: set[tuple[int, int]] = set()
    total = 0
    # No recursion: a workload may have made its tree deeper than any stack, or than a path may be long.
    waiting = [path]
    while waiting:
        here = waiting.pop()
        try:
            info = posix.lstat(here)
            if info.st_mode & _FORMAT == _DIRECTORY:
                waiting += [f"{here}/{name}" for name in posix.listdir(here)]
        except OSError:
            continue
        if (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total
