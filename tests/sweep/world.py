"""Where the sweep takes place: a private copy of the runtime, its faulty planner, bundles, and what is left of them."""

from __future__ import annotations

import atexit
import compileall
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from conformance import cgroups, rootfs
from conformance import spec as specs

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("CORRAL_RUNTIME", ROOT / "build/bin/corral-runtime"))
COMMAND_S = 60.0
SETTLE_S = 15.0
LAUNCHER = """#!{interpreter}
import sys
sys.path[:0] = [{library!r}]
import faulty_planner
faulty_planner.main({directory!r})
"""


@cache
def compiled_library() -> Path:
    """The package and the faulty planner where any user may read them, compiled, until this process ends."""
    library = Path(tempfile.mkdtemp(prefix="corral-sweep-library-", dir="/tmp"))
    library.chmod(0o755)
    atexit.register(shutil.rmtree, library)
    shutil.copytree(ROOT / "src/corral", library / "corral", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(Path(__file__).with_name("faulty_planner.py"), library / "faulty_planner.py")
    compileall.compile_dir(library, quiet=1)
    return library


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: exit code (negative: the signal), its words, and its line in ``--log``."""

    code: int
    out: str
    err: str
    log: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that are neither a hint nor a warning."""
        return [line for line in self.err.splitlines() if not line.startswith(("hint: ", "warning: "))]


@dataclass
class World:
    """One directory with all that the sweep uses. ``prefix`` is in the name of everything that it makes.

    ``user``: who runs the commands; ``wrapper``: a command before theirs; ``owner``: whose the rootfs is then.
    """

    path: Path
    prefix: str
    template: rootfs.Template
    user: int = 0
    wrapper: tuple[str, ...] = ()
    owner: int = 0
    allowed: frozenset[int] = frozenset()
    env: dict[str, str] = field(default_factory=dict)
    _count: int = 0
    _resident: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """The state root."""
        return self.path / "state"

    @property
    def runtime(self) -> Path:
        """The copy of corral-runtime."""
        return self.path / "bin/corral-runtime"

    def set_up(self) -> None:
        """Copy the runtime, and put the faulty planner beside it."""
        (self.path / "bin").mkdir(mode=0o755)
        shutil.copyfile(BUILT, self.runtime)
        self.runtime.chmod(0o755)
        launcher = self.runtime.with_name("corral-planner")
        text = LAUNCHER.format(
            interpreter=os.path.realpath(sys.executable), library=str(compiled_library()), directory=str(self.path)
        )
        launcher.write_text(text)
        launcher.chmod(0o755)
        trace = self.path / "trace.json"
        trace.touch()
        trace.chmod(0o666)

    def new_id(self) -> str:
        """An id that was never used."""
        self._count += 1
        return f"{self.prefix}-{self._count}"

    def make_bundle(self, name: str) -> Path:
        """A bundle without config.json; its rootfs is shared by all uses of this name."""
        path = self.path / name
        if not path.exists():
            path.mkdir(mode=0o755)
            self.template.copy_to(path / "rootfs")
            if self.user or self.owner:
                rootfs.chown_tree(path / "rootfs", self.user or self.owner, self.user or self.owner)
        return path

    def write_config(self, bundle: Path, spec: specs.Spec, name: str) -> None:
        """Write the config of one container, with a cgroup of its own below the sweep's."""
        config = json.loads(json.dumps(spec))
        if "cgroupsPath" in config["linux"]:
            config["linux"]["cgroupsPath"] = f"/{self.prefix}/{name}"
        (bundle / "config.json").write_text(json.dumps(config))

    def set_fault(self, text: str) -> None:
        """What the next planner does wrong; "" for nothing."""
        fault = self.path / "fault"
        if text:
            fault.write_text(text)
            fault.chmod(0o666)
        else:
            fault.unlink(missing_ok=True)

    def trace(self) -> dict[str, Any]:
        """What the planner wrote under the fault ``trace``."""
        read = json.loads((self.path / "trace.json").read_text())
        assert isinstance(read, dict)
        return read

    def argv(self, *args: str, global_args: tuple[str, ...] = ()) -> list[str]:
        """A command line of the runtime."""
        log = ["--log", str(self.path / "log"), "--log-format", "json"]
        return [*self.wrapper, str(self.runtime), "--root", str(self.root), *log, *global_args, *args]

    def start_planner(self) -> None:
        """Have a resident planner; commands find it until it is hidden."""
        socket = self.root / ".planner.sock"
        hidden = self.root / ".planner.hidden"
        if self._resident is not None and self._resident.poll() is None:
            if hidden.exists():
                hidden.rename(socket)
            return
        self.stop_planner()
        with (self.path / "planner.log").open("ab") as log:
            self._resident = subprocess.Popen(
                [str(self.runtime), "--root", str(self.root), "planner"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), **self.env},
                start_new_session=True,
                **self._identity(),
            )
        self.allowed |= {self._resident.pid}
        end = time.monotonic() + COMMAND_S
        while not socket.exists():
            assert self._resident.poll() is None, (self.path / "planner.log").read_text()
            assert time.monotonic() < end, "the resident planner does not listen"
            select.select([], [], [], 0.003)

    def hide_planner(self) -> None:
        """Let commands start a planner of their own."""
        socket = self.root / ".planner.sock"
        if socket.exists():
            socket.rename(self.root / ".planner.hidden")

    def stop_planner(self) -> None:
        """End the resident planner, if there is one."""
        if self._resident is None:
            return
        self._resident.terminate()
        self._resident.wait(COMMAND_S)
        self.allowed -= {self._resident.pid}
        self._resident = None
        for name in (".planner.sock", ".planner.hidden"):
            (self.root / name).unlink(missing_ok=True)

    def _identity(self) -> dict[str, Any]:
        return {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}

    def run(self, *args: str, failpoint: str = "", global_args: tuple[str, ...] = ()) -> Outcome:
        """Run a command to its end. Its streams are files: a container may hold them for longer."""
        log = self.path / "log"
        log.unlink(missing_ok=True)
        env = {"PATH": os.environ.get("PATH", ""), **self.env}
        if failpoint:
            env["CORRAL_FAILPOINT"] = failpoint
        with (self.path / "out").open("w+") as out, (self.path / "err").open("w+") as err:
            process = subprocess.Popen(
                self.argv(*args, global_args=global_args),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=self.path,
                start_new_session=True,
                **self._identity(),
            )
            try:
                code = process.wait(COMMAND_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError(f"no end within {COMMAND_S} s: {args} {failpoint}") from None
        said = [(self.path / name).read_text(errors="replace") for name in ("out", "err")]
        return Outcome(code, said[0], said[1], log.read_text() if log.exists() else "")

    def status(self, name: str) -> str:
        """The status of a container, "" if there is no such container."""
        shown = self.run("state", name)
        if shown.code == 0:
            return str(json.loads(shown.out)["status"])
        assert f"container {name!r}: container does not exist" in shown.err or "does not exist" in shown.err, shown
        return ""

    # ---- what is left -----------------------------------------------------------------------------------------

    def living(self) -> set[int]:
        """Our descendants that have not ended, without those that were there before."""
        return {pid for pid in descendants() - self.allowed if not _is_zombie(pid)}

    def settle(self, expected: int = 0) -> list[str]:
        """Wait until at most ``expected`` processes of ours are left and all dead are reaped. Returns those too many.

        A zombie that nobody reaps keeps the first process of its pid namespace from ending.
        """
        end = time.monotonic() + SETTLE_S
        while True:
            _reap(self.allowed)
            left = self.living()
            if len(left) <= expected and not descendants() - self.allowed - left:
                return []
            if time.monotonic() > end:
                return [f"process {pid} {_command(pid)}" for pid in sorted(left)] or ["a zombie"]
            select.select([], [], [], 0.003)

    def leftovers(self) -> list[str]:
        """What containers left behind, now that none should be there."""
        found = [f"cgroup {path}" for path in cgroups.find(self.prefix)]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if self.prefix in line or f" {self.path}/" in line]
        return found + [f"state {name}" for name in sorted(self.state_names())]

    def state_names(self) -> set[str]:
        """What stands in the state root, save for what belongs to no container."""
        if not self.root.exists():
            return set()
        kept = {".seccomp", ".planner.sock", ".planner.hidden"}
        names = set(os.listdir(self.root)) - kept
        parents = self.root / ".parents"
        if parents.is_dir():
            names.discard(".parents")
            names |= {f".parents/{name}" for name in os.listdir(parents)}
        return names

    def age_leftovers(self) -> None:
        """Make half-made records look old: gc spares those that somebody may be making just now."""
        for name in self.state_names():
            if name.startswith((".new-", ".dead-")):
                os.utime(self.root / name, (0, 0))

    def clean(self) -> None:
        """Whatever a point left behind must not spoil the next one."""
        self.set_fault("")
        self.stop_planner()
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.settle()
        cgroups.remove(f"/{self.prefix}")
        shutil.rmtree(self.root, ignore_errors=True)


def descendants() -> set[int]:
    """All processes below this one, zombies too."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int(Path(f"/proc/{name}/stat").read_bytes().rsplit(b")", 1)[1].split()[1])
                parents.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        for child in parents.get(pending.pop(), []):
            found.add(child)
            pending.append(child)
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def _reap(allowed: frozenset[int]) -> None:
    for pid in descendants() - allowed:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()}: {line[:200]}"
    return "?"
