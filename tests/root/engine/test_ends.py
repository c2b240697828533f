"""The last things: the end of a container that was asked for, of the groups above all containers, and of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine.keeper import Keeper
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")


def has_monitors(engine: Engine) -> bool:
    with Keeper.open(engine.places) as keeper:
        return bool(keeper.list())


@pytest.mark.parametrize(("verb", "options"), [("stop", {"timeout_s": 0.0}), ("rm", {"force": True})])
def test_end_costs_no_command_when_who_asked_for_it_follows_it_up(
    engine: Engine, verb: str, options: dict[str, object]
) -> None:
    """The keeper runs a command for an end that nobody attends, and each is a file first: here there is none."""
    container = engine.run("sleep", "1000")
    due = Path(engine.places.run, "due")
    before = due.stat().st_mtime_ns

    engine.call(verb, container, **options)

    eventually(lambda: not has_monitors(engine))
    assert before == due.stat().st_mtime_ns
