"""Containers through the verbs: what a user sees, and what the kernel has, at each step."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.engine import names
from corral.errors import AlreadyExists, FailedPrecondition, NotFound
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")


def test_run_shows_output_and_code_when_it_ends(engine: Engine) -> None:
    """What the program wrote and how it ended is there afterwards, stream by stream."""
    container = engine.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert engine.wait(container)["code"] == 3
    found = {(entry.stream, entry.data) for entry in engine.call("logs", container)}
    assert found == {("stdout", b"out"), ("stderr", b"err")}


def test_status_follows_the_kernel_when_the_container_changes(engine: Engine) -> None:
    """configured, running, paused, running, exited: each as the kernel has it."""
    container = engine.create("sleep", "1000", name="steps")
    seen = [engine.look(container).status]
    engine.call("start", "steps")
    seen.append(engine.look(container).status)
    assert Path(f"/proc/{engine.pid(container)}/comm").read_text() == "sleep\n"
    engine.call("pause", "steps")
    seen.append(engine.look(container).status)
    engine.call("unpause", "steps")
    seen.append(engine.look(container).status)
    engine.call("stop", "steps", timeout_s=0)
    seen.append(engine.look(container).status)
    assert seen == ["configured", "running", "paused", "running", "exited"]


def test_events_tell_a_life_when_it_is_over(engine: Engine) -> None:
    """Each step of a life is one event, in order, numbered without a gap."""
    container = engine.run("true", name="life")
    engine.wait(container)
    engine.call("rm", "life")
    events = engine.call("events")
    assert [event["action"] for event in events] == ["create", "start", "died", "remove"]
    assert [event["n"] for event in events] == [1, 2, 3, 4]


def test_stop_sends_the_stop_signal_when_asked(engine: Engine) -> None:
    """The stop signal first; a program that heeds it ends with its own code."""
    script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    container = engine.run("sh", "-c", script, process={"stop_signal": "USR1"})
    eventually(lambda: engine.output(container) == [b"ready"])
    assert engine.call("stop", container)["exit"]["code"] == 7


def test_stop_kills_when_the_grace_is_over(engine: Engine) -> None:
    """Who does not heed the signal is killed, and the record says by which signal."""
    container = engine.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    ended = engine.call("stop", container, timeout_s=0.2)["exit"]
    assert (ended["code"], ended["signal"]) == (137, "SIGKILL")


def test_stop_is_fine_when_it_does_not_run(engine: Engine) -> None:
    """Stopping what has stopped, or never ran, is no error and changes nothing."""
    container = engine.create("true")
    assert engine.call("stop", container)["exit"] == {}
    engine.call("start", container)
    code = engine.wait(container)["code"]
    assert engine.call("stop", container)["exit"]["code"] == code == 0


def test_kill_passes_a_signal_when_it_runs(engine: Engine) -> None:
    """A signal reaches the first process; a container that does not run refuses it."""
    container = engine.run("sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.output(container) == [b"ready"])
    engine.call("kill", container, signal="HUP")
    assert engine.wait(container)["code"] == 9
    with pytest.raises(FailedPrecondition, match="it is not running, it is exited"):
        engine.call("kill", container)


def test_start_runs_it_again_when_it_has_ended(engine: Engine) -> None:
    """Each start is a run of its own on the same files; what it wrote before is still there."""
    container = engine.run("sh", "-c", "echo x >> /var/tmp/n; exit $(wc -l < /var/tmp/n)")
    codes = [engine.wait(container)["code"]]
    for _ in range(2):
        engine.call("start", container)
        codes.append(engine.wait(container)["code"])
    assert codes == [1, 2, 3]
    assert engine.look(container).run == 3


def test_rm_refuses_when_it_runs(engine: Engine) -> None:
    """A running container is removed by force only."""
    container = engine.run("sleep", "1000", name="busy")
    with pytest.raises(FailedPrecondition, match="it is running"):
        engine.call("rm", "busy")
    engine.call("rm", "busy", force=True)
    with pytest.raises(NotFound):
        names.find_id(engine.places, container)


def test_rm_leaves_nothing_when_it_is_done(engine: Engine) -> None:
    """Afterwards there is no file, no record, no cgroup and no name of it."""
    container = engine.run("sleep", "1000", name="gone")
    groups = engine.groups(container)
    assert all(path.is_dir() for path in groups)
    engine.call("rm", "gone", force=True)
    assert [path for path in groups if path.exists()] == []
    # The keeper's note of an end that it still tells goes when it has told.
    eventually(lambda: not [path for path in Path(engine.places.store).rglob("*") if container in path.name])
    assert list(Path(engine.places.names).glob("[!.]*")) == []


def test_auto_remove_takes_it_away_when_it_ends(engine: Engine) -> None:
    """With --rm nobody has to be there: the keeper has it settled, and it is gone."""
    container = engine.run("true", auto_remove=True)
    eventually(lambda: engine.events(container)[-1] == "remove")
    assert engine.events(container) == ["create", "start", "died", "remove"]
    assert names.list_ids(engine.places) == []


def test_wait_knows_the_code_when_it_was_to_be_removed(engine: Engine) -> None:
    """Who waits for a container that removes itself still gets its code."""
    container = engine.run("sh", "-c", "sleep 0.3; exit 5", auto_remove=True)
    assert engine.wait(container)["code"] == 5


def test_names_are_exclusive_when_two_want_one(engine: Engine) -> None:
    """A name is one container's; the error says whose, and it is free when that one is gone."""
    first = engine.create("true", name="same")
    with pytest.raises(AlreadyExists, match=f"container {first[:12]} has it"):
        engine.create("true", name="same")
    engine.call("rm", "same")
    engine.create("true", name="same")


