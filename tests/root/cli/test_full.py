"""Output that has nowhere to go: the program goes on, and whoever asked for its output hears of it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from root.cli.conftest import TIMEOUT_S, Cli

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(300)]

SPEAKS = "echo out; echo err >&2; touch /mark; exit 3"


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A device of the test's own that takes no byte."""
    path = tmp_path / "full"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))
    return path


def into(full: Path, cli: Cli, *words: str, stream: str = "stdout") -> tuple[int, str]:
    """The exit code, and what came by the other stream, of a command whose ``stream`` cannot be written."""
    other = "stderr" if stream == "stdout" else "stdout"
    with full.open("wb") as file:
        done = subprocess.run(
            cli.words(*words), **{stream: file, other: subprocess.PIPE}, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )  # type: ignore[call-overload]
    return done.returncode, (done.stderr if stream == "stdout" else done.stdout).decode()


def test_run_says_when_its_output_cannot_be_written(cli: Cli, full: Path) -> None:
    """The program is not hindered, its other stream arrives, and no exit code says that all was well."""
    for words in (("run", "--name", "speaker", "host", "sh", "-c", SPEAKS), ("start", "-a", "speaker")):
        code, told = into(full, cli, *words)
        assert (code, sorted(told.splitlines())) == (125, ["err", "write stdout: no space left on device"])
    assert cli("inspect", "--format", "{{.state.exit.code}}", "speaker").stdout == "3\n"
    assert cli("logs", "speaker").stdout == "out\nout\n"


def test_exec_says_when_its_output_cannot_be_written(cli: Cli, full: Path) -> None:
    """As for ``run``, with a terminal too; the container lives on."""
    cli("run", "-d", "--name", "place", "host", "sleep", "1000")
    code, told = into(full, cli, "exec", "place", "sh", "-c", SPEAKS)
    assert (code, sorted(told.splitlines())) == (125, ["err", "write stdout: no space left on device"])
    assert into(full, cli, "exec", "-t", "place", "echo", "out") == (125, "write stdout: no space left on device\n")
    assert cli("exec", "place", "ls", "/mark").stdout == "/mark\n"


def test_logs_and_lists_say_when_they_cannot_be_written(cli: Cli, full: Path) -> None:
    """What prints by itself does as well."""
    cli("run", "--name", "speaker", "host", "echo", "out")
    for words in (("logs", "speaker"), ("ps", "-a")):
        assert into(full, cli, *words) == (1, "write the output: no space left on device\n")


def test_run_ends_quietly_when_its_reader_has_gone(cli: Cli) -> None:
    """Who has read enough has no error to hear of."""
    words = cli.words("run", "--rm", "host", "sh", "-c", "trap '' PIPE; echo one; seq 100000; exit 4")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"one\n"
        running.stdout.close()
        assert running.wait(TIMEOUT_S) == 4
        assert running.stderr.read() == b""
