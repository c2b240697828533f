"""What ``os.path`` does, as far as a cold planner needs it: paths are ``str``, and nothing else is imported for them.

The functions have the standard library's names and results (tests/unit/linux/test_paths.py compares the two).
"""

from __future__ import annotations

import posix

_TYPE_MASK, _DIRECTORY, _REGULAR, _LINK = 0o170000, 0o040000, 0o100000, 0o120000


def _type_of(path: str, *, follow: bool = True) -> int:
    try:
        return posix.stat(path, follow_symlinks=follow).st_mode & _TYPE_MASK
    except (OSError, ValueError):
        return 0


def exists(path: str) -> bool:
    """Whether the path leads to something."""
    return _type_of(path) != 0


def isdir(path: str) -> bool:
    """Whether the path leads to a directory."""
    return _type_of(path) == _DIRECTORY


def isfile(path: str) -> bool:
    """Whether the path leads to a regular file."""
    return _type_of(path) == _REGULAR


def islink(path: str) -> bool:
    """Whether the path itself is a symbolic link."""
    return _type_of(path, follow=False) == _LINK


def split(path: str) -> tuple[str, str]:
    """(what stands before the last component, the last component, empty after a final slash)."""
    head, slash, tail = path.rpartition("/")
    return head.rstrip("/") or head + slash, tail


def dirname(path: str) -> str:
    """All but the last component."""
    return split(path)[0]


def basename(path: str) -> str:
    """The last component."""
    return path.rpartition("/")[2]


def join(base: str, path: str) -> str:
    """``path`` seen from ``base``; an absolute one stands for itself."""
    if path.startswith("/"):
        return path
    return base + path if not base or base.endswith("/") else f"{base}/{path}"


def normpath(path: str) -> str:
    """The path without empty components, ``.`` and ``..``, as text: links are not followed."""
    root = "/" if path.startswith("/") else ""
    # Two slashes, and only two, are kept: POSIX lets a system give them a meaning.
    if path.startswith("//") and not path.startswith("///"):
        root = "//"
    kept: list[str] = []
    for component in path.split("/"):
        if component in ("", "."):
            continue
        if component != ".." or (not root and not kept) or (kept and kept[-1] == ".."):
            kept.append(component)
        elif kept:
            kept.pop()
    return root + "/".join(kept) or "."


def realpath(path: str) -> str:
    """The path with all links followed, as the kernel follows them; what does not exist stays as it is."""
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except (OSError, ValueError):
        return _slow_realpath(path)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return _slow_realpath(path)
    finally:
        posix.close(fd)


def _slow_realpath(path: str) -> str:
    import os.path

    return os.path.realpath(path)


def make_directories(path: str, mode: int) -> None:
    """Make the directory and, with the default mode, those above it. One that exists is fine. Raises: OSError."""
    try:
        posix.mkdir(path, mode)
    except FileNotFoundError:
        above = dirname(path)
        if isdir(above):
            # A filesystem where nothing can be made says so, too: procfs does.
            raise
        make_directories(above, 0o777)
        make_directories(path, mode)
    except OSError:
        # Whatever the reason (it exists, the filesystem is read-only): what counts is that it is there.
        if not isdir(path):
            raise
