"""Where the bench keeps what it builds (build/vm), and how it runs tools. Knows nothing of kernels or tests.

Everything in the store is named after the digest of what it was made from and put in place by rename, so that it is
either whole or not there. One process at a time builds in it (``lock``); ``slot`` counts the machines that run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

__all__ = [
    "GUEST_PYTHON",
    "HERE",
    "RESULTS",
    "ROOT",
    "STORE",
    "BenchError",
    "digest",
    "lacking",
    "lock",
    "missing_tools",
    "processors",
    "prune",
    "run_tool",
    "scratch",
    "slot",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STORE = ROOT / "build" / "vm"
RESULTS = ROOT / "build" / "results"

# Debian 12's.
GUEST_PYTHON = (3, 11)

# Program and the Debian package that has it.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "depmod": "kmod",
    "cpio": "cpio",
    "busybox": "busybox-static",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}


class BenchError(Exception):
    """The bench itself cannot go on: a tool, an image or a machine, not a test."""


def missing_tools() -> list[str]:
    """Return the Debian packages that have to be installed before the bench works."""
    with_sbin = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=with_sbin) is None})


def lacking() -> str:
    """Why this host cannot run the bench, or ""."""
    absent = missing_tools()
    if absent:
        return f"these Debian packages are not installed: {' '.join(absent)}"
    if sys.version_info[:2] != GUEST_PYTHON:
        # pytest goes into the guest as it is here; hypothesis and coverage have parts compiled for one version.
        here = ".".join(str(number) for number in sys.version_info[:2])
        return f"the guest's Python is 3.11, and the tests run with {here}"
    return "" if os.geteuid() == 0 else "only root can make a disk with files of many owners"


def digest(parts: Iterable[str | bytes]) -> str:
    """Return a short name for content: the same for the same parts in the same order."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:20]


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def lock(timeout_s: float = 1800) -> Iterator[None]:
    """Hold the store, for whoever looks into it or builds what it lacks.

    Raises:
        BenchError: somebody else held it for ``timeout_s``.
    """
    with _held(["lock"], timeout_s, "build"):
        # Whoever made these held the lock, and was killed.
        for path in STORE.glob("scratch-*"):
            shutil.rmtree(path, ignore_errors=True)
        yield


@contextlib.contextmanager
def slot(timeout_s: float = 3600) -> Iterator[int]:
    """A place for one machine, by number: as many run at once as there are processors, whoever starts them.

    Raises:
        BenchError: none got free within ``timeout_s``.
    """
    with _held([f"slot-{number}" for number in range(processors())], timeout_s, "run") as number:
        yield number


@contextlib.contextmanager
def _held(names: list[str], timeout_s: float, purpose: str) -> Iterator[int]:
    """The first of these locks that is free; its place in the list."""
    STORE.mkdir(parents=True, exist_ok=True)
    end, is_told = time.monotonic() + timeout_s, False
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context((STORE / name).open("w")) for name in names]
        while (number := next((n for n, handle in enumerate(handles) if _is_taken(handle)), None)) is None:
            if not is_told:
                print(f"tests/vm: other benches {purpose}; waiting for one to end", file=sys.stderr, flush=True)
                is_told = True
            if time.monotonic() > end:
                raise BenchError(f"lock {STORE}: other benches hold {', '.join(names)} for {timeout_s:.0f} s")
            time.sleep(0.2)
        yield number


def _is_taken(handle: IO[str]) -> bool:
    """Whether the lock on this file is ours now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory of the store that is gone afterwards."""
    STORE.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"scratch-{name}-", dir=STORE))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep: int, pattern: str = "*") -> None:
    """Remove all but the newest ``keep`` entries of a folder of the store."""
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[keep:]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def run_tool(command: list[str], *, timeout_s: float, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    """Run a tool at low priority and return what it printed.

    Raises:
        BenchError: it ended with another code than 0 (with its last words), or not in time.
    """
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    try:
        result = subprocess.run(
            ["nice", "-n", "10", *command],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=environment,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"run {command[0]}: not done within {timeout_s:.0f} s") from None
    if result.returncode != 0:
        words = (result.stderr or result.stdout).decode(errors="replace").strip().splitlines()[-20:]
        raise BenchError(f"run {' '.join(command[:6])}: exit code {result.returncode}\n" + "\n".join(words))
    return result.stdout
