"""What whoever happens to start a store's keeper hands down to it: nothing that later containers could feel."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.engine.keeper import monitor_pid_or_none
from root.engine.conftest import DEADLINE_S, Engine, eventually
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


@pytest.mark.parametrize("count", [1, 3, 200])
@pytest.mark.parametrize("packet", [b"", b"x", b"\0" * 16, b"\x45\0\0\0" + b"\0" * 12], ids=["", "x", "none", "list"])
def test_descriptors_that_come_with_odd_packets_are_closed(engine: Engine, packet: bytes, count: int) -> None:
    """Empty packets, cut off ones, and those that want none; by keeper and monitor."""
    container = engine.run("sleep", "1000")
    keeper = int(Path(f"{engine.places.run}/keeper.lock").read_text())
    places = {
        f"{engine.places.run}/keeper.sock": keeper,
        f"{engine.places.container_run(container)}/monitor.sock": _monitor_pid(engine, container),
    }
    for path, pid in places.items():
        before = _descriptors(pid)
        # The path may be longer than an address: it is named below a descriptor.
        directory = os.open(os.path.dirname(path), os.O_PATH)
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
                with open("/proc/self/status") as file:
                    socket.send_fds(client, [packet], [file.fileno()] * count)
        os.close(directory)
        eventually(functools.partial(_has_no_more, pid, before))


def _monitor_pid(engine: Engine, container: str) -> int:
    """Of the one monitor that looks after the container."""
    pid = monitor_pid_or_none(engine.places.container_run(container))
    assert pid is not None
    return pid


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _has_no_more(pid: int, before: int) -> bool:
    return _descriptors(pid) <= before


def test_a_caller_that_ignores_the_ends_of_children_is_served(engine: Engine) -> None:
    """As some supervisors do: the kernel then reaps the children of whoever they start."""
    container = _run(engine, _deaf_ways)
    assert "running" == engine.look(container).status
