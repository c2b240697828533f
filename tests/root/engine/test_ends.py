"""The last things: the end of a container that was asked for, of the groups above all containers, and of a store."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from corral.engine import parents
from corral.engine.keeper import Keeper, monitor_pid_or_none
from corral.errors import FailedPrecondition
from corral.linux.procfs import read_stat_or_none
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


def has_shut_down(engine: Engine) -> bool:
    """Whether the keeper ends now: it has no monitors, and no command to run."""
    try:
        with Keeper.open(engine.places) as keeper:
            keeper.shut_down()
    except FailedPrecondition:
        return False
    return True


def groups_of(engine: Engine) -> list[Path]:
    """The directories of the store's own parent, in all hierarchies."""
    return [Path(found) for found in parents.parent_directories(engine.places)]


def is_dead(pid: int) -> bool:
    stat = read_stat_or_none(pid)
    return stat is None or stat.is_dead


@pytest.fixture
def own_parent(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The store has the parent that is made for it alone, not one that somebody chose."""
    monkeypatch.delenv("CORRAL_CGROUP_PARENT")
    return engine


def test_groups_of_a_store_go_with_its_keeper(own_parent: Engine) -> None:
    """A keeper that has nothing to do ends, and what was made for it and for the containers is gone."""
    container = own_parent.run("true")
    own_parent.wait(container)
    made = groups_of(own_parent)
    assert made
    own_parent.call("rm", container)

    eventually(lambda: has_shut_down(own_parent))

    eventually(lambda: not any(path.exists() for path in made))


def test_groups_of_a_store_stay_when_somebody_else_is_in_them(own_parent: Engine) -> None:
    """Only what is empty is removed: a group of another's below keeps its parent."""
    container = own_parent.run("sleep", "1000")
    other = groups_of(own_parent)[0] / "somebody-else"
    other.mkdir()
    try:
        own_parent.call("rm", container, force=True)
        own_parent.call("gc")
        assert other.exists()
    finally:
        other.rmdir()
    own_parent.call("gc")
    assert [] == groups_of(own_parent)


@pytest.mark.parametrize("verb", ["gc", "system_prune"])
def test_groups_of_a_store_go_when_its_keeper_was_killed(own_parent: Engine, verb: str) -> None:
    """Nobody was left to remove them: the next who tidies up does."""
    container = own_parent.run("true")
    own_parent.wait(container)
    own_parent.call("rm", container)
    eventually(lambda: not has_monitors(own_parent))
    keeper = int(Path(own_parent.places.run, "keeper.lock").read_text())
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: is_dead(keeper))
    made = groups_of(own_parent)
    assert made

    own_parent.call(verb)

    assert [] == [path for path in made if path.exists()]


def test_chosen_parent_stays_when_the_store_is_empty(engine: Engine) -> None:
    """Whoever chose a parent may have set limits on it: it is not the engine's to remove."""
    container = engine.run("true")
    engine.wait(container)
    engine.call("rm", container)

    engine.call("gc")

    assert groups_of(engine)
    assert not any((path / parents.LEAF).exists() for path in groups_of(engine))


@pytest.mark.parametrize("killed", ["nobody", "keeper", "monitor"])
def test_container_ends_when_its_store_is_removed(engine: Engine, killed: str) -> None:
    """Nobody could find, stop or start it any more: it ends, and so do its monitor and the keeper."""
    container = engine.run("sleep", "1000")
    init = engine.pid(container)
    monitor = monitor_pid_or_none(engine.places.container_run(container))
    assert monitor is not None
    keeper = int(Path(engine.places.run, "keeper.lock").read_text())
    groups = engine.groups(container)

    shutil.rmtree(engine.places.store)
    if killed != "nobody":
        os.kill(keeper if killed == "keeper" else monitor, signal.SIGKILL)

    eventually(lambda: is_dead(init) and is_dead(monitor) and is_dead(keeper))
    if killed == "keeper":
        # Whose groups they were nobody knows any more.
        for path in groups:
            path.rmdir()
    assert [] == [path for path in groups if path.exists()]
    engine.places.prepare()
