"""What attackers bring along: a sentinel to protect, and a thread that swaps two paths without end."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

RENAME_EXCHANGE = 2
AT_FDCWD = -100
LONGEST_PAUSE_S = 50e-6
UNTOUCHED = "untouched\n"


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Sentinel:
    """A directory of the host, outside every rootfs, that no container may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o755)
        for name in ("secret", "ptmx"):
            (path / name).write_text(UNTOUCHED)
            (path / name).chmod(0o600)
        self._before = self._facts()

    @property
    def secret(self) -> Path:
        """A file of root's, mode 0600."""
        return self.path / "secret"

    def _facts(self) -> dict[str, tuple[int, int, int, str]]:
        found = {}
        for entry in sorted(self.path.rglob("*")):
            facts = entry.lstat()
            text = entry.read_text() if entry.is_file() and not entry.is_symlink() else ""
            found[str(entry.relative_to(self.path))] = (facts.st_mode, facts.st_uid, facts.st_gid, text)
        return found

    def assert_untouched(self) -> None:
        """AssertionError unless names, modes, owners and contents are what they were."""
        assert self._facts() == self._before, "the host was changed from inside a container"


class Swapper:
    """Exchanges two names in a directory again and again, while its block lasts.

    The pauses differ: at a steady full speed, a runtime trips over a half-made path before the
    exchange falls between its check and its use.
    """

    def __init__(self, first: Path, second: Path) -> None:
        self._names = (os.fsencode(first), os.fsencode(second))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._swap, daemon=True)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _swap(self) -> None:
        first, second = self._names
        pauses = random.Random(1)
        while not self._stop.is_set():
            if self._libc.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) != 0:
                raise OSError(ctypes.get_errno(), "renameat2 RENAME_EXCHANGE")
            resume = time.perf_counter() + pauses.random() * LONGEST_PAUSE_S
            while time.perf_counter() < resume:
                pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
