"""Child processes of the caller tests: every one is known, and every orphan is reaped.

The test process makes itself a child subreaper, so conmon, shims and containers
that outlive their caller become its children. That makes "what is left behind"
a question about one process tree instead of a search over the whole machine.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

TICK_S = 0.02


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Block until the condition holds; AssertionError naming it after timeout_s."""
    pause = threading.Event()
    for _ in range(int(timeout_s / TICK_S)):
        if holds():
            return
        pause.wait(TICK_S)
    assert holds(), f"not within {timeout_s} s: {what}"


def children_of(pid: int) -> list[int]:
    """Direct children of a process, over all of its threads; empty if it is gone."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants_of(pid: int) -> list[int]:
    """All processes below a process, parents first."""
    found: list[int] = []
    queue = children_of(pid)
    while queue:
        child = queue.pop(0)
        found.append(child)
        queue += children_of(child)
    return found


def command_of(pid: int) -> str:
    """The command line of a process, for messages."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_zombie(pid: int) -> bool:
    """True for a process that has ended and only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Children:
    """Starts processes and reaps orphans; owns one background thread.

    `reaping` is off between the caller tests, to which orphans do not come then: other suites
    in the same session wait for orphans of their own. What any starter of this process started
    is no orphan to the others: two folders have one each.
    """

    reaping = False
    _lock = threading.Lock()
    _known: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._reap_at_times, daemon=True)
        self._thread.start()

    def start(self, argv: Sequence[str], env: Mapping[str, str], **options: object) -> subprocess.Popen[str]:
        """Start a process that the caller of this method waits for."""
        with self._lock:
            process = subprocess.Popen(argv, env=env, text=True, **options)  # type: ignore[call-overload]
            self._known.add(process.pid)
        return process  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop reaping."""
        self._stopped.set()
        self._thread.join()

    def _reap_at_times(self) -> None:
        # An orphan that stays a zombie looks alive to `podman` (kill(pid, 0) works), so reap at once.
        while not self._stopped.wait(TICK_S):
            if self.reaping:
                self.reap_orphans()

    def reap_orphans(self) -> None:
        """Reap what ended among our children and was not started here."""
        with self._lock:
            for pid in children_of(os.getpid()):
                if pid not in self._known and is_zombie(pid):
                    try:
                        os.waitpid(pid, os.WNOHANG)
                    except ChildProcessError:
                        continue
