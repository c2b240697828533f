"""A state root that is not as we left it: another user's records, many at once, full, without room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness import Bundle, Container, Runtime, wait_until
from conformance.residents import resident_planner

COMMANDS = (["state"], ["kill"], ["start"], ["delete"], ["pause"], ["ps"], ["exec"], ["update", "--pids-limit", "9"])
OTHER_UID = 1000


def act(c: Container, *command: str) -> str:
    """What a command on this container is refused with."""
    words = ["/bin/true"] if command[0] == "exec" else []
    told = c.runtime(*command, c.id, *words, check=False)
    assert told.returncode != 0, str(told)
    return told.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_record_of_another_user_is_not_acted_on(runtime: Runtime, bundle: Bundle, command: list[str]) -> None:
    """Its programs and its config would be run with our rights: hooks, pids to kill and to enter."""
    with runtime.start(bundle) as c:
        record = runtime.root / c.id
        os.chown(record, OTHER_UID, OTHER_UID)
        try:
            told = act(c, *command)
        finally:
            os.chown(record, 0, 0)
        assert "its record is another user's, or others may write to it" in told
        assert c.status == "running"


@pytest.mark.cold
def test_refused_creates_cost_a_resident_planner_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """A name that is taken, again and again: no descriptor stays open."""
    bundle.shell("exec sleep 1000")
    with resident_planner(runtime) as planner, runtime.start(bundle) as c:
        folder = Path(f"/proc/{planner.pid}/fd")
        before = len(list(folder.iterdir()))
        for _ in range(5):
            told = runtime("create", "--bundle", bundle.path, c.id, check=False)
            assert "container with given ID already exists" in told.stderr
        wait_until(lambda: len(list(folder.iterdir())) == before, "the planner's sessions end")


@pytest.mark.cold
def test_bundle_of_a_fifo_does_not_keep_a_resident_planner(runtime: Runtime, bundle: Bundle, directory: Path) -> None:
    """One caller's odd config is refused, and the next is served by the same planner."""
    strange = directory / "strange"
    strange.mkdir()
    os.mkfifo(strange / "config.json")
    with resident_planner(runtime) as planner:
        told = runtime("run", "--bundle", strange, "strange", check=False)
        assert f"read {strange}/config.json: not a regular file" in told.stderr
        assert runtime.run(bundle, "echo served").stdout == "served\n"
        assert planner.poll() is None
