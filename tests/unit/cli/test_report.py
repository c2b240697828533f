"""What is told beside tables: errors, warnings, events. A terminal is not driven by what a container calls itself."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import pytest

from corral.cli.commands.events import COMMANDS, run
from corral.cli.context import Context, complain
from corral.cli.flags import Line
from corral.cli.main import from_os_error, report
from corral.engine.verbs import events
from corral.errors import FailedPrecondition

# Clears the screen, sets the title, and one more sequence by its one-byte introducer: a process may be called so.
HOSTILE = "a\x1b[2J\x1b]0;t\x07\x9b31mé"
TAMED = "a?[2J?]0;t??31mé"


class Raw(io.RawIOBase):
    """A descriptor that keeps what arrives."""

    def __init__(self, shown: io.BytesIO) -> None:
        self._shown = shown

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._shown.write(data)


def test_an_error_and_its_hint_are_two_lines_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the name of a process or file in them is, line ends included."""
    report(FailedPrecondition(f"stop container 'x': {HOSTILE}\nstays\r", hint=f"look at {HOSTILE}"))
    assert capsys.readouterr().err == f"stop container 'x': {TAMED} stays\nhint: look at {TAMED}\n"


def test_what_the_kernel_says_of_a_containers_file_names_it_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name may be any bytes."""
    report(from_os_error(OSError(errno.EAGAIN, "Resource temporarily unavailable", b"a\xff\x1bb"), "cp"))
    assert capsys.readouterr().err == "cp a??b: resource temporarily unavailable\n"


def test_a_warning_keeps_its_lines_and_loses_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """As errors do."""
    complain(f"warning: {HOSTILE}\nhint: none\n")
    assert capsys.readouterr().err == f"warning: {TAMED}\nhint: none\n"


def test_a_question_is_seen_before_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends within its line, for which Python's stderr would wait."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Raw(shown)), line_buffering=True))
    complain("User: ")
    assert shown.getvalue() == b"User: "


def test_events_for_people_have_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """An OOM victim chose its own name."""
    event = {"type": "container", "action": "oom", "id": "a" * 64, "time_ns": 1, "attributes": {"victim": HOSTILE}}
    monkeypatch.setattr(events, "events", lambda *_, **__: [event])
    context = Context({"store": str(tmp_path / "store"), "run-dir": str(tmp_path / "run")})
    assert 0 == run(Line(COMMANDS[0].name, {"stream": False}, []), context)
    assert f"container oom {'a' * 12} (victim={TAMED})\n" in capsys.readouterr().out
