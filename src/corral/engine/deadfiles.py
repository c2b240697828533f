"""Removing directories that belonged to a container or a volume, and have no name any more."""

from __future__ import annotations

from corral.engine import files
from corral.engine.places import is_rootless

__all__ = ["remove_dead"]


def remove_dead(path: str) -> list[str]:
    """Remove such a directory with all in it; returns what stays and why."""
    stays = files.remove_tree(path)
    if stays and is_rootless():
        from corral.engine.rootfs import empty_inside

        # Files of the container's other ids, and directories that an overlay closed to all.
        empty_inside(path)
        stays = files.remove_tree(path)
    return stays
