"""Files that were cut off, by a full disc or a crash of the host: a container can be seen and removed all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine import journal, names
from corral.engine.reconcile import reconcile
from corral.errors import CorralError
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")

# Of the store, and of the run directory, which a loss of power leaves behind where it is no tmpfs.
FILES = (
    "containers/{id}/definition.json",
    "containers/{id}/state.json",
    "run/runtime/{id}/state.json",
    "run/runtime/{id}/live",
    "run/containers/{id}/monitor.spec",
    "run/containers/{id}/bundle/config.json",
    "run/keeper.command",
)


def cut(path: Path, share: float) -> None:
    """Leave so much of a file."""
    os.truncate(path, int(path.stat().st_size * share))


@pytest.mark.parametrize("share", [0.0, 0.6], ids=["empty", "half"])
@pytest.mark.parametrize("file", FILES)
def test_container_can_be_removed_when_its_file_was_cut_off(engine: Engine, file: str, share: float) -> None:
    """It goes with its processes, groups and name; whoever lives beside it lives on."""
    other = engine.run("sleep", "1000", name="other")
    container = engine.run("sleep", "1000", name="cut")
    init, groups = engine.pid(container), engine.groups(container)
    cut(Path(engine.places.store, file.format(id=container)), share)
    assert "running" in [row["status"] for row in engine.call("ps", is_all=True)]
    try:
        engine.call("rm", container, force=True)
    except CorralError:
        eventually(
            lambda: reconcile(engine.places) is not None and container not in names.list_ids(engine.places), 20.0
        )
    eventually(lambda: not Path(f"/proc/{init}").exists())
    assert [path for path in groups if path.exists()] == []
    assert [row["name"] for row in engine.call("ps", is_all=True)] == ["other"]
    engine.create("true", name="cut")
    assert engine.call("stop", other, timeout_s=0)["exit"]["code"] == 137


@pytest.mark.parametrize("share", [0.0, 0.6], ids=["empty", "half"])
def test_end_is_unknown_when_its_record_was_cut_off(engine: Engine, share: float) -> None:
    """No code is made of half a record; it starts again."""
    container = engine.run("sleep", "1000")
    engine.call("stop", container, timeout_s=0)
    directory = Path(engine.places.container(container))
    cut(directory / "exit", share)
    cut(directory / "state.json", share)
    shown = engine.look(container)
    assert (shown.is_live, shown.exit().get("code")) == (False, None)
    engine.call("start", container)
    assert engine.look(container).status == "running"


def test_events_go_on_when_the_journal_was_cut_off(engine: Engine) -> None:
    """In the midst of a line: those before it are told, and what comes has a higher number."""
    engine.create("true", name="first")
    engine.create("true", name="second")
    before = [event["n"] for event in journal.read(engine.places)]
    path = Path(engine.places.events, "journal")
    os.truncate(path, path.stat().st_size - 7)
    engine.create("true", name="third")
    told = list(journal.read(engine.places))
    assert [event["name"] for event in told] == ["first", "third"]
    assert told[0]["n"] == before[0] < told[1]["n"]
