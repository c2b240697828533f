"""A container's process in front of this command: streams, terminal, signals, and its end.

The monitor gets this process's own descriptors and copies to them: nothing passes through here, except what is typed
at a terminal, since the detach keys have to be found in it. Whoever is killed here kills nothing there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import posix
import select
import time

from corral.cli.context import complain
from corral.cli.terminal import DEFAULT_DETACH, KeyFilter, RawMode, parse_keys, size_or_none
from corral.engine.keeper import Monitor
from corral.errors import CorralError, InvalidArgument, Timeout, Unavailable
from corral.linux.sockets import from_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from corral.cli.context import Context
    from corral.cli.flags import Line

EXIT_ENGINE = 125
_STREAMS = ("stdin", "stdout", "stderr")
# What a shell sends, and nothing that says something about this process alone.
_PROXIED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")
_ANSWER_S = 20.0
_END_OF_INPUT = b"\x04"


class Detached(Exception):
    """The detach keys were typed: the process goes on without us."""


class Streams:
    """What of a process is connected: ``terminal``: it has one of its own. ``keys``: the bytes that detach."""

    __slots__ = ("keys", "stderr", "stdin", "stdout", "terminal")

    def __init__(self, line: Line, *, stdin: bool, terminal: bool) -> None:
        chosen = [name.lower() for name in line.texts("attach")]
        for name in chosen:
            if name not in _STREAMS:
                raise InvalidArgument(f"--attach {name!r}: no such stream", hint=f"one of {', '.join(_STREAMS)}")
        self.stdin = stdin and (not chosen or "stdin" in chosen) and not line.has("no-stdin")
        self.stdout = not chosen or "stdout" in chosen
        # A terminal is one stream.
        self.stderr = not terminal and (not chosen or "stderr" in chosen)
        self.terminal = terminal
        self.keys = parse_keys(line.text("detach-keys", DEFAULT_DETACH))


class Attached:
    """A connection to a monitor that copies its process's streams to and from this process's. ``close`` it."""

    __slots__ = ("_has_lost", "_monitor", "_raw", "_typed", "streams")

    def __init__(self, monitor: Monitor, streams: Streams) -> None:
        """Connect; the process's output begins to flow when it is let go. ``monitor`` is duplicated."""
        self.streams = streams
        # Output that could not be written: whatever the process says of itself, this command has not done its part.
        self._has_lost = False
        self._raw = RawMode(0 if streams.stdin and streams.terminal else -1)
        self._monitor = Monitor(from_fd(posix.dup(monitor.fileno())), "the monitor")
        self._typed = -1
        source = 0 if streams.stdin else -1
        if streams.stdin and streams.terminal:
            source, self._typed = posix.pipe2(posix.O_CLOEXEC)
        try:
            # Before the first prompt: what is typed at once is the program's as well.
            self._raw.set()
            self._monitor.attach(stdin=source, stdout=1 if streams.stdout else -1, stderr=2 if streams.stderr else -1)
            if streams.terminal:
                self._follow_size()
        except BaseException:
            self._raw.put_back()
            raise
        finally:
            if self._typed >= 0:
                posix.close(source)

    def close(self) -> None:
        """End the connection, and put the terminal back: the process goes on. Idempotent."""
        self._raw.put_back()
        self._monitor.close()
        if self._typed >= 0:
            posix.close(self._typed)
            self._typed = -1

    def follow(self, until: float | None = None) -> None:
        """Wait until the process has ended and all of its output is written, or ``until`` (monotonic) is over.

        Raises: Detached.
        """
        try:
            if not self.streams.terminal:
                while self._goes_on(_left(until)):
                    pass
                return
            before = _signal.signal(_signal.SIGWINCH, lambda *_: self._follow_size())
            try:
                self._pump(until)
            finally:
                _signal.signal(_signal.SIGWINCH, before)
        except Timeout:
            if until is None:
                raise
        finally:
            self.close()

    def code(self, code: int) -> int:
        """The exit code of this command where the process's own is ``code``."""
        return EXIT_ENGINE if self._has_lost else code

    def _pump(self, until: float | None) -> None:
        """Typed bytes to the process, until its end or the detach keys."""
        keys = KeyFilter(self.streams.keys)
        poll = select.poll()
        poll.register(self._monitor.fileno(), select.POLLIN)
        if self._typed >= 0:
            poll.register(0, select.POLLIN)
        while True:
            left = _left(until)
            ready = {fd for fd, _ in poll.poll(None if left is None else left * 1000)}
            if until is not None and not ready and time.monotonic() >= until:
                return
            if self._monitor.fileno() in ready and not self._goes_on(_ANSWER_S):
                return
            if 0 in ready and not self._type(keys):
                poll.unregister(0)

    def _goes_on(self, timeout_s: float | None) -> bool:
        """Wait for the next word of the monitor; False when that is the end. Raises: Timeout."""
        lost = self._monitor.receive_lost(timeout_s)
        if lost is not None:
            self._has_lost = True
            complain(f"write {lost[0]}: {posix.strerror(lost[1]).lower()}\n")
        return lost is not None

    def _type(self, keys: KeyFilter) -> bool:
        """Pass on what is there; False at its end."""
        try:
            data = posix.read(0, 1 << 14)
        except OSError:
            data = b""  # the terminal has gone
        rest = keys.feed(data)
        try:
            while rest:
                rest = rest[posix.write(self._typed, rest) :]
        except BrokenPipeError:
            data = b""
        if keys.is_found:
            raise Detached
        if not data:
            self._end_input()
        return bool(data)

    def _end_input(self) -> None:
        """The end of the input, as a terminal tells it: the end of the pipe alone would say nothing to a pty."""
        try:
            posix.write(self._typed, _END_OF_INPUT)
        except BrokenPipeError:
            pass  # nobody reads any more
        posix.close(self._typed)
        self._typed = -1

    def _follow_size(self) -> None:
        found = size_or_none(1) or size_or_none(0)
        if found is None:
            return
        try:
            self._monitor.resize(*found)
        except CorralError:
            return  # it has ended, or is about to


