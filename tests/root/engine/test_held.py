"""What the engine's own processes hold, and for how long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from root.engine.conftest import Engine

pytestmark = pytest.mark.requires("root")


def test_the_keeper_holds_nothing_of_who_started_it(engine: Engine) -> None:
    """A descriptor that the caller left open for its children is not kept: its pipe ends with the caller."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        engine.run("sleep", "1000")
        pipe = os.readlink(f"/proc/self/fd/{write}")
        keeper = Path(engine.places.run, "keeper.lock").read_text().strip()
        held = [os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper}/fd")]
    finally:
        os.close(read)
        os.close(write)
    assert pipe not in held
