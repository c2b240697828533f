"""`corral-runtime holder`: a process that keeps a scope, and ends when nobody wants it to."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "build" / "bin" / "corral-runtime"
LONG_S = 30


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """One that waits for its word; its standard output is a pipe, as a caller's may be."""
    process = subprocess.Popen([RUNTIME, "holder", "c1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def let_stay(holder: subprocess.Popen[bytes]) -> None:
    """One byte; it holds on to nothing afterwards, which the end of its output tells."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"+")
    holder.stdin.close()
    assert select.select([holder.stdout], [], [], LONG_S)[0] != []
    assert holder.stdout.read() == b""


def test_holder_ends_with_whoever_has_not_let_it_stay(holder: subprocess.Popen[bytes]) -> None:
    """A front that dies before the holder is in its group leaves none."""
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait(LONG_S) == 0


def test_holder_that_was_let_stay_holds_nothing_of_the_caller(holder: subprocess.Popen[bytes]) -> None:
    """Its streams are /dev/null, and nobody can look into it."""
    let_stay(holder)
    assert holder.poll() is None
    status = Path(f"/proc/{holder.pid}/comm").read_text()
    assert status == "corral:holder\n"
    if os.geteuid() == 0:
        streams = {os.readlink(f"/proc/{holder.pid}/fd/{number}") for number in range(3)}
        assert streams == {"/dev/null"}


def test_holder_ends_at_systemds_signal(holder: subprocess.Popen[bytes]) -> None:
    """`systemctl stop` of its scope need not wait for a SIGKILL."""
    let_stay(holder)
    holder.terminate()
    assert holder.wait(LONG_S) == -signal.SIGTERM
