"""The resident planner of corral, for the tests that want one beside the runtime."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING

from conformance.harness import Runtime, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

SOCKET_NAME = ".planner.sock"


@contextlib.contextmanager
def resident_planner(runtime: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    """A planner of the runtime's state root that answers; it is killed at the end of the block."""
    path = runtime.root / SOCKET_NAME
    path.unlink(missing_ok=True)
    with runtime.background("planner") as (process, _):
        wait_until(lambda: answers(path), "the planner listens")
        yield process
    path.unlink(missing_ok=True)


class SharedPlanner:
    """One planner for many state roots: a link in each leads to its socket. Close it when the session ends."""

    def __init__(self, runtime: Runtime) -> None:
        self.path = runtime.root / SOCKET_NAME
        self.process = runtime.spawn("planner", stdin=subprocess.DEVNULL)
        wait_until(lambda: answers(self.path), "the planner listens")

    @contextlib.contextmanager
    def serve(self, root: Path) -> Iterator[None]:
        """Answer for this state root, which must not be there yet. Fails if the planner has ended meanwhile."""
        root.mkdir(mode=0o711)
        (root / SOCKET_NAME).symlink_to(self.path)
        yield
        assert self.process.poll() is None, "the resident planner has ended"

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def served(planner: SharedPlanner | None, case: pytest.Item, root: Path) -> contextlib.AbstractContextManager[None]:
    """For this case's state root: the planner, if there is one and the case is not marked `cold`."""
    if planner is None or case.get_closest_marker("cold") is not None:
        return contextlib.nullcontext()
    return planner.serve(root)


def answers(path: Path) -> bool:
    """Whether somebody listens on this socket, whatever its type is."""
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                continue
            return True
    return False
