"""What a container wrote: its log files, oldest first, a tail of them, or as they grow.

Formats are the monitor's: CRI text (``TIME STREAM P|F TEXT``) and JSON lines (``{"log", "stream", "time"}``). A line
that was cut into parts comes as parts: nothing is held back for an end that may never come.
"""

from __future__ import annotations

import posix

from corral.errors import CorralError
from corral.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Entry", "Reader", "parse_line", "parse_stamp", "take"]

_BLOCK = 1 << 16
_LINE_MAX = 1 << 20
_FOLLOW_S = 1.0
_BATCH = 256


class Entry:
    """One piece of output: ``data`` without its newline; ``is_partial``: the line goes on in the next of its stream."""

    __slots__ = ("data", "is_partial", "stream", "time_ns")

    def __init__(self, time_ns: int, stream: str, data: bytes, *, is_partial: bool = False) -> None:
        self.time_ns = time_ns
        self.stream = stream
        self.data = data
        self.is_partial = is_partial

    def __repr__(self) -> str:
        return f"Entry({self.time_ns}, {self.stream!r}, {self.data!r}, is_partial={self.is_partial})"


def parse_line(line: bytes) -> Entry | None:
    """An entry from a line of either format; None for what is neither."""
    if line.startswith(b"{"):
        return _parse_json(line)
    words = line.split(b" ", 3)
    if len(words) < 3 or words[1] not in (b"stdout", b"stderr") or words[2] not in (b"P", b"F"):
        return None
    stamp = parse_stamp(words[0].decode("ascii", "replace"))
    if stamp is None:
        return None
    data = words[3] if len(words) == 4 else b""
    return Entry(stamp, words[1].decode(), data, is_partial=words[2] == b"P")


def _parse_json(line: bytes) -> Entry | None:
    try:
        value = loads(line)
    except CorralError:
        return None
    if not isinstance(value, dict):
        return None
    text, stream, stamp = value.get("log"), value.get("stream"), parse_stamp(str(value.get("time", "")))
    if not isinstance(text, str) or stream not in ("stdout", "stderr") or stamp is None:
        return None
    data = text.encode("utf-8", "surrogateescape")
    return Entry(stamp, stream, data.removesuffix(b"\n"), is_partial=not data.endswith(b"\n"))


def parse_stamp(text: str) -> int | None:
    """Nanoseconds of an RFC 3339 time with up to nine decimals; None for what is none."""
    if len(text) < 20 or text[4] != "-" or text[10] not in "Tt":
        return None
    zone = len(text) - 1 if text[-1] in "Zz" else max(text.rfind("+"), text.rfind("-"))
    if zone < 19:
        return None
    try:
        days = _days(int(text[:4]), int(text[5:7]), int(text[8:10]))
        seconds = days * 86400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        fraction = int(text[20:zone].ljust(9, "0")[:9]) if zone > 20 else 0
        if text[zone] in "+-":
            offset = int(text[zone + 1 : zone + 3]) * 3600 + int(text[zone + 4 : zone + 6]) * 60
            seconds += -offset if text[zone] == "+" else offset
    except ValueError:
        return None
    return seconds * 10**9 + fraction


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar; ``datetime`` costs more than all the rest of this."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


class Reader:
    """Reads the log ``PATH``, with ``PATH.1`` (older) and so on.

    Entries outside ``since_ns``..``until_ns`` are left out.
    ``tail``: only the last so many lines of what there is now (None: all).
    """

    __slots__ = ("_path", "_since_ns", "_tail", "_until_ns")

    def __init__(self, path: str, *, since_ns: int = 0, until_ns: int | None = None, tail: int | None = None) -> None:
        self._path = path
        self._since_ns = since_ns
        self._until_ns = until_ns
        self._tail = tail

    def read(self) -> Iterator[Entry]:
        """What is there now."""
        files = _open_all(self._path)
        try:
            if self._tail is not None:
                yield from self._chosen(_tail_of(files, self._tail))
                return
            for fd in files:
                yield from self._chosen(_lines(fd))
        finally:
            for fd in files:
                posix.close(fd)

    def follow(self, is_over: Callable[[], bool], *, timeout_s: float = _FOLLOW_S) -> Iterator[Entry]:
        """What is there, then what comes, until ``is_over`` says that nothing more will; asked every ``timeout_s``."""
        from corral.linux.inotify import DirectoryWatch

        with DirectoryWatch(self._path.rpartition("/")[0]) as watch:
            for entry in self.follow_looking(is_over):
                if entry is None:
                    watch.wait(timeout_s)
                else:
                    yield entry

    def follow_looking(self, is_over: Callable[[], bool]) -> Iterator[Entry | None]:
        """As ``follow``, but never waits: None is all there is for now. Look again when the directory has changed."""
        files = _open_all(self._path)
        follower = _Follower(self._path, files.pop() if files else -1)
        try:
            if self._tail is not None:
                yield from self._chosen(_tail_of([*files, *follower.skip()], self._tail))
            else:
                for fd in files:
                    yield from self._chosen(_lines(fd))
            yield from self._grow(follower, is_over)
        finally:
            follower.close()
            for fd in files:
                posix.close(fd)

    def _grow(self, follower: _Follower, is_over: Callable[[], bool]) -> Iterator[Entry | None]:
        while True:
            # Asked before the last look, or what was written between the two would be lost.
            ended = is_over()
            for line in follower.lines():
                entry = parse_line(line)
                if entry is None or entry.time_ns < self._since_ns:
                    continue
                if self._until_ns is not None and entry.time_ns > self._until_ns:
                    return
                yield entry
            if ended:
                return
            yield None

    def _chosen(self, lines: Iterable[bytes]) -> Iterator[Entry]:
        for line in lines:
            entry = parse_line(line)
            if entry is None or entry.time_ns < self._since_ns:
                continue
            if self._until_ns is None or entry.time_ns <= self._until_ns:
                yield entry


