"""Containers that exist as files only: for the parts of the engine that ask no kernel."""

from __future__ import annotations

import os
from typing import Any

from corral.engine import files
from corral.engine.places import Places

ID = "a" * 64
OTHER = "b" * 64


def make(places: Places, container_id: str = ID, *, state: dict[str, Any] | None = None, **members: Any) -> str:
    """A complete container that never ran, with these members in its definition."""
    os.makedirs(places.container(container_id))
    definition = {
        "schema": 1,
        "id": container_id,
        "name": container_id[:4],
        "created_ns": 1,
        "root": {"kind": "host"},
        "process": {"command": ["true"]},
        "network": {"mode": "none"},
        **members,
    }
    files.write_object(f"{places.container(container_id)}/definition.json", definition)
    if state is not None:
        files.write_object(f"{places.container(container_id)}/state.json", {"schema": 1, **state})
    return container_id
