"""The resident planner of corral, for the tests that want one beside the runtime."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from conformance.harness import Runtime, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def resident_planner(runtime: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    """A planner of the runtime's state root that answers; it is killed at the end of the block."""
    path = runtime.root / ".planner.sock"
    path.unlink(missing_ok=True)
    with runtime.background("planner") as (process, _):
        wait_until(lambda: answers(path), "the planner listens")
        yield process
    path.unlink(missing_ok=True)


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
