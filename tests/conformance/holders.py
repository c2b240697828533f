"""Processes of the tests' own whose namespaces, mounts or sockets a container is given."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def hold(*unshare: str, setup: str = "true") -> Iterator[int]:
    """The pid of a process that has run `setup` in these new namespaces, and then waits.

    `unshare` are options of unshare(1), such as `--net`.
    """
    command = ["unshare", *unshare, "sh", "-c", f"{setup} >&2 && echo ready && exec sleep 1000"]
    with waiting(command) as pid:
        yield pid


@contextlib.contextmanager
def waiting(command: Sequence[str]) -> Iterator[int]:
    """Run a command that prints `ready` and then waits; it is killed at the end of the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if line != b"ready\n":
            raise AssertionError(f"{command}: {line!r}")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def in_private_mounts(setup: str = "true") -> list[str]:
    """A wrapper for a `Runtime`: its commands run in a mount namespace of their own.

    `setup` is a shell script that may mount what it likes: nothing reaches the host.
    """
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{setup}\nexec "$@"', "sh"]
