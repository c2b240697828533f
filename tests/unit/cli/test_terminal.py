"""Detach keys."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from corral.cli.terminal import KeyFilter, parse_keys
from corral.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"), ("ctrl-@", b"\x00"), ("ctrl-],x", b"\x1dx"), ("", b"")],
)
def test_keys_are_the_bytes_that_a_terminal_sends(text: str, expected: bytes) -> None:
    """Docker's and Podman's notation."""
    assert parse_keys(text) == expected


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "ab", "ctrl-p,,a"])
def test_what_is_no_key_is_refused(text: str) -> None:
    """The whole value stands in the message."""
    with pytest.raises(InvalidArgument, match="is no key"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("chunks", "expected", "found"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10", b"y"], b"\x11\x10y", False),
    ],
)
def test_filter_finds_the_keys_across_reads(chunks: list[bytes], expected: bytes, found: bool) -> None:
    """A part of the keys that is none after all is passed on, late but whole."""
    keys = KeyFilter(b"\x10\x11")
    assert (b"".join(keys.feed(chunk) for chunk in chunks), keys.is_found) == (expected, found)


def test_filter_without_keys_passes_everything() -> None:
    """--detach-keys ''."""
    assert KeyFilter(b"").feed(b"\x10\x11") == b"\x10\x11"


# Ends itself by a signal at each moment around the change of the mode: before and after it, there and back.
_ENDED_AT = """
import os, signal, sys, termios
sys.path[:0] = sys.argv[3:]
from corral.cli.terminal import RawMode

moment, number = int(sys.argv[1]), getattr(signal, sys.argv[2])
change, moments = termios.tcsetattr, iter(range(4))

def tcsetattr(*words):
    if next(moments, None) == moment:
        os.kill(os.getpid(), number)
    change(*words)
    if next(moments, None) == moment:
        os.kill(os.getpid(), number)

termios.tcsetattr = tcsetattr
with RawMode(0):
    pass
"""
_HANGS_UP = """
import os, signal, sys
sys.path[:0] = sys.argv[1:]
from corral.cli.terminal import RawMode

signal.signal(signal.SIGHUP, signal.SIG_IGN)
with RawMode(0):
    os.kill(os.getpid(), signal.SIGHUP)
"""


@pytest.fixture
def terminal() -> Iterator[int]:
    """A terminal's descriptor."""
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


def _run(terminal: int, script: str, *words: str) -> int:
    command = [sys.executable, "-c", script, *words, *sys.path]
    return subprocess.run(command, stdin=terminal, timeout=60, check=False).returncode


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("moment", range(4))
def test_terminal_is_put_back_when_a_signal_comes_with_the_change_of_its_mode(
    terminal: int, moment: int, name: str
) -> None:
    """There is no moment in which a signal ends the process and leaves the terminal raw."""
    before = termios.tcgetattr(terminal)
    code = _run(terminal, _ENDED_AT, str(moment), name)
    assert (128 + getattr(signal, name), before) == (code, termios.tcgetattr(terminal))


def test_hangup_stays_ignored_when_the_terminal_is_raw(terminal: int) -> None:
    """What nohup(1) has set holds."""
    assert _run(terminal, _HANGS_UP) == 0
