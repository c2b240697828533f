"""Errors of the host at every step, and many clients at once: nothing is lost, nothing is left, and it says why."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from corral.engine import ledger, names
from corral.engine.keeper import Monitor
from corral.engine.reconcile import reconcile
from corral.errors import AlreadyExists, CorralError
from root.engine.conftest import Engine, eventually
from root.engine.test_crash import ROOT, VICTIM, failpoints

pytestmark = pytest.mark.requires("root")


def fault_at(engine: Engine, point: str, number: int, verb: str, *arguments: Any, **options: Any) -> str:
    """Do a verb in a process that meets this errno at the failpoint; what it said."""
    result = subprocess.run(
        [sys.executable, str(VICTIM), engine.places.store, verb, json.dumps([arguments, options])],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "CORRAL_FAILPOINT": f"engine:{point}:errno={number}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.stderr if result.returncode else ""


@pytest.mark.parametrize("point", failpoints("create.", "start."))
def test_run_leaves_nothing_when_an_error_stops_it(engine: Engine, point: str) -> None:
    """ENOSPC anywhere: no half container, and the same request works at once."""
    request = engine.request("sh", "-c", "exit 4", name="same", auto_remove=True)
    fault_at(engine, point, errno.ENOSPC, "run", request)
    eventually(lambda: not names.list_ids(engine.places) or reconcile(engine.places) is None)
    assert [name for name in os.listdir(engine.places.containers) if name != ".lock"] == []
    assert engine.wait(engine.run("sh", "-c", "exit 4", name="same"))["code"] == 4


@pytest.mark.parametrize("point", failpoints("stop.", "settle.", "rm.", "teardown."))
def test_rm_can_be_repeated_when_an_error_stopped_it(engine: Engine, point: str) -> None:
    """EIO anywhere in rm --force: the second try removes it, with all that belonged to it."""
    container = engine.run("sleep", "1000", name="going")
    groups = engine.groups(container)
    fault_at(engine, point, errno.EIO, "rm", container, force=True)
    try:
        engine.call("rm", "going", force=True)
    except CorralError:
        reconcile(engine.places)
    reconcile(engine.places)
    assert [name for name in os.listdir(engine.places.containers) if name != ".lock"] == []
    assert [path for path in groups if path.exists()] == []
    engine.create("true", name="going")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":99}', b"\xff\xfe"])
def test_a_running_container_is_found_when_its_state_was_cut_off(engine: Engine, content: bytes) -> None:
    """The kernel and the runtime's record know it; it can be stopped, started and removed."""
    container = engine.run("sleep", "1000")
    Path(engine.places.container(container), "state.json").write_bytes(content)
    assert engine.look(container).status == "running"
    engine.call("stop", container, timeout_s=0)
    assert engine.look(container).status != "running"
    engine.call("start", container)
    assert engine.look(container).status == "running"


def test_a_container_without_a_definition_is_taken_away(engine: Engine) -> None:
    """Somebody's rm -r, or a disc that lost it: its processes end, its cgroups go."""
    container = engine.run("sleep", "1000")
    groups, init = engine.groups(container), engine.pid(container)
    os.unlink(f"{engine.places.container(container)}/definition.json")
    reconcile(engine.places)
    assert names.list_ids(engine.places) == []
    assert [path for path in groups if path.exists()] == []
    eventually(lambda: not Path(f"/proc/{init}").exists())
    eventually(lambda: reconcile(engine.places) == [])


def test_a_container_for_one_run_can_be_started_when_its_first_start_broke_off(engine: Engine) -> None:
    """What the kernel keeps of a root that is never synced does not keep it from being mounted again."""
    container = engine.create("/mnt/absent", auto_remove=True)
    said = []
    for _ in range(2):
        with pytest.raises(CorralError) as caught:
            engine.call("start", container)
        said.append(str(caught.value))
    assert said == [said[0]] * 2
    assert "/mnt/absent" in said[0]


def test_one_of_many_gets_the_name(engine: Engine) -> None:
    """Eight clients create the same name at once: one has it, the others are told."""
    results: list[str] = []

    def create() -> None:
        try:
            results.append(engine.create("true", name="one"))
        except AlreadyExists:
            results.append("")

    in_parallel(create, 8)
    made = [item for item in results if item]
    assert (len(results), len(made)) == (8, 1)
    assert names.find_id(engine.places, "one") == made[0]
    assert names.list_ids(engine.places) == made


def test_one_run_comes_of_many_starts(engine: Engine) -> None:
    """Six clients start one container at once: one run, and all are told it runs."""
    container = engine.create("sleep", "1000")
    results: list[int] = []
    in_parallel(lambda: results.append(engine.call("start", container)["run"]), 6)
    assert results == [1] * 6
    assert engine.events(container).count("start") == 1


def test_all_of_many_stops_return(engine: Engine) -> None:
    """Six clients stop one container at once: one end, one event, and everybody gets the code."""
    container = engine.run("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    results: list[int] = []
    in_parallel(lambda: results.append(engine.call("stop", container)["exit"]["code"]), 6)
    assert results == [9] * 6
    assert engine.events(container).count("died") == 1


def test_nothing_is_left_when_many_remove_it(engine: Engine) -> None:
    """Six clients remove one container at once by force."""
    container = engine.run("sleep", "1000")
    groups = engine.groups(container)
    problems: list[str] = []

    def remove() -> None:
        try:
            engine.call("rm", container, force=True)
        except CorralError as exc:
            problems.append(str(exc))

    in_parallel(remove, 6)
    assert [text for text in problems if "no such container" not in text and "was removed" not in text] == []
    assert names.list_ids(engine.places) == []
    assert [path for path in groups if path.exists()] == []


def test_a_reused_pid_is_no_running_container(engine: Engine) -> None:
    """Another process has the pid of a dead init: the start time tells them apart."""
    container = engine.run("sleep", "1000")
    live = Path(engine.places.record(container), "live")
    engine.call("kill", container)
    eventually(lambda: not engine.look(container).is_live)
    if live.exists():
        words = live.read_text().split()
        live.write_text(" ".join([str(os.getpid()), *words[1:]]) + "\n")
    assert engine.look(container).status == "exited"
    assert engine.wait(container)["code"] == 137


def test_a_clock_that_jumps_changes_no_restart(engine: Engine) -> None:
    """Timers count from boot, not from the wall clock."""
    container = engine.run("false", restart={"policy": "on-failure", "max_retries": 1})
    eventually(lambda: engine.look(container).run == 2)
    with ledger.Update(engine.places, container) as state:
        state["run"]["started_ns"] = 2**62
    eventually(lambda: engine.look(container).state.get("settled") == 2)
    assert engine.look(container).exit()["code"] == 1


def in_parallel(action: Any, count: int) -> None:
    threads = [threading.Thread(target=action) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_s4_10_an_end_that_could_not_be_told_is_told_later(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's disc is ill at the end of a run: the end is followed up, and its event comes once it is well."""
    container = engine.run("sleep", "1000")

    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(5, "Input/output error")

    # Attended, so that no command of the keeper, whose journal is well, comes first.
    with Monitor.connect(engine.places.container_run(container)) as monitor, monkeypatch.context() as ill:
        monitor.send_attend()
        ill.setattr("corral.engine.journal.append_once", refuse)
        assert engine.call("stop", container, timeout_s=0)["exit"]["code"] == 137
        assert engine.events(container).count("died") == 0
    reconcile(engine.places)
    reconcile(engine.places)
    assert engine.events(container).count("died") == 1
