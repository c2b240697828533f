"""Signals by name, and sending them to the very process that is meant.

Without the ``signal`` module, whose import costs 4 ms.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from corral.errors import InvalidArgument
from corral.linux.procfs import pidfd_inode, read_stat_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.record import Record

__all__ = ["open_init", "parse_signal", "send_pidfd", "signal_name"]

SIGKILL = 9
SIGTERM = 15
SIGCONT = 18

_NUMBERS: dict[str, int] = {
    name[3:]: value
    for name, value in vars(_signal).items()
    if name.startswith("SIG") and "_" not in name and isinstance(value, int)
}
_NAMES = {value: name for name, value in sorted(_NUMBERS.items(), reverse=True)}


def parse_signal(text: str) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``15`` or ``RTMIN+3``. Raises: InvalidArgument."""
    word = text.strip().upper().removeprefix("SIG")
    if word.isascii() and word.isdigit() and 0 < int(word) <= 64:
        return int(word)
    if word in _NUMBERS:
        return _NUMBERS[word]
    for base, sign in (("RTMIN", "+"), ("RTMAX", "-")):
        head, found, offset = word.partition(sign)
        if head == base and found and offset.isdecimal():
            number = _NUMBERS[base] + (int(offset) if sign == "+" else -int(offset))
            if _NUMBERS["RTMIN"] <= number <= _NUMBERS["RTMAX"]:
                return number
    raise InvalidArgument(f"read signal {text!r}: there is no such signal", hint="use a name as in TERM, or a number")


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; a real-time signal as ``SIGRTMIN+n``."""
    name = _NAMES.get(number)
    if name is not None:
        return f"SIG{name}"
    lowest = _NUMBERS["RTMIN"]
    return f"SIGRTMIN+{number - lowest}" if lowest < number <= 64 else f"signal {number}"


def open_init(record: Record) -> int:
    """A pidfd of the container's first process, owned by the caller. Raises: ProcessLookupError if it is over."""
    if record.pid == 0:
        raise ProcessLookupError(3, "No such process")
    return open_process(record.pid, record.start_time)


def open_process(pid: int, start_time_ticks: int) -> int:
    """A pidfd of the process that has this pid and start time. Raises: ProcessLookupError."""
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError as exc:
        raise ProcessLookupError(3, "No such process", str(pid)) from exc
    # Looked at after it was opened: what is found is of this very process, or it has died.
    stat = read_stat_or_none(pid)
    if stat is None or stat.start_time_ticks != start_time_ticks:
        posix.close(pidfd)
        raise ProcessLookupError(3, "No such process", str(pid))
    return pidfd


def send_pidfd(pidfd: int, number: int) -> bool:
    """Send a signal; whether the process was still there to get it. Raises: PermissionError."""
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def inode_of(pidfd: int) -> int:
    """What tells this process from all others of this boot; 0 where the kernel does not say."""
    return pidfd_inode(pidfd)