def _left(until: float | None) -> float | None:
    # Never 0, which for a socket would mean not to wait at all.
    return None if until is None else max(0.001, until - time.monotonic())


class Proxy:
    """Signals to this process become the container's from ``install`` on; those before ``begin`` wait for it.

    Ctrl-C goes to the program. Whoever repeats it wants it to end: the second time it is stopped as `stop` does, the
    third time killed.
    """

    __slots__ = (
        "_again",
        "_busy",
        "_context",
        "_is_begun",
        "_is_killed",
        "_is_on",
        "_name",
        "_presses",
        "_taken",
        "_waiting",
    )

    def __init__(self, context: Context, name: str, *, is_on: bool) -> None:
        self._context = context
        self._name = name
        self._is_on = is_on
        self._is_begun = False
        self._is_killed = False
        self._waiting: list[int] = []
        self._presses = 0
        self._busy: set[tuple[str, str]] = set()
        self._again: set[tuple[str, str]] = set()
        self._taken: list[int] = []

    def install(self) -> None:
        """Take signals from now on."""
        for word in _PROXIED if self._is_on else ():
            number = getattr(_signal, f"SIG{word}")
            _signal.signal(number, self._take)
            self._taken.append(number)

    def remove(self) -> None:
        """The process has ended, or goes on without us: nothing is left that a signal could change."""
        while self._taken:
            _signal.signal(self._taken.pop(), _signal.SIG_IGN)

    def begin(self) -> None:
        """The process runs: what was sent meanwhile is its."""
        self._is_begun = True
        while self._waiting:
            self._forward(self._waiting.pop(0))

    def _take(self, number: int, _frame: object) -> None:
        if self._is_begun:
            self._forward(number)
        else:
            self._waiting.append(number)

    def _forward(self, number: int) -> None:
        if number == _signal.SIGINT:
            self._presses += 1
        action = ("kill", str(int(number)))
        if number == _signal.SIGINT and self._presses > 1:
            action = ("stop", "") if self._presses == 2 else ("kill", "")
        if self._is_killed:
            return
        self._again.add(action)
        if action in self._busy:
            return  # once more, when that is done
        self._busy.add(action)
        # Not here: what the signal interrupted may hold the very lock that the verb asks for.
        _thread.start_new_thread(self._pass_on, action)

    def _pass_on(self, verb: str, signal: str) -> None:
        while (verb, signal) in self._again:
            self._again.discard((verb, signal))
            self._do(verb, signal)
        self._busy.discard((verb, signal))
        if (verb, signal) in self._again:
            self._pass_on(verb, signal)  # it came just between

    def _do(self, verb: str, signal: str) -> None:
        try:
            if verb == "stop":
                complain("stopping; once more kills it\n")
            self._context.verb(verb, self._name, **({"signal": signal} if signal else {}))
            self._is_killed = self._is_killed or (verb == "kill" and not signal)
        except CorralError:
            return  # it has ended


