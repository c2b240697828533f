"""This process's terminal: raw mode and back, its size, keys that detach.

Source: termios(3) cfmakeraw; podman-attach(1) "--detach-keys".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

DEFAULT_DETACH = "ctrl-p,ctrl-q"
# Who is ended by these puts the terminal back first.
_ENDING = (_signal.SIGTERM, _signal.SIGHUP)
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` -> the bytes that a terminal sends; "" -> none. Raises: InvalidArgument."""
    keys = bytearray()
    for word in text.split(",") if text else ():
        letter = word.lower().removeprefix("ctrl-")
        if word == letter.lower() and len(word.encode()) == 1:
            keys += word.encode()
        elif len(letter) == 1 and "a" <= letter <= "z":
            keys.append(ord(letter) - ord("a") + 1)
        elif letter in _SPECIAL:
            keys.append(_SPECIAL[letter])
        else:
            raise InvalidArgument(
                f"--detach-keys {text!r}: {word!r} is no key", hint="keys with commas between, as in ctrl-p,ctrl-q or a"
            )
    return bytes(keys)


class KeyFilter:
    """Takes the detach keys out of typed bytes; a part of them that turns out to be none is passed on late."""

    __slots__ = ("_held", "_keys", "is_found")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""
        self.is_found = False

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` is input. ``is_found``: the keys were typed, and what follows them was not looked at."""
        if not self._keys:
            return data
        out = bytearray()
        for number in data:
            self._held += bytes((number,))
            while self._held and not self._keys.startswith(self._held):
                out.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self.is_found = True
                break
        return bytes(out)


class RawMode:
    """The terminal ``fd`` without line editing and signals, from ``set`` to ``put_back``; no terminal: nothing happens.

    Meanwhile SIGTERM and SIGHUP put the terminal back and end the process by SystemExit. The handlers come before the
    mode and go after it, so that there is no moment in which a signal leaves the terminal raw. Also usable in ``with``.
    """

    __slots__ = ("_before", "_fd", "_handlers")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.set()
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def set(self) -> None:
        """Change the terminal."""
        if self._fd < 0 or not posix.isatty(self._fd):
            return
        import termios

        self._before = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        for number in _ENDING:
            # What is ignored, as below nohup, stays ignored.
            if _signal.getsignal(number) != _signal.SIG_IGN:
                self._handlers[number] = _signal.signal(number, self._end)
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def put_back(self) -> None:
        """Make it as it was before. Idempotent, and so safe from a handler that interrupts it."""
        if self._before is None:
            return
        self._restore(self._before)
        for number, handler in self._handlers.items():
            _signal.signal(number, handler)
        self._before = None

    def _restore(self, before: list[Any]) -> None:
        import errno
        import termios

        while True:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
            except termios.error as exc:
                # A signal's handler has run meanwhile. Any other cause: the terminal has gone, and its mode with it.
                if exc.args[0] == errno.EINTR:
                    continue
            return

    def _end(self, number: int, _frame: object) -> None:
        self.put_back()
        raise SystemExit(128 + number)


def size_or_none(fd: int) -> tuple[int, int] | None:
    """(rows, columns), None where it is no terminal or does not know."""
    try:
        found = posix.get_terminal_size(fd)
    except OSError:
        return None
    return (found.lines, found.columns) if found.lines and found.columns else None
