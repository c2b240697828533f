"""This host's root as a container's, for a user without privileges.

Its own / cannot be a layer there: what is mounted below it came from a more privileged namespace, and the kernel does
not let it be uncovered (mount_namespaces(7), "locked"). So a *skeleton* is made, / as far as mounts reach into it, and
each directory of the host that nothing is mounted in is stacked by itself, at its place.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from corral.linux.mountinfo import parse_mountinfo
from corral.runtime.rootfs import Part

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["host_parts"]

# The runtime's, or of this boot: empty directories.
_EMPTY = frozenset(("/proc", "/sys", "/dev", "/run"))
_MAX_DEPTH = 4
_MAX_PARTS = 100
_MAX_FILE_BYTES = 1 << 20


def host_parts(container: str) -> tuple[str, list[Part]]:
    """The skeleton, a directory in ``container``, and what is stacked in it; made at the first call."""
    skeleton = f"{container}/skeleton"
    device = os.stat("/").st_dev
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [mount.mount_point.rstrip("/") for mount in parse_mountinfo(file.read())]
    found = list(_walk("", device, mounts, 0))
    is_new = not os.path.isdir(skeleton)
    if is_new:
        fresh = f"{container}/.new-skeleton"
        shutil.rmtree(fresh, ignore_errors=True)
        os.mkdir(fresh, 0o755)
        for kind, path in found:
            _make(fresh, kind, path)
        os.rename(fresh, skeleton)
    parts: list[Part] = []
    for kind, path in found:
        if kind == "part" and os.path.isdir(skeleton + path) and len(parts) < _MAX_PARTS:
            writable = f"{container}/parts/{len(parts)}-{os.path.basename(path)}"
            for name in ("upper", "work"):
                os.makedirs(f"{writable}/{name}", mode=0o755, exist_ok=True)
            os.chmod(f"{writable}/upper", stat.S_IMODE(os.stat(path).st_mode))
            parts.append(Part(path, path, writable))
    return skeleton, parts


def _walk(folder: str, device: int, mounts: list[str], depth: int) -> Iterator[tuple[str, str]]:
    """What is made of each entry: ``part``, ``empty``, ``walked`` (its entries follow), ``link`` or ``file``."""
    try:
        entries = sorted(os.scandir(folder or "/"), key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_symlink():
            yield "link", path
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            if stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_FILE_BYTES:
                yield "file", path
        elif path in _EMPTY or status.st_dev != device or path in mounts:
            yield "empty", path
        elif not any(mount.startswith(path + "/") for mount in mounts):
            yield "part", path
        elif depth < _MAX_DEPTH:
            yield "walked", path
            yield from _walk(path, device, mounts, depth + 1)
        else:
            yield "empty", path


def _make(skeleton: str, kind: str, path: str) -> None:
    target = skeleton + path
    if kind == "link":
        os.symlink(os.readlink(path), target)
    elif kind == "file":
        try:
            shutil.copy2(path, target, follow_symlinks=False)
        except PermissionError:
            pass  # what this user cannot read is not there
    else:
        os.mkdir(target, 0o755)