class Session:
    """One run in the foreground: in ``with``, give ``before_release`` to the verb that starts it, then ``finish``."""

    __slots__ = ("_attached", "_container_id", "_context", "_proxy", "_streams", "_waiter")

    def __init__(self, context: Context, container_id: str, streams: Streams, *, proxies: bool) -> None:
        self._context = context
        self._container_id = container_id
        self._streams = streams
        self._proxy = Proxy(context, container_id, is_on=proxies)
        self._attached: Attached | None = None
        self._waiter: Monitor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the terminal, the signals and the monitor, however it went."""
        self._proxy.remove()
        for held in (self._attached, self._waiter):
            if held is not None:
                held.close()

    @property
    def before_release(self) -> Callable[[Monitor], None]:
        """What the verb calls when the process exists and waits."""
        return self._attach

    def _attach(self, monitor: Monitor) -> None:
        directory = self._context.places.container_run(self._container_id)
        self._proxy.install()
        self._attached = Attached(monitor, self._streams)
        self._waiter = Monitor.connect(directory)
        self._waiter.send_attend()

    def finish(self) -> int:
        """Follow the process to its end, settle what follows from that, and return its exit code.

        0 after detaching. Raises: Unavailable where nobody knows the code.
        """
        if self._attached is None or self._waiter is None:
            # It ran already: nothing was let go by us.
            return follow_end(self._context, self._container_id)
        return self._follow(self._attached, self._waiter)

    def _follow(self, attached: Attached, waiter: Monitor) -> int:
        self._proxy.begin()
        try:
            attached.follow()
        except Detached:
            return 0
        record = waiter.receive_exit()
        if record is None:
            return attached.code(follow_end(self._context, self._container_id))
        found = self._context.verb("exited", self._container_id)
        waiter.done()
        return attached.code(code_of(found.get("exit") or _exit_of(record), self._container_id))


def follow_end(context: Context, container_id: str) -> int:
    """The exit code of a run whose monitor we have lost, or never had."""
    return code_of(context.verb("wait", container_id, is_one_run=True).get("exit") or {}, container_id)


def code_of(end: dict[str, Any], name: str) -> int:
    """The exit code of an end. Raises: Unavailable where nobody knows it."""
    code = end.get("code")
    if isinstance(code, int):
        return code
    raise Unavailable(
        f"exit code of container {name[:12]}: unknown{': ' + end['reason'] if end.get('reason') else ''}",
        hint="its end was seen by nobody; a code is not invented",
    )


def _exit_of(record: dict[str, Any]) -> dict[str, Any]:
    from corral.engine.exits import to_exit

    return to_exit(record)
