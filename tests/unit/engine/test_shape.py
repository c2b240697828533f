"""corral.engine.shape: definitions of programs that send anything."""

from __future__ import annotations

from typing import Any

import pytest

from corral.engine.places import Places
from corral.engine.verbs.create import create
from corral.errors import InvalidArgument

GOOD: dict[str, Any] = {"root": {"kind": "host"}, "process": {"command": ["true"]}, "network": {"mode": "none"}}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"process": {"command": [1]}}, "process.command"),
        ({"process": {"command": "true"}}, "process.command"),
        ({"root": {"kind": "rootfs", "path": 5}}, "root.path"),
        ({"id": "../../x"}, "the id '../../x'"),
        ({"id": 5}, "id is not"),
        ({"name": "a\0b"}, "name is not"),
        ({"labels": {"a": 1}}, "labels"),
        ({"mounts": {}}, "mounts is not"),
        ({"mounts": [5]}, "mounts is not"),
        ({"mounts": [{"type": "bind"}]}, r"mounts\[0\]"),
        ({"network": []}, "network is not"),
    ],
)
def test_a_definition_is_refused_when_a_member_has_another_shape(
    places: Places, members: dict[str, Any], why: str
) -> None:
    """Nothing is stored that a later look would stumble over."""
    with pytest.raises(InvalidArgument, match=why):
        create(places, {**GOOD, **members})
