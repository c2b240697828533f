"""Directories that play the parts of an overlay: layers, and what was written above them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

Tree = Mapping[str, "str | Tree | None"]


def make(path: Path, tree: Tree) -> Path:
    """A directory from a dict: text is a file, a dict a directory, None a whiteout, ``->x`` a link to x."""
    path.mkdir(parents=True, exist_ok=True)
    for name, value in tree.items():
        target = path / name
        if value is None:
            os.mknod(target, stat.S_IFCHR, 0)
        elif isinstance(value, str):
            if value.startswith("->"):
                target.symlink_to(value[2:])
            else:
                target.write_text(value)
        else:
            make(target, value)
    return path


def opaque(path: Path) -> None:
    """Hide what is below."""
    os.setxattr(path, "user.overlay.opaque", b"y")


@contextlib.contextmanager
def opened(*paths: Path) -> Iterator[list[int]]:
    """Descriptors of directories."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
