"""The program ``corral`` on a store of its own, as a person calls it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from root.engine.conftest import Engine, engine, eventually

__all__ = ["Cli", "engine"]

PROGRAM = Path(__file__).resolve().parents[3] / "build" / "bin" / "corral"
TIMEOUT_S = 100


class Cli:
    """``cli("ps", "-a")`` runs the program and returns what it printed, exit code and all."""

    def __init__(self, made: Engine) -> None:
        self.engine = made

    def words(self, *words: str) -> list[str]:
        """The whole command line."""
        places = self.engine.places
        return [str(PROGRAM), "--store", places.store, "--run-dir", places.run, *words]

    def __call__(self, *words: str, text: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run it with ``text`` as its input; ``code`` None: any exit code is fine."""
        done = subprocess.run(self.words(*words), input=text, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert code is None or done.returncode == code, done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command; its output comes by pipe."""
        return subprocess.Popen(
            self.words(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def on_terminal(self, *words: str, typed: Sequence[tuple[str, str]] = ()) -> tuple[str, int]:
        """Run it on a terminal of 33 rows and 77 columns. ``typed``: what to type once a text has been seen."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(PROGRAM, self.words(*words))
        seen, rest = "", list(typed)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        until = time.monotonic() + TIMEOUT_S
        mark = 0
        try:
            while time.monotonic() < until:
                if select.select([fd], [], [], 0.05)[0]:
                    try:
                        data = os.read(fd, 65536)
                    except OSError:
                        break
                    if not data:
                        break
                    seen += data.decode("utf-8", "replace")
                if rest and rest[0][0] in seen[mark:]:
                    mark = len(seen)
                    os.write(fd, rest.pop(0)[1].encode())
        finally:
            os.close(fd)
        _, status = os.waitpid(pid, 0)
        return seen, os.waitstatus_to_exitcode(status)

    def modes_around(self, *words: str) -> tuple[list[Any], list[Any], list[Any]]:
        """The terminal's settings before, while and after a command runs on it that is ended by SIGTERM."""
        master, slave = pty.openpty()
        try:
            before = termios.tcgetattr(slave)
            process = subprocess.Popen(self.words(*words), stdin=slave, stdout=slave, stderr=slave)
            eventually(lambda: termios.tcgetattr(slave) != before)
            during = termios.tcgetattr(slave)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
            return before, during, termios.tcgetattr(slave)
        finally:
            os.close(master)
            os.close(slave)


@pytest.fixture
def cli(engine: Engine) -> Cli:
    """The program, on the test's store."""
    return Cli(engine)
