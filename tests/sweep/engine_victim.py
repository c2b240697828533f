"""A process that does one verb of the engine and meets a fault at a chosen moment of it.

A moment is a call that changes something or says something, found by an audit hook: files made, renamed or removed,
locks, packets to the keeper and the monitor, programs started, signals. Networks add mounts and netlink, images what is
written. The fault comes before the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from corral.errors import CorralError

CALLS = frozenset(
    (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.truncate",
        "os.posix_spawn",
        "subprocess.Popen",
        "os.kill",
        "socket.connect",
        "socket.sendmsg",
        "fcntl.flock",
    )
)
# What no audit hook tells of: (module, function) -> moment.
UNHEARD = {
    ("corral.network.namespaces", "mount"): "mount",
    ("corral.network.namespaces", "unmount"): "unmount",
    ("corral.network.links", "_ask"): "netlink",
}
# Whose moments are a network's: (module, function).
NETWORKING = tuple(("corral.engine.network", name) for name in ("attach", "detach", "join", "leave"))
# What writes content, in ``os`` and ``posix``: "disk.write" and the like.
WRITING = ("write", "pwrite", "fsync", "ftruncate", "fchmod")
HEARD = frozenset((*UNHEARD.values(), *(f"disk.{name}" for name in WRITING)))
VERB_S = 120.0
# Who is killed at a moment; "engine" is the process that does the verb.
VICTIMS = {
    "engine": ("engine",),
    "keeper": ("keeper",),
    "monitor": ("monitor",),
    "keeper and monitor": ("keeper", "monitor"),
    "all three": ("keeper", "monitor", "engine"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: at the moment ``at`` (from 1; 0: nowhere) ``victims`` die, or the call ends with ``errno``.

    ``failpoint``: for the executor of the monitor that the verb has spawned, at a step of the kind ``op``.
    ``plugin``: what the CNI plugin does that is called as the ``at``-th (engine_networks.PLUGIN).
    """

    name: str = "no fault"
    at: int = 0
    victims: tuple[str, ...] = ()
    errno: int = 0
    failpoint: str = ""
    op: str = ""
    plugin: str = ""

    @property
    def may_lose_the_end(self) -> bool:
        """Both who could see how init ended were killed: its code may be unknown, but never another one."""
        return {"keeper", "monitor"} <= set(self.victims)


NO_FAULT = Fault()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the process ended (negative: the signal), what the verb returned, or what it said instead."""

    code: int
    result: Any
    refusal: str
    trace: str
    moments: tuple[str, ...] = field(repr=False)
    steps: tuple[tuple[int, str, int, str], ...] = field(repr=False)
    # Numbers of the moments at which the engine was about a network.
    networking: frozenset[int] = field(repr=False, default=frozenset())


def processes_of(store: str, program: str) -> list[int]:
    """The pids of this store's keeper or monitors: the store's path in their command lines is nobody else's."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            is_named = os.path.basename(words[0]) == f"corral-{program}".encode()
            # A container's init looks like its monitor until it becomes its program.
            is_init = os.readlink(f"/proc/{name}/ns/pid") != os.readlink("/proc/self/ns/pid")
            if is_named and not is_init and any(word.startswith(store.encode()) for word in words[1:]):
                found.append(int(name))
    return found


