"""Volumes: directories that outlive containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.engine import volumes
from corral.engine.rowfilters import check_filters, is_wanted

if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["volume_create", "volume_inspect", "volume_ls", "volume_prune", "volume_rm"]

_FILTERS = ("name", "dangling", "anonymous", "driver")


def volume_create(
    places: Places,
    name: str = "",
    *,
    labels: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    exists_ok: bool = False,
) -> dict[str, Any]:
    """Make a volume; without ``name`` it gets one of 64 digits. Raises: AlreadyExists, InvalidArgument."""
    places.prepare()
    made = volumes.create_volume(places, name, labels=labels, options=options, exists_ok=exists_ok)
    return volumes.describe(places, made)


def volume_ls(places: Places, *, filters: list[str] | None = None) -> list[dict[str, Any]]:
    """One row per volume, by name. Filters: name, dangling, anonymous, driver, label. Raises: InvalidArgument."""
    check_filters(filters or [], _FILTERS)
    used = volumes.users(places)
    rows = []
    for name in volumes.list_volumes(places):
        row = volumes.describe(places, name)
        row["dangling"] = name not in used
        rows.append(row)
    return [row for row in rows if is_wanted(row, filters or [], _FILTERS)]


def volume_inspect(places: Places, name: str) -> dict[str, Any]:
    """A volume, who has it, and how much it holds, which is counted. Raises: NotFound."""
    return volumes.describe(places, volumes.find_volume(places, name), is_whole=True)


def volume_rm(places: Places, name: str) -> dict[str, Any]:
    """Remove a volume that no container has. Raises: NotFound, FailedPrecondition."""
    found = volumes.find_volume(places, name)
    volumes.remove_volume(places, found)
    return {"name": found}


def volume_prune(places: Places, *, everything: bool = False) -> dict[str, Any]:
    """Remove unused volumes: those without a name, with ``everything`` all. Returns ``volumes`` and ``freed_bytes``."""
    freed: list[int] = []
    names = volumes.prune_volumes(places, everything=everything, freed=freed)
    return {"volumes": names, "freed_bytes": sum(freed)}
