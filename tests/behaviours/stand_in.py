"""A stand-in systemd for the real binary: it makes scopes as systemd does, in this host's hierarchies, or misbehaves.

The runtime finds it where it looks for systemd, below /run, in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import cgroups, residents
from unit.cgroup.fake_bus import FakeSystemd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.harness import Bundle, Runtime

__all__ = ["ActingSystemd", "hide_systemd", "look_for"]

# What systemd enables, or makes directories in, for a delegated unit.
_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "io", "blkio", "devices")
QUOTED = '"$@"'
_SCRIPT = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd{folder} && ln -s {socket} /run/systemd/private"


class ActingSystemd(FakeSystemd):
    """Starts scopes for true: directories, and the processes in them. A scope that became empty is removed."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._trimmer = threading.Thread(target=self._trim_for_ever)
        # Until it is told otherwise, an empty scope is noticed at once.
        self.notices_empty_scopes = True
        super().__init__(path)
        self._trimmer.start()
        self.slice = f"corraltest{os.getpid()}.slice"
        self.control_group = f"/{self.slice}/{{name}}"

    def place(self, bundle: Bundle, name: str) -> str:
        """Ask for a scope of this name; its unit."""
        bundle.linux["cgroupsPath"] = f"{self.slice}:ct:{name}"
        return f"ct-{name}.scope"

    def directories(self, unit: str) -> list[Path]:
        """Where a unit's group is, or would be: the hierarchy that tracks it first."""
        mounted = cgroups.hierarchies()
        tracking = mounted.get("", mounted.get("name=systemd"))
        assert tracking is not None
        tops = [tracking, *(mounted[name] for name in _CONTROLLERS if name in mounted)]
        return [top / self.slice / unit for top in dict.fromkeys(tops)]

    def close(self) -> None:
        """Remove the slice, whose units have ended by now."""
        super().close()
        self._is_over.set()
        self._trimmer.join()
        cgroups.remove(f"/{self.slice}")

    def _trim_for_ever(self) -> None:
        while not self._is_over.wait(0.02):
            with self._lock:
                active = [name for name, state in self.units.items() if state == "active"]
                for unit in active if self.notices_empty_scopes else ():
                    if not _processes(self.directories(unit)[0]):
                        cgroups.remove(f"/{self.slice}/{unit}")
                        del self.units[unit]

    def _on_StartTransientUnit(self, name: str, mode: str, properties: Any, aux: Any) -> tuple[str, tuple[Any, ...]]:
        with self._lock:
            answer = super()._on_StartTransientUnit(name, mode, properties, aux)
            for directory in self.directories(name) if self.units[name] == "active" else ():
                directory.mkdir(parents=True, exist_ok=True)
                for pid in self.properties[name]["PIDs"]:
                    (directory / "cgroup.procs").write_text(str(pid))
        return answer

    def _on_StopUnit(self, name: str, mode: str) -> tuple[str, tuple[Any, ...]]:
        answer = super()._on_StopUnit(name, mode)
        for directory in self.directories(name):
            for pid in _processes(directory):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 15)
        return answer


def _processes(directory: Path) -> list[int]:
    # The runtime removes groups meanwhile.
    found = cgroups.processes(directory)
    for below in cgroups.walk(str(directory), 1):
        found += cgroups.processes(Path(below))
    return found


def look_for(runtime: Runtime, systemd: FakeSystemd) -> None:
    """Let the runtime's commands find ``systemd`` as the system's."""
    _use(runtime, _SCRIPT.format(folder="/system", socket=systemd.path))


def hide_systemd(runtime: Runtime) -> None:
    """Let them find a host that systemd does not run."""
    _use(runtime, _SCRIPT.format(folder="", socket="/nowhere"))


def _use(runtime: Runtime, script: str) -> None:
    runtime.prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{script} && exec {QUOTED}", "sh"]
    runtime.global_args = ["--systemd-cgroup"]


@contextlib.contextmanager
def resident(runtime: Runtime) -> Iterator[None]:
    """Let one planner serve the runtime's commands: all in one mount namespace, which is what ``look_for`` asks for."""
    *_, script, _ = runtime.prefix
    hold = f"{script.removesuffix(' && exec ' + QUOTED)} && echo ready && exec sleep 1000"
    room = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", hold], stdout=subprocess.PIPE)
    assert room.stdout is not None
    assert room.stdout.readline() == b"ready\n"
    runtime.prefix = ["nsenter", "-t", str(room.pid), "-m", "--"]
    try:
        with residents.resident_planner(runtime):
            yield
    finally:
        room.kill()
        room.wait()
        room.stdout.close()


@contextlib.contextmanager
def acting(folder: Path) -> Iterator[ActingSystemd]:
    """One that listens in ``folder``."""
    systemd = ActingSystemd(folder / "systemd.sock")
    try:
        yield systemd
    finally:
        systemd.close()
