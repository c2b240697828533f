"""What happens by itself: restarts, health checks, OOM verdicts, the host's restart; with no daemon anywhere."""

from __future__ import annotations

import time

import pytest

from corral.engine import ledger
from corral.engine.verbs.system import system_start
from root.engine.conftest import Engine, eventually

pytestmark = pytest.mark.requires("root")

ALLOCATE = "x = bytearray(200 << 20)"
SMALL = {"memory_bytes": 32 << 20, "memory_swap_bytes": 32 << 20}


def test_on_failure_restarts_until_its_bound(engine: Engine) -> None:
    """Two retries are three runs, and the last code stays."""
    restart = {"policy": "on-failure", "max_retries": 2}
    container = engine.run("sh", "-c", "echo run; exit 3", restart=restart)
    eventually(lambda: engine.look(container).run == 3)
    eventually(lambda: engine.look(container).state.get("settled") == 3)
    assert engine.output(container) == [b"run"] * 3
    facts = engine.look(container)
    assert (facts.exit()["code"], facts.state["restart"]["count"]) == (3, 2)
    assert "due_ns" not in facts.state["restart"]


def test_on_failure_leaves_it_when_it_succeeds(engine: Engine) -> None:
    """An exit code of 0 is no failure."""
    container = engine.run("true", restart={"policy": "on-failure"})
    eventually(lambda: engine.look(container).state.get("settled") == 1)
    assert "restart" not in engine.look(container).state


def test_always_waits_longer_when_it_ends_again(engine: Engine) -> None:
    """The pause between restarts doubles; a stop ends the series."""
    container = engine.run("true", restart={"policy": "always"})
    eventually(lambda: engine.look(container).run >= 3)
    delay = engine.look(container).state["restart"]["delay_ms"]
    assert delay >= 200
    engine.call("stop", container)
    run = engine.look(container).run
    assert engine.look(container).state.get("restart", {}).get("due_ns") is None
    time.sleep(delay * 4 / 1000)
    assert engine.look(container).run == run


def test_a_killed_container_stays_ended_when_its_policy_is_always(engine: Engine) -> None:
    """Who kills it wants it to end: no restart."""
    container = engine.run("sleep", "1000", restart={"policy": "always"})
    engine.call("kill", container)
    eventually(lambda: engine.look(container).state.get("settled") == 1)
    assert "due_ns" not in engine.look(container).state.get("restart", {})


def test_health_becomes_healthy_when_the_check_passes(engine: Engine) -> None:
    """starting, then healthy once a check succeeded; the event says so."""
    health = {"command": ["CMD", "true"], "interval_s": 0.3}
    container = engine.run("sleep", "1000", health=health)
    assert engine.look(container).state["health"]["status"] == "starting"
    eventually(lambda: engine.look(container).state["health"]["status"] == "healthy")
    assert "health_status" in engine.events(container)


def test_health_becomes_unhealthy_when_the_check_fails_in_a_row(engine: Engine) -> None:
    """After `retries` failures it is unhealthy, its log has what the check said, and the reaction ends it."""
    health = {
        "command": ["CMD-SHELL", "echo broken; exit 1"],
        "interval_s": 0.2,
        "retries": 2,
        "on_failure": "stop",
    }
    container = engine.run("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.05; done", health=health)
    assert engine.wait(container)["code"] == 33
    reported = [e["attributes"] for e in engine.call("events", filters=["event=health_status"])]
    assert reported == [{"health_status": "unhealthy"}]


def test_health_check_ends_when_it_takes_too_long(engine: Engine) -> None:
    """A check that hangs is a failure, and nothing of it is left."""
    health = {"command": ["CMD", "sleep", "9999"], "interval_s": 0.2, "timeout_s": 0.5, "retries": 1}
    container = engine.run("sleep", "1000", health=health)
    eventually(lambda: engine.look(container).state["health"]["status"] == "unhealthy")
    engine.call("update", container, {"health": {"command": ["NONE"]}})
    eventually(lambda: [row["command"] for row in engine.call("top", container)] == ["sleep 1000"])


@pytest.mark.parametrize("turn", range(3))
def test_s4_7_init_is_reported_as_oom_killed_when_its_limit_hit(engine: Engine, turn: int) -> None:
    """Init killed for want of memory: 137, OOMKilled, and whose limit it was."""
    container = engine.run("python3", "-c", ALLOCATE, resources=SMALL)
    ended = engine.wait(container)
    assert (ended["code"], ended["oom_killed"]) == (137, True)
    assert ended["reason"] == "OOMKilled"
    # The kernel limits how often it writes down whom it killed.
    assert ended["oom"]["victim"] in ("init", "unknown")
    assert ended["oom"]["whose"] in ("own", "unknown")
    assert engine.events(container)[-2:] == ["oom", "died"]


def test_s4_8_an_exit_is_no_oom_kill_when_a_child_was_the_victim(engine: Engine) -> None:
    """A child killed for want of memory: an event of its own, and init's exit is what it was."""
    script = f"python3 -c '{ALLOCATE}'; exit 15"
    container = engine.run("sh", "-c", script, resources=SMALL)
    ended = engine.wait(container)
    assert (ended["code"], ended.get("oom_killed"), ended.get("reason")) == (15, None, None)
    event = engine.call("events", filters=["event=oom"])[0]
    assert (event["attributes"]["kills"], event["attributes"]["init_killed"]) == (1, False)


def test_always_runs_again_when_the_host_was_restarted(engine: Engine) -> None:
    """With another boot id nothing of it can live: it is exited, unknown, and started again as its policy says."""
    wanted = engine.run("sleep", "1000", restart={"policy": "always"})
    left = engine.run("sleep", "1000", restart={"policy": "unless-stopped"})
    engine.call("stop", left, timeout_s=0)
    engine.call("kill", wanted)
    eventually(lambda: engine.look(wanted).state.get("settled") == 1)
    for container in (wanted, left):
        with ledger.Update(engine.places, container) as state:
            state["run"]["boot"] = "another"
    system_start(engine.places)
    assert engine.look(wanted).status == "running"
    assert engine.look(left).status == "exited"