class _Moments:
    def __init__(self, store: str, fault: Fault) -> None:
        self.store = store
        self.fault = fault
        self.seen: list[str] = []
        self.steps: list[tuple[int, str, int, str]] = []
        self.networking: set[int] = set()
        self.depth = 0
        self._is_busy = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        makes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if self._is_busy or not (event in CALLS or event in HEARD or makes):
            return
        self._is_busy = True
        try:
            self.meet(event)
        finally:
            self._is_busy = False

    def meet(self, event: str) -> None:
        """One moment: perhaps the last of somebody."""
        self.seen.append(event)
        if self.depth:
            self.networking.add(len(self.seen))
        if len(self.seen) != self.fault.at or self.fault.plugin:
            return
        for victim in self.fault.victims:
            pids = [os.getpid()] if victim == "engine" else processes_of(self.store, victim)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.fault.errno:
            raise OSError(self.fault.errno, os.strerror(self.fault.errno))

    def note(self, plan: Any) -> None:
        """Remember the steps of the first plan."""
        if not self.steps:
            self.steps = [(step.actor, step.op, step.flags, step.pointer) for step in plan]

    def stop(self) -> None:
        """Nothing is a moment from here on."""
        self._is_busy = True

    def watch(self, module: Any, name: str, event: str) -> None:
        """Have a call be a moment of which no audit hook tells; "" for one whose moments are a network's."""
        original: Callable[..., Any] = getattr(module, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if event:
                self.hook(event, ())
                return original(*arguments, **options)
            self.depth += 1
            try:
                return original(*arguments, **options)
            finally:
                self.depth -= 1

        setattr(module, name, watched)


def _prepare(moments: _Moments, *, is_writing: bool) -> None:
    """Have the plan noted, and the fault of the executor told to the monitor."""
    for (module, name), event in UNHEARD.items():
        moments.watch(import_module(module), name, event)
    for module, name in NETWORKING:
        moments.watch(import_module(module), name, "")
    for module in ("os", "posix") if is_writing else ():
        for name in WRITING:
            moments.watch(import_module(module), name, f"disk.{name}")
    execs: Any = import_module("corral.engine.execs")
    launching: Any = import_module("corral.engine.launching")
    session: Any = import_module("corral.runtime.session")
    prepare: Any = import_module("corral.runtime.prepare")
    encode, compile_programs = session.encode, prepare.compile_programs

    def noted(plan: Any) -> bytes:
        moments.note(plan)
        encoded: bytes = encode(plan)
        return encoded

    def noted_with_programs(job: Any, **rest: Any) -> Any:
        moments.note(job.plan)
        return compile_programs(job, **rest)

    session.encode, prepare.compile_programs = noted, noted_with_programs
    converse = launching.converse

    def faulty(places: Any, spec: dict[str, str], *rest: Any) -> int:
        if moments.fault.failpoint:
            spec = {**spec, "failpoint": moments.fault.failpoint}
        pid: int = converse(places, spec, *rest)
        return pid

    launching.converse = faulty
    execs.converse = faulty


def play(store: str, fault: Fault, action: Callable[[], Any], report: Path, *, is_writing: bool = False) -> Outcome:
    """Do ``action`` in a process of its own, with the fault. ``is_writing``: what is written is a moment as well.

    Raises: AssertionError when it does not end in time.
    """
    report.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _be_victim(_Moments(store, fault), action, report, is_writing=is_writing)
    code = _await(pid, VERB_S)
    said: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(
        code,
        said.get("result"),
        said.get("refusal", ""),
        said.get("trace", ""),
        tuple(said.get("moments", ())),
        tuple((step[0], step[1], step[2], step[3]) for step in said.get("steps", ())),
        frozenset(said.get("networking", ())),
    )


def _be_victim(moments: _Moments, action: Callable[[], Any], report: Path, *, is_writing: bool) -> None:
    said: dict[str, Any] = {}
    try:
        _prepare(moments, is_writing=is_writing)
        sys.addaudithook(moments.hook)
        try:
            said["result"] = action()
            moments.hook("os.kill", ())  # the moment after the last
        except (CorralError, OSError) as exc:
            # The command line says these in one line.
            said["refusal"] = str(exc)
        moments.stop()
        said |= {"moments": moments.seen, "steps": moments.steps, "networking": sorted(moments.networking)}
    except BaseException:
        said["trace"] = traceback.format_exc()
    finally:
        report.write_text(json.dumps(said, default=str))
        os._exit(1 if "trace" in said or "refusal" in said else 0)


def _await(pid: int, timeout_s: float) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        is_over = bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(pidfd)
    if not is_over:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert is_over, f"the verb did not end within {timeout_s:g} s"
    return os.waitstatus_to_exitcode(status)
