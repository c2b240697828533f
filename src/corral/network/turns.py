"""Whose turn it is to call plugins for a container: a lock that a plugin holds as well, so that it outlives its caller.

A plugin goes on when the engine that called it is killed. Whoever undoes its work has to wait for it: else DEL comes
first, and then what ADD makes is nobody's. So each call is made under a flock on a directory of the container's, whose
descriptor the plugin and what it starts inherit.

Source: flock(2) "NOTES": the lock belongs to the open file description, and ends with its last descriptor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING

from corral.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Turn"]

_POLL_S = 0.02
# For who was killed to be gone.
_END_S = 5.0


class Turn:
    """``with Turn(directory, id, 60.0) as fd:`` holds the turn; ``fd`` is what a plugin inherits, -1 for no directory.

    Waits ``timeout_s`` for the plugin of a caller that is gone, which is then killed with what it started.
    Raises: Unavailable when it stays.
    """

    __slots__ = ("_directory", "_fd", "_id", "_timeout_s")

    def __init__(self, directory: str, container_id: str, timeout_s: float) -> None:
        self._directory = directory
        self._id = container_id
        self._timeout_s = timeout_s
        self._fd = -1

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1  # the container was removed: nobody else calls plugins for it
        try:
            self._take()
        except BaseException:
            self._close()
            raise
        return self._fd

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._fd >= 0:
                # By name, for a service that a plugin has started keeps its descriptor.
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _take(self) -> None:
        if self._is_free(self._timeout_s):
            return
        found = list(_holders(self._directory, self._id))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self._is_free(_END_S):
            raise Unavailable(
                f"call CNI plugins for container {self._id[:12]}: an earlier call goes on",
                hint="the network is taken apart when it has ended",
                path=self._directory,
            )

    def _is_free(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_POLL_S)
            else:
                return True


def _holders(directory: str, container_id: str) -> Iterator[int]:
    """Plugins of the container, and what they started, that have the directory open: never an engine."""
    known = os.stat(directory)
    wanted = f"CNI_CONTAINERID={container_id}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted not in file.read().split(b"\0"):
                    continue
            for fd in os.listdir(f"/proc/{name}/fd"):
                found = os.stat(f"/proc/{name}/fd/{fd}")
                if (found.st_dev, found.st_ino) == (known.st_dev, known.st_ino):
                    yield int(name)
                    break
