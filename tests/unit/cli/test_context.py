"""Verbs by way of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from corral.cli.context import Context
from corral.engine.remote import Remote


class _Line:
    """A connection that notes what is called over it; the first call on it is interrupted by a signal's handler."""

    made: ClassVar[list[_Line]] = []
    context: ClassVar[Context]

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_closed = False
        _Line.made.append(self)

    def offers(self, *_: object) -> bool:
        return True

    def call(self, verb: str, *_: object) -> str:
        self.calls.append(verb)
        if verb == "exited":
            assert _Line.context.verb("kill", "c") == "kill"
        return verb

    def close(self) -> None:
        self.is_closed = True


def test_handler_that_interrupts_a_call_asks_over_a_connection_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one connection each of the two would read the other's answer."""
    _Line.made = []
    _Line.context = context = Context({"store": str(tmp_path), "run-dir": str(tmp_path)})
    (tmp_path / "serve.sock").touch()

    def connect_or_none(*_: object) -> Any:
        return _Line()

    monkeypatch.setattr(Remote, "connect_or_none", connect_or_none)
    assert [context.verb("exited", "c"), context.verb("ps")] == ["exited", "ps"]
    assert [(line.calls, line.is_closed) for line in _Line.made] == [(["exited", "ps"], False), (["kill"], True)]
