"""Churn with random kills for a while: at the end nothing is left, and nothing has grown.

``CORRAL_SOAK_SECONDS`` (default 120; ``make soak`` takes 1800) and ``CORRAL_SWEEP_SEED`` choose how long, and which.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.engine import journal
from corral.engine.places import Places
from engine_model.client import Client
from root.engine.conftest import Engine, remove_groups
from sweep import tally
from sweep.engine_operations import Stage
from sweep.engine_victim import processes_of

SECONDS = float(os.environ.get("CORRAL_SOAK_SECONDS", "120"))
CLIENTS = 3
# A keeper at rest, whatever it has seen.
KEEPER_KB = 4096
NAMES = tuple(f"soak{number}" for number in range(6))
# Errors that a verb may have when others change the same container, or die at it.
EXPECTED = {"", "killed", "AlreadyExists", "FailedPrecondition", "NotFound", "Unavailable", "Timeout"}


@pytest.fixture
def stage(tmp_path: Path, mark: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A store, a keeper and a cgroup parent of the test's own."""
    monkeypatch.setenv("CORRAL_CGROUP_PARENT", f"/{mark}")
    places = Places(str(tmp_path / "store"))
    places.prepare()
    engine = Engine(places)
    yield Stage(engine, tmp_path, mark)
    engine.close()
    remove_groups(mark)


def ask(stage: Stage, client: Client, chance: random.Random) -> None:
    """Begin a random verb on a random container."""
    name = chance.choice(NAMES)
    restart = chance.choice(({}, {}, {"restart": {"policy": "always"}}))
    command = chance.choice((("sleep", "1000"), ("sh", "-c", "echo out; exit 5"), ("sh", "-c", "sleep 0.2")))
    asked: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("run", [stage.engine.request(*command, name=name, **restart)], {}),
        ("run", [stage.engine.request(*command, name=name, auto_remove=True)], {}),
        ("start", [name], {}),
        ("stop", [name], {"timeout_s": 0.1}),
        ("exec", [name, {"command": ["true"]}], {}),
        ("restart", [name], {"timeout_s": 0}),
        ("rm", [name], {"force": True}),
        ("rm", [name], {"force": True}),
        ("ps", [], {"is_all": True}),
    ]
    verb, arguments, options = chance.choice(asked)
    client.ask(verb, *arguments, **options)


def kill_somebody(stage: Stage, clients: list[Client], chance: random.Random) -> str:
    """SIGKILL a client, the keeper, a monitor or an init; who it was."""
    victim = chance.choice(("client", "keeper", "monitor", "monitor", "init"))
    if victim == "client":
        chance.choice(clients).replace()
        return victim
    if victim == "init":
        pids = [row["pid"] for row in stage.engine.call("ps") if row.get("pid")]
    else:
        pids = processes_of(stage.store, victim)
    if not pids:
        return "nobody"
    try:
        os.kill(chance.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return "nobody"
    return victim


def resident_kb(pid: int) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@pytest.mark.requires("root")
@pytest.mark.timeout(SECONDS + 600)
def test_nothing_is_left_and_nothing_has_grown_after_a_churn(stage: Stage) -> None:
    """Three clients, random verbs, somebody killed all the time: no codes invented, nothing left, memory flat."""
    chance = random.Random(tally.seed())
    clients = [Client(stage.store) for _ in range(CLIENTS)]
    said: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    wrong: list[str] = []
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            for client in clients:
                ask(stage, client, chance)
            if chance.random() < 0.5:
                killed[kill_somebody(stage, clients, chance)] += 1
            for client in clients:
                # One that was replaced was asked nothing.
                if not client.is_asked:
                    continue
                kind, text = client.answer()
                said[kind or "done"] += 1
                if kind not in EXPECTED:
                    wrong.append(f"{kind}: {text}")
    finally:
        for client in clients:
            client.close()
    stage.settle()
    stage.remove_all()
    stage.prove_clean()
    codes = Counter(
        str(e["attributes"].get("code")) for e in journal.read(stage.engine.places) if e["action"] == "died"
    )
    grown = [
        f"keeper {resident_kb(pid)} KB" for pid in processes_of(stage.store, "keeper") if resident_kb(pid) > KEEPER_KB
    ]
    print(f"soak: {SECONDS:g} s, seed {tally.seed()}, said {dict(said)}, killed {dict(killed)}, codes {dict(codes)}")
    assert (wrong, stage.problems, grown) == ([], [], [])
    assert set(codes) <= {"0", "5", "137", "143", "None", "125"}
