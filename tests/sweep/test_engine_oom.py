"""S4.7 to S4.9: who ran out of memory and whose limit it was, told right each time.

By default 56 rounds, with ``CORRAL_SWEEP=all`` 1,001. The kernel writes who was killed to its log at most ten times in
five seconds, so in many rounds the victim is ``unknown``; it may be that, and never another one's.
"""

from __future__ import annotations

import collections
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.layout import read_layout
from corral.engine import journal
from corral.engine.places import Places
from root.engine.conftest import Engine, eventually, remove_groups
from sweep import tally

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(3600)]

LIMIT = 16 << 20
# v1 does not count every hit of a limit; the log tells it where it is written.
OWN = ("own", "unknown")
# Reads until memory is out, from its first moment on; the host's is not, should the group have no limit.
EATER = ["prlimit", "--as=300000000", "tail", "/dev/zero"]
CHILD_THEN = "prlimit --as=300000000 tail /dev/zero >/dev/null 2>&1; echo eaten; "


def rounds() -> int:
    """How often each of the scenes is played: ``CORRAL_OOM_ROUNDS``, else what the sweep asks for."""
    return int(os.environ.get("CORRAL_OOM_ROUNDS") or (143 if tally.wanted() == "all" else 8))


@pytest.fixture
def limited(mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine, and beside its containers a group whose own limit is low: ``/MARK/limited``."""
    monkeypatch.setenv("CORRAL_CGROUP_PARENT", f"/{mark}")
    places = Places(str(tmp_path / "store"))
    places.prepare()
    engine = Engine(places)
    yield engine
    engine.close()
    for hierarchy in read_layout().hierarchies:
        path = Path(hierarchy.mount_point, mark, "limited")
        if path.is_dir():
            path.rmdir()
    remove_groups(mark)


def end_of(engine: Engine, container: str) -> dict[str, Any]:
    """How it ended, with what was told: exactly one end, and one event of a kill if there was any."""
    end = engine.wait(container)
    told = [event for event in journal.read(engine.places) if event.get("id") == container]
    assert [event["action"] for event in told].count("died") == 1
    kills = end.get("oom", {}).get("kills", 0)
    assert [event["action"] for event in told].count("oom") == (1 if kills else 0)
    engine.call("rm", container)
    return end


def driven() -> dict[str, Any]:
    """By the driver of the cell, where a machine runs this."""
    return {"cgroup_manager": "systemd"} if os.environ.get("CORRAL_VM_DRIVER") == "systemd" else {}


def memory() -> dict[str, Any]:
    """The container's own limit."""
    return {"resources": {"memory_bytes": LIMIT, "memory_swap_bytes": LIMIT}, **driven()}


def init_eats(engine: Engine) -> dict[str, Any]:
    """Init itself, in its first millisecond, over its own limit."""
    end = end_of(engine, engine.run(*EATER, **memory()))
    assert (end["code"], end.get("oom_killed"), end.get("reason")) == (137, True, "OOMKilled"), end
    assert end["oom"]["whose"] in OWN, end
    assert end["oom"]["victim"] in ("init", "unknown"), end
    return end


def init_eats_later(engine: Engine) -> dict[str, Any]:
    """Init, after it has run for a while."""
    end = end_of(engine, engine.run("sh", "-c", "sleep 0.05; exec prlimit --as=300000000 tail /dev/zero", **memory()))
    assert (end["code"], end.get("oom_killed"), end.get("reason")) == (137, True, "OOMKilled"), end
    assert end["oom"]["whose"] in OWN, end
    assert end["oom"]["victim"] in ("init", "unknown"), end
    return end


def child_eats(engine: Engine) -> dict[str, Any]:
    """A child; init goes on and ends with its own code: no OOM kill of the container."""
    end = end_of(engine, engine.run("sh", "-c", f"{CHILD_THEN} exit 3", **memory()))
    assert (end["code"], end.get("oom_killed", False), end.get("reason")) == (3, False, None), end
    assert end["oom"]["victim"] == "child", end
    assert end["oom"]["whose"] in OWN, end
    return end


def child_eats_before_a_stop(engine: Engine) -> dict[str, Any]:
    """A child, and then somebody stops it: exit 143 is never an OOM kill."""
    script = f"trap 'exit 143' TERM; {CHILD_THEN} while :; do sleep 0.01; done"
    container = engine.run("sh", "-c", script, **memory())
    eventually(lambda: b"eaten" in engine.output(container))
    assert engine.call("stop", container)["exit"]["code"] == 143
    end = end_of(engine, container)
    assert (end.get("oom_killed", False), end["oom"]["victim"]) == (False, "child"), end
    return end


def child_eats_before_a_kill(engine: Engine) -> dict[str, Any]:
    """A child, and well after that somebody kills init: that was no OOM kill, though it is 137."""
    container = engine.run("sh", "-c", f"{CHILD_THEN} exec sleep 1000", **memory())
    counted = Path(engine.places.container(container), "oom")
    eventually(lambda: counted.exists() and counted.read_text().endswith("\n"))
    since = time.monotonic()
    eventually(lambda: time.monotonic() - since > 0.8)
    os.kill(engine.pid(container), signal.SIGKILL)
    end = end_of(engine, container)
    assert (end["code"], end.get("oom_killed", False), end["oom"]["victim"]) == (137, False, "child"), end
    return end


def limit_of_the_parent(engine: Engine) -> dict[str, Any]:
    """The limit of the group above: it is named, and was not the container's own."""
    if driven():
        return limit_of_the_slice(engine)
    parent = Path(os.environ["CORRAL_CGROUP_PARENT"], "limited")
    hierarchy = read_layout().hierarchy_for("memory")
    assert hierarchy is not None
    directory = Path(f"{hierarchy.mount_point}{parent}")
    directory.mkdir(parents=True, exist_ok=True)
    if hierarchy.version == 2:
        for above in (directory.parent.parent, directory.parent):
            enabled = above / "cgroup.subtree_control"
            if "memory" not in enabled.read_text().split():
                enabled.write_text("+memory")
    name = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
    (directory / name).write_text(str(LIMIT))
    return killed_above(engine, str(parent))


def limit_of_the_slice(engine: Engine) -> dict[str, Any]:
    """The same by systemd: a slice is there while something is in it."""
    name = f"{os.environ['CORRAL_CGROUP_PARENT'].strip('/').replace('-', '')}.slice"
    keeper = engine.run("sleep", "1000", cgroup_parent=name)
    hierarchy = read_layout().hierarchy_for("memory")
    assert hierarchy is not None
    limit = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
    Path(hierarchy.mount_point, name, limit).write_text(str(LIMIT))
    end = killed_above(engine, name)
    engine.call("rm", keeper, force=True)
    return end


def killed_above(engine: Engine, parent: str) -> dict[str, Any]:
    """The end of what eats below the limit of ``parent``."""
    end = end_of(engine, engine.run(*EATER, cgroup_parent=parent))
    assert (end["code"], end.get("oom_killed"), end.get("oom", {}).get("whose")) == (137, True, "ancestor"), end
    assert end["oom"]["limit_of"].endswith(parent), end
    assert end["oom"]["victim"] in ("init", "unknown"), end
    return end


def nobody_eats(engine: Engine) -> dict[str, Any]:
    """A limit, and a kill by somebody: no OOM kill, and no event of one."""
    container = engine.run("sleep", "1000", **memory())
    os.kill(engine.pid(container), signal.SIGKILL)
    end = end_of(engine, container)
    assert (end["code"], end.get("oom_killed", False), end.get("oom", {}).get("kills", 0)) == (137, False, 0), end
    return end


PLAYED: tuple[Callable[[Engine], dict[str, Any]], ...] = (
    init_eats,
    init_eats_later,
    child_eats,
    child_eats_before_a_stop,
    child_eats_before_a_kill,
    limit_of_the_parent,
    nobody_eats,
)


@pytest.mark.parametrize("scene", PLAYED, ids=[scene.__name__ for scene in PLAYED])
def test_s4_7_the_verdict_is_right_each_time(scene: Callable[[Engine], dict[str, Any]], limited: Engine) -> None:
    """Init or child, own limit or the parent's, at once or later: 100 % right."""
    victims: collections.Counter[str] = collections.Counter()
    wrong = []
    for number in range(rounds()):
        try:
            victims[scene(limited).get("oom", {}).get("victim", "none")] += 1
        except AssertionError as error:
            wrong.append(f"round {number}: {error}")
    tally.OOM[scene.__name__] = (rounds() - len(wrong), rounds(), dict(victims))
    assert wrong == []
