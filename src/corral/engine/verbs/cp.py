"""``cp`` and ``export``: files between containers and this host."""

from __future__ import annotations

from corral.engine import journal, ledger, names
from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["cp", "cp_from_tar", "cp_stat", "cp_to_tar", "export"]


def cp(
    places: Places,
    source: dict[str, str],
    target: dict[str, str],
    *,
    is_followed: bool = False,
    is_archive: bool = False,
) -> None:
    """Copy ``source`` to ``target``: each has a ``path``, and a ``container`` unless it is on this host.

    ``is_followed``: a link as the source means what it points to. ``is_archive``: owners are kept.
    Raises: NotFound, FailedPrecondition, InvalidArgument.
    """
    from corral.engine.copy import copy_between

    ends = []
    for end in (source, target):
        if not end.get("path"):
            raise InvalidArgument("copy files: a path is empty")
        container = end.get("container", "")
        ends.append((names.find_id(places, container) if container else "", end["path"]))
    copy_between(places, ends[0], ends[1], is_followed=is_followed, is_archive=is_archive)


def cp_from_tar(places: Places, source_fd: int, reference: str, path: str, *, is_archive: bool = True) -> None:
    """Unpack the tar stream of ``source_fd`` (borrowed) into a directory of the container."""
    from corral.engine.copy import copy_from_tar

    copy_from_tar(places, source_fd, names.find_id(places, reference), path, is_archive=is_archive)


def cp_to_tar(places: Places, reference: str, path: str, target_fd: int, *, is_followed: bool = False) -> None:
    """Write a path of the container as a tar stream to ``target_fd`` (borrowed)."""
    from corral.engine.copy import copy_to_tar

    copy_to_tar(places, names.find_id(places, reference), path, target_fd, is_followed=is_followed)


def export(places: Places, reference: str, target_fd: int) -> None:
    """Write the root of a container, running or not, as a tar stream to ``target_fd`` (borrowed), without its volumes.

    Raises: NotFound, FailedPrecondition.
    """
    from corral.engine.copy import export_root

    container_id = names.find_id(places, reference)
    export_root(places, container_id, target_fd)
    name = ledger.read_definition(places, container_id).get("name", "")
    journal.emit(places, "container", "export", container_id, name=name)


def cp_stat(places: Places, reference: str, path: str) -> dict[str, Any]:
    """``kind``, ``mode``, ``size``, ``mtime_ns`` and ``link`` of a path of the container. Raises: NotFound."""
    from corral.engine.copy import describe_path

    return describe_path(places, names.find_id(places, reference), path)