class _Follower:
    """The current file, and the next one when it was rotated away. Owns its descriptor."""

    __slots__ = ("_fd", "_path", "_rest")

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1

    def skip(self) -> list[int]:
        """Leave out what is there now, up to the last complete line; returns the file to read that from, borrowed."""
        if self._fd < 0:
            return []
        size = posix.fstat(self._fd).st_size
        start = max(0, size - _LINE_MAX)
        posix.lseek(self._fd, start + posix.pread(self._fd, size - start, start).rfind(b"\n") + 1, 0)
        return [self._fd]

    def lines(self) -> Iterator[bytes]:
        """Complete lines that were not given yet."""
        while True:
            yield from self._take()
            if not self._is_replaced():
                return
            # Once more: it may have grown between the last look and its end.
            yield from self._take()
            self.close()
            self._rest = b""
            try:
                self._fd = posix.open(self._path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
            except FileNotFoundError:
                return

    def _take(self) -> Iterator[bytes]:
        if self._fd < 0:
            return
        while data := posix.read(self._fd, _BLOCK):
            *whole, self._rest = (self._rest + data).split(b"\n")
            yield from whole

    def _is_replaced(self) -> bool:
        try:
            now = posix.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._fd < 0:
            return True
        held = posix.fstat(self._fd)
        return (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino)


def take(entries: Iterator[Entry | None]) -> list[Entry | None]:
    """Some of ``follow_looking``, up to and with the None that there are no more for now; empty at the end."""
    found: list[Entry | None] = []
    for entry in entries:
        found.append(entry)
        if entry is None or len(found) == _BATCH:
            break
    return found


def _open_all(path: str) -> list[int]:
    """The files, oldest first. Opened newest first: one that is rotated meanwhile is met again, and left out then."""
    opened: list[int] = []
    seen = set()
    number = 0
    while True:
        try:
            fd = posix.open(
                path if number == 0 else f"{path}.{number}", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW
            )
        except FileNotFoundError:
            if number > 0:
                return opened[::-1]
            number += 1
            continue
        inode = posix.fstat(fd).st_ino
        if inode in seen:
            posix.close(fd)
        else:
            seen.add(inode)
            opened.append(fd)
        number += 1


def _lines(fd: int) -> Iterator[bytes]:
    """Complete lines from the beginning."""
    rest, at = b"", 0
    while data := posix.pread(fd, _BLOCK, at):
        at += len(data)
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _last(lines: list[bytes], count: int) -> list[bytes]:
    """The pieces of the last ``count`` lines: a line that was cut into parts is one line."""
    at, left = len(lines), count
    while at > 0:
        entry = parse_line(lines[at - 1])
        if entry is not None and not (entry.is_partial and at < len(lines)):
            if left == 0:
                break
            left -= 1
        at -= 1
    return lines[at:]


def _tail_of(files: list[int], count: int) -> list[bytes]:
    """The last lines of files, read from their ends."""
    found: list[bytes] = []
    for fd in reversed(files):
        size = start = posix.fstat(fd).st_size
        block = _BLOCK
        lines: list[bytes] = []
        while start > 0:
            start = max(0, size - block)
            # What stands behind the last newline is not complete, and what stands before the first may not be.
            lines = posix.pread(fd, size - start, start).split(b"\n")[1 if start else 0 : -1]
            if len(_last([*lines, *found], count)) < len(lines) + len(found):
                break
            block *= 4
        found = [*lines, *found]
        chosen = _last(found, count)
        if len(chosen) < len(found):
            return chosen
    return _last(found, count)
