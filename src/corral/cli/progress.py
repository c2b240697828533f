"""Transfers as they go, on stderr: a line with bar and rate per blob on a terminal, one line at the end in a pipe."""

from __future__ import annotations

import sys
import threading
import time

from corral.cli.render import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO

    from corral.image.progress import Progress

_BAR = 28
_DRAW_EVERY_S = 0.1
_WORDS = {"waiting": "waiting", "present": "here already", "elsewhere": "fetched by another process", "done": "done"}


class Bars:
    """Give ``update`` to what moves blobs; any thread may call it. Use it in ``with``: the end is drawn then."""

    def __init__(self, title: str, *, is_quiet: bool = False, out: TextIO | None = None) -> None:
        self._title = title
        self._out = out or sys.stderr
        self._is_quiet = is_quiet
        self._is_live = not is_quiet and self._out.isatty()
        self._lock = threading.Lock()
        self._blobs: dict[str, Progress] = {}
        self._drawn = 0
        self._last_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._lock:
            if self._is_live:
                self._draw()
            elif self._blobs and not self._is_quiet and kind is None:
                self._summary()

    def update(self, progress: Progress) -> None:
        """Take a report of one blob."""
        with self._lock:
            if not self._blobs and not self._is_quiet:
                self._out.write(f"{self._title}\n")
            is_new = progress.state != getattr(self._blobs.get(progress.digest), "state", "")
            self._blobs[progress.digest] = progress
            if self._is_live and (is_new or time.monotonic() - self._last_s > _DRAW_EVERY_S):
                self._draw()

    def _draw(self) -> None:
        """Write all lines over those of the last time."""
        self._last_s = time.monotonic()
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        lines = [f"\x1b[2K{line_of(blob)}\n" for blob in self._blobs.values()]
        self._out.write(up + "".join(lines))
        self._out.flush()
        self._drawn = len(lines)

    def _summary(self) -> None:
        fetched = [blob for blob in self._blobs.values() if blob.state == "done"]
        total = sum(blob.total_bytes for blob in fetched)
        self._out.write(f"{len(fetched)} of {len(self._blobs)} blobs moved, {size(total)}; the others were there\n")


def line_of(blob: Progress) -> str:
    """``1f2e3d4c5b6a [=====>     ] 12MB/30MB 4MB/s``."""
    name = blob.digest.partition(":")[2][:12]
    if blob.state != "moving":
        return f"{name} {blob.what:<6} {_WORDS[blob.state]} {size(blob.total_bytes)}"
    share = min(1.0, blob.done_bytes / blob.total_bytes) if blob.total_bytes else 0.0
    full = int(share * _BAR)
    bar = "=" * full + (">" if full < _BAR else "")
    return f"{name} {blob.what:<6} [{bar:<{_BAR}}] {size(blob.done_bytes)}/{size(blob.total_bytes)} {size(blob.rate)}/s"
