"""What whoever happens to start a store's keeper hands down to it: nothing that later containers could feel."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from root.engine.conftest import DEADLINE_S, Engine
from root.serve.conftest import CORRAL

pytestmark = pytest.mark.requires("root")

_ADDR_NO_RANDOMIZE = 0x0040000
_NICE, _POLICY = 16, 38  # behind the name in /proc/PID/stat
_CONTAINER = ("--network", "none", "host", "--", "sleep", "1000")


def _run(engine: Engine, ways: Callable[[], None]) -> str:
    """The id of a container that a process of such ways starts."""
    done = subprocess.run(
        [CORRAL, "--store", engine.places.store, "run", "-d", *_CONTAINER],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        preexec_fn=ways,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def _odd_ways() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(5)
    ctypes.CDLL(None).personality(_ADDR_NO_RANDOMIZE)
    Path("/proc/self/oom_score_adj").write_text("300")


def _deaf_ways() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _ways_of(pid: int) -> dict[str, int]:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {
        "nice": int(words[_NICE]),
        "policy": int(words[_POLICY]),
        "personality": int(Path(f"/proc/{pid}/personality").read_text(), 16),
        "oom": int(Path(f"/proc/{pid}/oom_score_adj").read_text()),
    }


def test_the_first_callers_ways_are_not_those_of_all_containers(engine: Engine) -> None:
    """Nice value, policy, CPUs, OOM score, and that addresses are not random, as under a debugger."""
    first = _run(engine, _odd_ways)
    second = _run(engine, lambda: None)
    for container in (first, second):
        found = _ways_of(engine.pid(container))
        assert {"nice": 0, "policy": 0, "personality": 0, "oom": 0} == found
        assert os.sched_getaffinity(0) <= os.sched_getaffinity(engine.pid(container))


def test_a_caller_that_ignores_the_ends_of_children_is_served(engine: Engine) -> None:
    """As some supervisors do: the kernel then reaps the children of whoever they start."""
    container = _run(engine, _deaf_ways)
    assert "running" == engine.look(container).status
