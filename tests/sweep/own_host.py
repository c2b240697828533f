"""A host of its own for what changes networks: a process in namespaces of its own, whose keepers live there as well."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["do_there"]

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_PREPARE = """set -e
mount --make-rprivate /
mount -t tmpfs none /run
[ ! -d /etc/cni ] || mount -t tmpfs none /etc/cni
ip link set lo up
"""


def do_there(action: Callable[[], Any], report: Path) -> Any:
    """Do ``action`` in such a process and return what it returned. Raises: AssertionError with its traceback."""
    report.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _be_there(action, report)
    try:
        os.waitpid(pid, 0)
    except BaseException:
        # Interrupted, or its time is over: it takes apart what it has, and its place goes with it.
        os.kill(pid, signal.SIGINT)
        os.waitpid(pid, 0)
        raise
    said = json.loads(report.read_text()) if report.exists() else {"trace": "it was killed"}
    assert "trace" not in said, said["trace"]
    return said["result"]


def _be_there(action: Callable[[], Any], report: Path) -> None:
    said: dict[str, Any] = {}
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "unshare")
        subprocess.run(["sh", "-c", _PREPARE], check=True)
        said["result"] = action()
    except BaseException:
        said["trace"] = traceback.format_exc()
    finally:
        report.write_text(json.dumps(said, default=str))
        os._exit(0)
