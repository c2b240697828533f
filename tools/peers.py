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

__all__ = ["SUITE", "Room", "fetch", "libraries_of", "program_of"]

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


def libraries_of(folder: Path) -> str:
    """The shell command that puts the suite's libraries in the place of this system's."""
    place = f"usr/lib/{platform.machine()}-linux-gnu"
    return f"mount --bind {folder}/{place} /{place}"


def program_of(folder: Path, name: str) -> str:
    """The path of an unpacked program; empty if the suite has none of that name."""
    places = (folder / place / name for place in ("usr/bin", "usr/sbin"))
    return next((str(path) for path in places if path.is_file()), "")


class Room:
    """A mount namespace in which shell commands were run first; ``close`` ends it. ``enter`` enters (enter.c)."""

    def __init__(self, enter: Path, *commands: str) -> None:
        self._enter = enter
        script = " && ".join([*commands, "echo ready", "exec busybox sleep 1000000"])
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "busybox", "sh", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            raise SystemExit(f"bench: make a mount namespace: {script}")

    def command(self, program: str) -> list[str]:
        """The command line that runs a program there."""
        return [str(self._enter), f"/proc/{self._keeper.pid}/ns/mnt", program]

    def close(self) -> None:
        """End the process that keeps the namespace."""
        self._keeper.kill()
        self._keeper.wait()
