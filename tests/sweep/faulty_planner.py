"""A planner that dies, fails or kills its front at a chosen moment. Runs in the place of Corral's own launcher.

What to do is read from the file ``fault`` of a directory at the start of each request:

- ``trace``: nothing goes wrong; the plan, the programs and the moments are written to ``trace.json``.
- ``ACTION N``: at the Nth moment ``kill`` or ``stop`` this process, ``kill-front``, or ``errno`` (an OSError).
- ``ACTION N once``: the same, and the next planner is a sound one.

A moment is a call that changes something or says something (found by an audit hook), and the beginning and the end
of each message of the front. Imports only what the cold path has anyway, save for the trace.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

CALLS = frozenset(("os.mkdir", "os.rename", "os.remove", "os.rmdir", "socket.sendmsg", "fcntl.flock"))
O_CREAT = os.O_CREAT


class Faults:
    """The chosen moment of one process, and what was seen until now."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.action = ""
        self.at = 0
        self.is_once = False
        self.moments: list[str] = []
        self.front = 0
        self.is_armed = False
        self.traced: dict[str, Any] = {"plan": [], "programs": {}}

    def read(self) -> None:
        """Begin a request: look up what is to go wrong in it."""
        self.moments = []
        self.action, self.at, self.is_once = "", 0, False
        try:
            with open(f"{self.directory}/fault", encoding="ascii") as file:
                words = file.read().split()
        except FileNotFoundError:
            return
        self.action = words[0] if words else ""
        self.at = int(words[1]) if len(words) > 1 else 0
        self.is_once = "once" in words

    def meet(self, name: str) -> None:
        """One moment: perhaps the last."""
        self.moments.append(name)
        if len(self.moments) != self.at:
            return
        if self.is_once:
            os.truncate(f"{self.directory}/fault", 0)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.action == "kill-front" and os.getppid() == self.front:
            # Only while it is our parent: after that, the number may be another's.
            os.kill(self.front, signal.SIGKILL)
        elif self.action == "errno":
            raise OSError(5, "Input/output error")

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        if not self.is_armed:
            return
        if event in CALLS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & O_CREAT):
            self.meet(event)

    def write_trace(self) -> None:
        """Tell what a run without faults went through."""
        if self.action != "trace":
            return
        import json

        self.traced["moments"] = self.moments
        with open(f"{self.directory}/trace.json", "r+", encoding="ascii") as file:
            file.truncate()
            json.dump(self.traced, file)


def _steps(plan: Any) -> list[tuple[int, str, int, str]]:
    return [(step.actor, step.op, step.flags, step.pointer) for step in plan]


def _watch_plans(faults: Faults) -> None:
    from importlib import import_module

    prepare: Any = import_module("corral.runtime.prepare")
    session: Any = import_module("corral.runtime.session")

    compile_programs, encode = prepare.compile_programs, session.encode

    def traced_programs(*args: Any, **keywords: Any) -> Any:
        programs = compile_programs(*args, **keywords)
        faults.traced["programs"] = {name: _steps(plan) for name, plan in programs.items()}
        faults.traced["plan"] = _steps(args[0].plan)
        return programs

    def traced_encode(plan: Any) -> bytes:
        faults.traced["plan"] = _steps(plan)
        encoded: bytes = encode(plan)
        return encoded

    prepare.compile_programs = traced_programs
    session.encode = traced_encode


def main(directory: str) -> None:
    """Be the launcher, with the faults of ``directory``."""
    from corral.linux.sockets import peer_credentials
    from corral.runtime.session import REQUEST, Session

    faults = Faults(directory)
    faults.read()
    if faults.action == "trace":
        _watch_plans(faults)
    handle = Session._handle

    def faulty_handle(self: Session, header: tuple[int, int, int, int], *rest: Any) -> None:
        kind = header[0]
        if kind == REQUEST:
            faults.read()
            faults.front = peer_credentials(self._socket)[0]
        faults.is_armed = True
        # Only what the session itself does may raise: the message loop is not its business.
        if faults.action == "errno":
            faults.moments.append(f"message {kind}")
        else:
            faults.meet(f"message {kind}")
        handle(self, header, *rest)
        if faults.action == "errno":
            faults.moments.append(f"after message {kind}")
        else:
            faults.meet(f"after message {kind}")
        faults.is_armed = False
        faults.write_trace()

    Session._handle = faulty_handle  # type: ignore[assignment,method-assign]
    sys.addaudithook(faults.hook)
    from corral._boot import main as boot

    boot(sys.argv[1:])
