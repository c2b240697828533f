"""Records made by hand, for the commands that need no Python: state, start, kill, delete."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

from corral.runtime import wire
from corral.runtime.plan import FRONT, Plan
from root.native.front import build_front
from root.native.groups import GroupBench

COMMIT, BORN = 7, 6
HEAD = struct.Struct("<IIiI")
MSG_SYNC, MSG_FAIL, MSG_WARNING = 1, 4, 5

Step = tuple[Any, ...]


class Answer:
    """How a command ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.strip()


class Records:
    """A state root and a front without any planner beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir(mode=0o700)
        self.path = self.root / "c1"
        self.program = build_front()
        self.locks: list[int] = []

    def make(
        self, *, start: list[Step] | None = None, delete: list[Step] | None = None, define: Step | None = None
    ) -> None:
        """The record ``c1`` of a container that is complete, and has no process."""
        self.path.mkdir(0o700)
        for name in ("journal", "owner.lock", "init.lock"):
            (self.path / name).touch()
        first = [define] if define else []
        self.write("state", [*first, ("STATE_DOC", '{"pid": ', ', "status": "', '"}\n')])
        self.write("start", [*first, ("RELEASE", 2000), *(start or [])])
        self.write("kill", [*first, ("KILL_SCOPE", 0)])
        self.write("delete", [*first, ("KILL_INIT", 5000), *(delete or []), ("REMOVE_RECORD", 0)])
        self.note(BORN)
        self.note(COMMIT)

    def write(self, name: str, steps: list[Step]) -> None:
        """One program of the record."""
        plan = Plan()
        for op, *args in steps:
            plan.add(FRONT, op, *args)
        (self.path / f"{name}.plan").write_bytes(wire.encode(plan))

    def note(self, kind: int) -> None:
        """One entry of the journal."""
        with (self.path / "journal").open("ab") as file:
            file.write(struct.pack("<HHIQ", kind, 0, 0, 0))

    def forget_commit(self) -> None:
        """Make the record that of a container whose creation is not over."""
        (self.path / "journal").write_bytes(b"")

    def live(self, pid: int, *, start_time: int | None = None) -> None:
        """Name the container's first process."""
        if start_time is None:
            stat = Path(f"/proc/{pid}/stat").read_text()
            start_time = int(stat.rpartition(")")[2].split()[19])
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (self.path / "live").write_text(f"{pid} {start_time} {boot_id} 0\n")

    def lock(self, name: str) -> int:
        """Hold a lock of the record until ``close``."""
        fd = os.open(self.path / name, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self.locks.append(fd)
        return fd

    def close(self) -> None:
        """Let go of all locks."""
        while self.locks:
            os.close(self.locks.pop())

    def listen(self) -> socket.socket:
        """The socket at which a created container waits; its lock is held."""
        self.lock("init.lock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.path / "start.sock"))
        listener.listen(1)
        return listener

    def command(self, *arguments: str) -> list[str]:
        """The command line of the front."""
        return [str(self.program), "--root", str(self.root), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """What the front's environment is."""
        return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **more}

    def run(self, *arguments: str, **environment: str) -> Answer:
        """Run a command to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Answer(done)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            self.command(*arguments), env=self.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def tell(connection: socket.socket, kind: int, text: str = "", error: int = 0) -> None:
    """Send one packet as a container's first process does."""
    connection.send(HEAD.pack(kind, 0, error, 1) + text.encode())


def hook(kind: str, script: str, flags: int = 0) -> Step:
    """A HOOK step that runs a shell."""
    return ("HOOK", kind, "/bin/sh", ["sh", "-c", script], ["PATH=/bin:/usr/bin"], 0, '{"pid": ', "}", flags)


def put_into_group(records: Records, group: GroupBench, pid: int, **more: Any) -> None:
    """Make the record ``c1`` of a container with a group, and the process its first."""
    records.make(define=group.define(), **more)
    group.record, group.root = records.path, records.root
    group.ok(("CG_MAKE", 0, 0, ""), ("CG_ATTACH", 0, 0), pid=pid)
    records.live(pid)


def freeze(group: GroupBench) -> None:
    """Freeze the group, as pause does."""
    name, value = ("cgroup.freeze", "1") if group.version == 2 else ("freezer.state", "FROZEN")
    (group.directory / name).write_text(value)
