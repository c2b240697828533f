"""Control groups for tests of single steps: a record with a journal, and the places of this host."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

from corral.runtime.plan import FRONT
from native.driver import Bench, Result

INTEND, CREATED, JOINED, ABSENT, REMOVED = 1, 2, 3, 4, 5
REFUSE_POPULATED, ABSENT_IS_FINE, JOIN_ONLY = 1, 2, 4
CPUSET, FREEZER, KILL, PIDS = 1, 2, 4, 8
BUDGET_MS = 300


def mount_of(fstype: str, controller: str = "") -> str:
    """Where a hierarchy is mounted: of cgroup2, or of the v1 controller; "" if nowhere."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == fstype and (not controller or controller in options.split(",")):
            return left.split(" ")[4]
    return ""


class GroupBench:
    """Steps of the front on one group, ``id`` 0, of a hierarchy; the record lies in a state root of the test's own."""

    def __init__(self, folder: Path, mount: str, version: int, path: str, flags: int = 0) -> None:
        self.bench = Bench(folder)
        self.root = folder / "root"
        self.record = self.root / "id"
        self.record.mkdir(parents=True)
        (self.record / "journal").touch()
        self.mount, self.version, self.path, self.flags = mount, version, path, flags
        self.directory = Path(mount + path)

    def define(self) -> tuple[Any, ...]:
        """The CG_DEFINE step."""
        return ("CG_DEFINE", 0, self.version, self.mount, self.path, self.flags)

    def run(self, *steps: tuple[Any, ...], pid: int = 0, **environment: str) -> Result:
        """Define the group, then run the steps; ``pid`` stands for the container's first process."""
        more = {"DRIVER_INIT_PID": str(pid)} if pid else {}
        return self.bench.run(
            [self.define(), *steps], actor=FRONT, DRIVER_RECORD=str(self.record), **more, **environment
        )

    def ok(self, *steps: tuple[Any, ...], pid: int = 0, **environment: str) -> None:
        """Run the steps, which must succeed without a word."""
        result = self.run(*steps, pid=pid, **environment)
        assert (result.status, result.err) == (0, "")

    def journal(self) -> list[tuple[int, int]]:
        """The journal as (kind, value)."""
        entries = struct.iter_unpack("<HHIQ", (self.record / "journal").read_bytes())
        return [(kind, value) for kind, _, value, _ in entries]

    def processes(self) -> set[int]:
        """Processes directly in the group."""
        return {int(pid) for pid in (self.directory / "cgroup.procs").read_text().split()}

    def clean(self) -> None:
        """Remove what a failed test left, below the mark's own directory."""
        top = Path(self.mount + "/" + self.path.split("/")[1])
        for folder, _, _ in os.walk(top, topdown=False):
            subprocess.run(["rmdir", folder], check=False, capture_output=True)


MAKE = ("CG_MAKE", 0, REFUSE_POPULATED, "")
REMOVE = ("CG_REMOVE", 0, BUDGET_MS)
