"""What a long transfer tells its caller, and how the caller ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Literal

from corral.errors import CorralError

State = Literal["waiting", "present", "moving", "elsewhere", "done"]


class Cancelled(CorralError):
    """The caller ended the operation. What was fetched so far is kept, and the next one goes on from there."""

    kind = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one blob is.

    ``state``: ``waiting`` for a free connection, ``present`` here before, ``moving``, ``elsewhere`` (another thread or
    process moves it, and it is waited for), ``done``. ``rate`` is in bytes per second, over the last seconds.
    """

    digest: str
    what: Literal["config", "layer"]
    state: State
    done_bytes: int
    total_bytes: int
    rate: float = 0.0


OnProgress = Callable[[Progress], None]
_REPORT_EVERY_S = 0.1
_RATE_OVER_S = 3.0


class Cancel:
    """A wish to stop, set from any thread; transfers look at it between chunks."""

    __slots__ = ("_actions", "_event")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._actions: list[Callable[[], None]] = []

    def set(self) -> None:
        """Stop what is going on. Idempotent."""
        self._event.set()
        for action in tuple(self._actions):
            action()

    def on_set(self, action: Callable[[], None]) -> None:
        """Have ``action`` called when it is set, or at once if it is: what ends a wait for the network, say."""
        self._actions.append(action)
        if self._event.is_set():
            action()

    def child(self) -> Cancel:
        """A wish for a part of the work: set with this one, or alone."""
        child = Cancel()
        self.on_set(child.set)
        return child

    def check(self, act: str) -> None:
        """Raise Cancelled if it is set."""
        if self._event.is_set():
            raise Cancelled(f"{act}: cancelled", hint="the next try goes on where this one stopped")

    def wait(self, seconds: float, act: str) -> None:
        """Wait that long, unless it is set: then raise Cancelled."""
        self._event.wait(seconds)
        self.check(act)


class Meter:
    """Turns the steps of one blob into reports: at most ten a second, with a rate. One thread at a time."""

    __slots__ = ("_last_s", "_last_state", "_now", "_on_progress", "_samples")

    def __init__(self, first: Progress, on_progress: OnProgress | None) -> None:
        self._now = first
        self._on_progress = on_progress
        self._last_s = -1.0
        self._last_state: State | None = None
        self._samples: list[tuple[float, int]] = []

    def report(self, state: State, done_bytes: int) -> None:
        """Say how far it is."""
        if self._on_progress is None:
            return
        now = monotonic()
        if state == self._last_state and now - self._last_s < _REPORT_EVERY_S:
            return
        if state != self._last_state:
            self._samples.clear()
        self._last_s, self._last_state = now, state
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_OVER_S:
            self._samples.pop(0)
        (first_s, first_bytes) = self._samples[0]
        rate = (
            (done_bytes - first_bytes) / (now - first_s) if state in ("moving", "elsewhere") and now > first_s else 0.0
        )
        self._on_progress(replace(self._now, state=state, done_bytes=done_bytes, rate=max(rate, 0.0)))