def test_rename_moves_the_name_when_it_is_free(engine: Engine) -> None:
    """The new name leads to it, the old one is free."""
    container = engine.create("true", name="old")
    engine.call("rename", "old", "new")
    assert names.find_id(engine.places, "new") == container
    assert names.owner_or_none(engine.places, "old") is None


def test_start_tells_why_when_the_program_is_missing(engine: Engine) -> None:
    """The runtime's words reach the user, the container is as before, and the name can be used at once."""
    with pytest.raises(FailedPrecondition, match="/no/such/program"):
        engine.run("/no/such/program", name="typo")
    row = engine.call("ps", is_all=True)[0]
    assert (row["status"], row["exit"]["code"]) == ("exited", 127)
    assert "/no/such/program" in row["error"]
    engine.call("rm", "typo")
    assert engine.wait(engine.run("true", name="typo"))["code"] == 0


def test_top_shows_the_processes_when_it_runs(engine: Engine) -> None:
    """The rows are the container's processes, with their pids inside."""
    container = engine.run("sh", "-c", "sleep 1000 & exec sleep 2000")
    expected = {"sleep 1000", "sleep 2000"}
    # Until then it is the shell that shows, once or twice.
    eventually(lambda: {row["command"] for row in engine.call("top", container)} == expected)
    found = {(row["pid_inside"], row["command"]) for row in engine.call("top", container)}
    assert (len(found), (1, "sleep 2000") in found) == (2, True)


def test_stats_measure_when_it_runs(engine: Engine) -> None:
    """A sample has the memory and the processes that it uses."""
    container = engine.run("sleep", "1000", name="measured", resources={"memory_bytes": 64 << 20, "pids": 50})
    sample = engine.call("stats", [container])[0]
    assert (sample["name"], sample["pids"], sample["memory_limit_bytes"]) == ("measured", 1, 64 << 20)
    assert sample["memory_total_bytes"] > 0


def test_update_changes_limits_when_it_runs(engine: Engine) -> None:
    """The kernel has the new limit at once, and so has the next run."""
    container = engine.run("sleep", "1000", resources={"pids": 50})
    engine.call("update", container, {"resources": {"pids": 77}})
    limits = {path.read_text().strip() for g in engine.groups(container) for path in g.glob("pids.max")}
    assert limits == {"77"}
    engine.call("restart", container, timeout_s=0)
    limits = {path.read_text().strip() for g in engine.groups(container) for path in g.glob("pids.max")}
    assert limits == {"77"}


def test_inspect_shows_which_limit_binds_when_asked(engine: Engine) -> None:
    """--effective says what stands in the kernel for each limit."""
    container = engine.run("sleep", "1000", resources={"pids": 50})
    rows = {row["name"]: row for row in engine.call("inspect", container, effective=True)["effective"]}
    assert str(rows["pids.max"]["effective"]) == "50"


def test_logs_follow_until_it_ends(engine: Engine) -> None:
    """Following gives every line once, and ends with the run."""
    container = engine.run("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert [entry.data for entry in engine.call("logs", container, follow=True)] == [b"1", b"2", b"3"]
    assert [entry.data for entry in engine.call("logs", container, tail=2)] == [b"2", b"3"]


def test_init_survives_when_its_starter_is_gone(engine: Engine) -> None:
    """The container's parent is its monitor, in the engine's own group, not whoever started it."""
    container = engine.run("sleep", "1000")
    stat = Path(f"/proc/{engine.pid(container)}/stat").read_text()
    parent = int(stat.rpartition(") ")[2].split()[1])
    assert Path(f"/proc/{parent}/comm").read_text().startswith("corral-monitor")
    groups = Path(f"/proc/{parent}/cgroup").read_text()
    assert any(line.endswith("/holder") for line in groups.splitlines())
