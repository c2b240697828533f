"""Filters of containers that name another container."""

from __future__ import annotations

import pytest

from corral.engine.places import Places
from corral.engine.verbs.ps import ps
from corral.errors import InvalidArgument


@pytest.mark.parametrize("key", ["before", "since"])
def test_filter_is_refused_when_the_container_that_it_names_is_not_there(places: Places, key: str) -> None:
    """Also in a store that has none: an empty list would say that all is well."""
    with pytest.raises(InvalidArgument, match=f"read filter {key}=nobody: no such container"):
        ps(places, is_all=True, filters=[f"{key}=nobody"])
