"""Drives the front, corral-runtime, with a planner made for the test instead of Corral's own.

A scenario is the body of a Python script; around it stand the functions of PRELUDE. It runs where the planner runs:
as a cold child of the front, or, with ``resident``, behind the state root's socket.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
OUT = ROOT / "build" / "native-front"

# FRONT_MODE
DETACH, TTY, KEEP, NO_SUBREAPER, CREATE, EXEC = 1, 2, 4, 8, 16, 32
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NEWTIME, NEWCGROUP = 0x80, 0x2000000

PRELUDE = f"""
import array, fcntl, os, socket, struct, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from corral.runtime import wire
from corral.runtime.plan import FRONT, INIT, STAGE, Plan

HERE = os.path.dirname(os.path.abspath(__file__))
CHANNEL = [None]

def receive():
    data, extra, _, _ = CHANNEL[0].recvmsg(70000, 256)
    fds = [fd for _, _, raw in extra for fd in array.array("i", raw)]
    kind, step, error, value = struct.unpack("<IIiI", data[:16]) if data else (0, 0, 0, 0)
    return kind, step, error, value, data[16:], fds

def send(kind, data=b"", value=0, fds=()):
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    CHANNEL[0].sendmsg([struct.pack("<IIiI", kind, 0, 0, value) + data], extra)

def request():
    kind, _, _, _, _, fds = receive()
    assert kind == 32, kind
    text = os.pread(fds[0], 1 << 20, 0)
    os.close(fds[0])
    return [item.decode() for item in text.split(b"\\0")[:-1]]

def memfd(data):
    fd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, 1033, 15)
    return fd

def build(steps):
    plan = Plan()
    for actor, op, *args in steps:
        pointer = args.pop() if args and isinstance(args[-1], dict) else {{}}
        plan.add({{"front": FRONT, "stage": STAGE, "init": INIT}}[actor], op, *args, **pointer)
    return wire.encode(plan)

def answer(steps, *fds):
    send(48, fds=[memfd(build(steps)), *fds])

def run(*argv, env=(), find=True):
    look = [("init", "FIND_PROGRAM", argv[0], "/bin:/usr/bin")]
    return [*look, ("init", "EXEC", list(argv), ["PATH=/bin:/usr/bin", *env], 0)]

def sync(name):
    return ("init", "SYNC", name)

def serve(message=b"", hint=b"", commit=1):
    # Answer READY and FAILED until the front is gone; returns the events.
    events = []
    while True:
        event = receive()
        if event[0] == 0:
            return events
        events.append(event)
        if event[0] == 36:
            send(53, message + b"\\0" + hint + b"\\0", commit)
        elif event[0] == 37:
            send(53, b"\\0" + hint + b"\\0", 0)

def make_record(root, name, plans=()):
    os.makedirs(f"{{root}}/{{name}}", 0o700)
    for file in ("journal", "owner.lock"):
        open(f"{{root}}/{{name}}/{{file}}", "w").close()
    for file, steps in plans:
        with open(f"{{root}}/{{name}}/{{file}}.plan", "wb") as out:
            out.write(build(steps))
    lock = os.open(f"{{root}}/{{name}}/owner.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return os.open(f"{{root}}/{{name}}", os.O_RDONLY | os.O_DIRECTORY), lock

def open_channel():
    if "--planner-fd=3" in sys.argv:
        CHANNEL[0] = socket.socket(fileno=3)
        return True
    return False
"""

COLD = """
if not open_channel():
    print("python", *sys.argv[1:])
    sys.exit(0)
"""

RESIDENT = """
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen(8)
CHANNEL[0] = listener.accept()[0]
"""

BIRTH = f'("front", "FRONT_MODE", {EXEC}, 0), ("front", "SPAWN", {NEWPID | NEWNS}, -1), sync("birth"),'


@functools.cache
def build_front() -> Path:
    """corral-runtime with ASan and UBSan."""
    command = [sys.executable, str(ROOT / "native" / "build.py"), "--sanitize", "--out", str(OUT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return OUT / "corral-runtime"


class Result:
    """How the front ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err.strip()


class Front:
    """An installation of its own: the front, a launcher with a scenario in it, a state root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.root = folder / "root"
        self.launcher = self.bin / "corral-planner"
        self.failpoint = ""
        self.bin.mkdir()
        self.root.mkdir(mode=0o700)
        shutil.copy(build_front(), self.bin / "corral-runtime")

    def scenario(self, body: str) -> None:
        """Make ``body`` what the cold planner does."""
        self.launcher.write_text(f"#!{sys.executable}\n" + PRELUDE + COLD + textwrap.dedent(body))
        self.launcher.chmod(0o755)

    def plan(self, steps: str, more: str = "") -> None:
        """Make the cold planner answer with the steps of this Python text, after the birth of init."""
        self.scenario(f"{more}\nrequest()\nanswer([{BIRTH} {steps}])\nserve(hint=b'the hint')\n")

    def resident(self, body: str) -> subprocess.Popen[bytes]:
        """Start a resident planner for one request; the caller ends it."""
        script = self.folder / "resident.py"
        script.write_text(PRELUDE + RESIDENT + textwrap.dedent(body))
        socket_path = self.root / ".planner.sock"
        process = subprocess.Popen([sys.executable, str(script), str(socket_path)])
        wait_until(socket_path.exists)
        return process

    def command(self, *arguments: str) -> list[str]:
        """The command line of the front."""
        return [str(self.bin / "corral-runtime"), "--root", str(self.root), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """What the front's environment is."""
        simulated = {"CORRAL_FAILPOINT": self.failpoint} if self.failpoint else {}
        return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **simulated, **more}

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Run the front to its end."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the front and leave it running."""
        return subprocess.Popen(self.command(*arguments), env=self.environment(), cwd=self.folder, text=True, **options)


def wait_until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Poll until ``condition`` holds; the test fails when it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
