"""Many clients at once, with monitors and keepers killed under them: at the end everything adds up."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from corral.engine import journal, names
from corral.engine.keeper import monitor_pid_or_none
from corral.engine.reconcile import reconcile
from corral.errors import CorralError
from root.engine.conftest import Engine

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(600)]

CHURN_S = float(os.environ.get("CORRAL_CHURN_S", "8"))
SEED = int(os.environ.get("CORRAL_SEED", str(random.SystemRandom().randrange(10**6))))
CLIENTS = 4
NAMES = ("red", "green", "blue")
# Each ends with the code that stands behind it, or by SIGKILL.
SCRIPTS = {
    "exit 3": 3,
    "sleep 0.1; exit 4": 4,
    "trap 'exit 5' TERM; while :; do sleep 0.05; done": 5,
    "sleep 1000": None,
}
TRUE_CODES = frozenset({3, 4, 5, 128 + signal.SIGKILL, 128 + signal.SIGTERM, None})


class Client:
    """One client that does what comes into its mind until the time is over; ``broken`` has what no client may see."""

    def __init__(self, engine: Engine, number: int, until: float) -> None:
        self.engine = engine
        self.choose = random.Random(SEED * 100 + number)
        self.until = until
        self.broken: list[str] = []

    def __call__(self) -> None:
        while time.monotonic() < self.until:
            try:
                self.step()
            except CorralError:
                continue  # another client was faster, or something was killed: it says so in words
            except Exception:
                self.broken.append(traceback.format_exc())

    def step(self) -> None:
        name, call = self.choose.choice(NAMES), self.engine.call
        actions: dict[str, Any] = {
            "run": lambda: self.engine.run(
                "sh",
                "-c",
                self.choose.choice(list(SCRIPTS)),
                name=name,
                auto_remove=self.choose.random() < 0.2,
            ),
            "start": lambda: call("start", name),
            "stop": lambda: call("stop", name, timeout_s=self.choose.choice((0, 0.3))),
            "kill": lambda: call("kill", name),
            "rm": lambda: call("rm", name, force=self.choose.random() < 0.7),
            "exec": lambda: call("exec", name, {"command": ["true"]}, timeout_s=10),
            "restart": lambda: call("restart", name, timeout_s=0),
            "pause": lambda: call("pause", name),
            "unpause": lambda: call("unpause", name),
            "ps": lambda: call("ps", is_all=True),
            "rename": lambda: call("rename", name, self.choose.choice(NAMES)),
            "inspect": lambda: call("inspect", name),
        }
        actions[self.choose.choice(list(actions))]()


def kill_supervisors(engine: Engine, until: float) -> None:
    """SIGKILL monitors, and now and then the keeper, of this store."""
    choose = random.Random(SEED)
    pause = threading.Event()
    while time.monotonic() < until:
        pause.wait(choose.random() * 0.5)
        found = names.list_ids(engine.places)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            if choose.random() < 0.1:
                os.kill(int(Path(engine.places.run, "keeper.lock").read_text()), signal.SIGKILL)
            elif found:
                pid = monitor_pid_or_none(engine.places.container_run(choose.choice(found)))
                if pid:
                    os.kill(pid, signal.SIGKILL)


def test_everything_adds_up_when_clients_and_kills_have_raged(engine: Engine) -> None:
    """No error but in words, one end per run with a true code, numbers without a gap, and nothing left."""
    print(f"seed {SEED}: CORRAL_SEED={SEED} CORRAL_CHURN_S={CHURN_S:g} repeats it")
    until = time.monotonic() + CHURN_S
    clients = [Client(engine, number, until) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client) for client in clients]
    threads.append(threading.Thread(target=kill_supervisors, args=(engine, until)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text for client in clients for text in client.broken] == []
    reconcile(engine.places)
    for container in names.list_ids(engine.places):
        with contextlib.suppress(CorralError):
            engine.call("rm", container, force=True)
    reconcile(engine.places)
    told = list(journal.read(engine.places))
    died = [event for event in told if event.get("action") == "died"]
    assert [key for key, count in collections.Counter(e["key"] for e in died).items() if count > 1] == []
    assert {event["attributes"]["code"] for event in died} <= TRUE_CODES
    assert [event for event in told if event["type"] == "gap"] == []
    assert reconcile(engine.places) == []
    for folder in (engine.places.containers, engine.places.runtime_root, engine.places.names):
        assert [name for name in os.listdir(folder) if not name.startswith((".lock", ".seccomp"))] == []
