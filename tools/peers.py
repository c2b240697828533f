"""Newer runc and crun for ``make bench``, from another suite of Debian, without touching this system.

The packages are unpacked into a folder. Their programs need that suite's libraries, so they run in a mount namespace,
made once, in which those libraries stand in for this system's; entering it is one system call (tools/enter.c).
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["SUITE", "Peers", "fetch"]

SUITE = "sid"
PACKAGES = ("runc", "crun", "libc6")


def fetch(folder: Path) -> Path:
    """Unpack the packages and what they depend on into ``folder`` (once) and return it."""
    if (folder / "usr").is_dir():
        return folder
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("bench: newer peers need the package mmdebstrap")
    scratch = folder.with_name(folder.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}"]
    # The clock of a machine for tests may be ahead of the mirror's last signature.
    command += ["--aptopt=Acquire::Check-Valid-Until false", SUITE, str(scratch)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    scratch.rename(folder)
    return folder


class Peers:
    """The namespace in which the unpacked programs run; ``close`` ends it."""

    def __init__(self, folder: Path, enter: Path) -> None:
        self._folder = folder
        self._enter = enter
        libraries = f"usr/lib/{platform.machine()}-linux-gnu"
        script = f"mount --bind {folder}/{libraries} /{libraries} && echo ready && exec sleep infinity"
        # The shell and sleep have their libraries open before the mount, or come from busybox, which needs none.
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "busybox", "sh", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            raise SystemExit("bench: make a mount namespace for the newer peers: operation not permitted")

    def command(self, name: str) -> list[str]:
        """The command line that runs one of them; empty if the suite has no such program."""
        for place in ("usr/bin", "usr/sbin"):
            program = self._folder / place / name
            if program.is_file():
                return [str(self._enter), f"/proc/{self._keeper.pid}/ns/mnt", str(program)]
        return []

    def close(self) -> None:
        """End the process that keeps the namespace."""
        self._keeper.kill()
        self._keeper.wait()
