"""S4.4, S4.14: an engine that is killed at any step of any verb; whoever comes next finds or makes everything right."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.engine import names
from corral.engine.keeper import has_monitor
from corral.engine.reconcile import reconcile
from corral.errors import AlreadyExists
from root.engine.conftest import Engine, eventually
from root.engine.test_s4_truth import keeper_pid, monitor_of

pytestmark = pytest.mark.requires("root")

ROOT = Path(__file__).resolve().parents[3]
VICTIM = Path(__file__).with_name("victim.py")


def failpoints(*prefixes: str) -> list[str]:
    """Every failpoint of the engine with one of these beginnings, from its source."""
    found = set()
    for path in (ROOT / "src/corral/engine").rglob("*.py"):
        found.update(re.findall(r'failpoint\("([a-z_.]+)"\)', path.read_text()))
    return sorted(name for name in found if name.startswith(prefixes))


def die_at(engine: Engine, point: str, verb: str, *arguments: Any, **options: Any) -> int:
    """Do a verb in a process that is killed at the failpoint; its exit code (-9 if it got there)."""
    result = subprocess.run(
        [sys.executable, str(VICTIM), engine.places.store, verb, json.dumps([arguments, options])],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "CORRAL_FAILPOINT": f"engine:{point}:kill"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.returncode


def settled(engine: Engine, container: str) -> bool:
    """Nothing is left to do for it."""
    facts = engine.look(container)
    return facts.is_live or facts.run == 0 or facts.state.get("settled") == facts.run


@pytest.mark.parametrize("point", failpoints("create.", "start."))
def test_s4_14_run_can_be_repeated_when_the_engine_was_killed(engine: Engine, point: str) -> None:
    """Killed anywhere in create or start: afterwards the container is whole, or the name is free."""
    request = engine.request("sh", "-c", "exit 4", name="same")
    assert die_at(engine, point, "run", request) == -9
    reconcile(engine.places)
    try:
        container = engine.call("run", request)["id"]
    except AlreadyExists:
        container = names.find_id(engine.places, "same")
        engine.call("start", container)
    assert engine.wait(container)["code"] == 4
    assert len(names.list_ids(engine.places)) == 1
    assert [name for name in os.listdir(engine.places.containers) if name.startswith((".new", ".dead"))] == []


def test_s4_4_a_start_that_was_about_to_let_init_go_is_finished(engine: Engine) -> None:
    """Killed between the note that it started and the release: the next engine lets it go, and it runs."""
    container = engine.create("sh", "-c", "echo ready; exec sleep 1000")
    assert die_at(engine, "start.releasing", "start", container) == -9
    assert engine.look(container).status == "created"
    reconcile(engine.places)
    eventually(lambda: engine.output(container) == [b"ready"])
    assert (engine.look(container).status, engine.events(container).count("start")) == ("running", 1)


def test_s4_4_a_start_is_undone_when_all_who_could_finish_it_were_killed(engine: Engine) -> None:
    """Keeper and monitor die as well, so its output is lost: it is not let go, and it can be started."""
    container = engine.create("sh", "-c", "echo ready; exec sleep 1000")
    assert die_at(engine, "start.releasing", "start", container) == -9
    pids = [keeper_pid(engine), monitor_of(engine, container)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    eventually(lambda: not has_monitor(engine.places.container_run(container)))
    assert reconcile(engine.places) == [{"what": "undo an interrupted start", "id": container}]
    assert engine.look(container).status == "exited"
    engine.call("start", container)
    eventually(lambda: engine.output(container) == [b"ready"])


def test_a_container_goes_on_when_its_commit_was_interrupted(engine: Engine) -> None:
    """It was frozen for the image; one that its user froze stays so."""
    container = engine.run("sleep", "1000")
    assert die_at(engine, "commit.begin", "commit", container, {}) == -9
    assert engine.look(container).status == "paused"
    reconcile(engine.places)
    assert engine.look(container).status == "running"
    engine.call("pause", container)
    assert die_at(engine, "commit.begin", "commit", container, {}) == -9
    reconcile(engine.places)
    assert (engine.look(container).status, "leases" in engine.look(container).state) == ("paused", False)


@pytest.mark.parametrize("point", failpoints("stop."))
def test_s4_4_an_interrupted_stop_is_finished_when_someone_looks(engine: Engine, point: str) -> None:
    """Killed anywhere in stop: the next engine finishes it, and the code is the real one."""
    container = engine.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    assert die_at(engine, point, "stop", container, timeout_s=0.2) == -9
    reconcile(engine.places)
    eventually(lambda: settled(engine, container))
    facts = engine.look(container)
    assert (facts.status, facts.exit()["code"]) == ("exited", 137)
    assert engine.events(container).count("died") == 1


@pytest.mark.parametrize("point", failpoints("rm.", "teardown."))
def test_s4_4_an_interrupted_removal_is_finished_when_someone_looks(engine: Engine, point: str) -> None:
    """Killed anywhere in rm: the next engine finishes it; nothing is left, and the name is free."""
    container = engine.create("true", name="going")
    groups_before = list(Path("/sys/fs/cgroup").glob(f"*/*/{container}"))
    code = die_at(engine, point, "rm", container)
    assert (code, groups_before) == (-9, [])
    reconcile(engine.places)
    if point == "rm.begin":
        # Nothing was intended yet.
        assert engine.look(container).status == "configured"
        engine.call("rm", "going")
    assert [name for name in os.listdir(engine.places.containers) if name != ".lock"] == []
    assert engine.events(container)[-1] == "remove" or point in ("rm.renamed", "rm.released")
    engine.create("true", name="going")


@pytest.mark.parametrize("point", failpoints("settle."))
def test_s4_4_an_interrupted_settling_is_finished_when_someone_looks(engine: Engine, point: str) -> None:
    """Killed anywhere while an end is followed up: it is told once, with the real code, and its cgroup goes."""
    container = engine.run("sleep", "1000")
    groups = engine.groups(container)
    assert die_at(engine, point, "stop", container, timeout_s=0) == -9 or engine.events(container).count("died") == 1
    reconcile(engine.places)
    eventually(lambda: settled(engine, container))
    assert engine.look(container).exit()["code"] == 137
    assert engine.events(container).count("died") == 1
    assert [path for path in groups if path.exists()] == []


@pytest.mark.parametrize("point", failpoints("exec."))
def test_s4_4_the_container_goes_on_when_an_exec_was_interrupted(engine: Engine, point: str) -> None:
    """Killed anywhere in exec: the container is as it was, and the next exec works."""
    container = engine.run("sleep", "1000")
    assert die_at(engine, point, "exec", container, {"command": ["true"]}) == -9
    reconcile(engine.places)
    ended = engine.call("exec", container, {"command": ["sh", "-c", "exit 8"]})
    assert ended["exit"]["code"] == 8
    assert engine.look(container).status == "running"


@pytest.mark.parametrize("point", failpoints("restart.", "start."))
def test_s4_4_an_interrupted_restart_is_finished_when_someone_looks(engine: Engine, point: str) -> None:
    """Killed between stop and start, or in the start: the container runs again."""
    container = engine.run("sleep", "1000")
    assert die_at(engine, point, "restart", container, timeout_s=0) == -9
    reconcile(engine.places)
    facts = engine.look(container)
    assert (facts.status, facts.run > 1) == ("running", True)


@pytest.mark.parametrize("point", failpoints("rename."))
def test_s4_4_one_name_is_left_when_a_rename_was_interrupted(engine: Engine, point: str) -> None:
    """Killed anywhere in rename: the container has one name, and it leads to it."""
    container = engine.create("true", name="before")
    assert die_at(engine, point, "rename", container, "after") == -9
    reconcile(engine.places)
    held = [name for name in os.listdir(engine.places.names) if not name.startswith(".")]
    assert held == [engine.look(container).definition["name"]]
    assert names.find_id(engine.places, held[0]) == container
