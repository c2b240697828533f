"""A store with containers under real keepers and monitors, without the rest of the engine."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from conformance import rootfs
from conformance.spec import Spec, base_spec
from corral.engine.keeper import Keeper, Monitor, has_keeper, monitor_pid_or_none
from corral.engine.places import Places
from corral.linux.sockets import seqpacket_pair
from corral.runtime.prepare import Surroundings
from corral.runtime.session import Session
from native.install import run

DEADLINE_S = 20.0
T = TypeVar("T")


def wait_until(holds: Callable[[], T], what: str) -> T:
    """Poll until ``holds`` returns something true, and return that."""
    end = time.monotonic() + DEADLINE_S
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")
        select.select([], [], [], 0.005)


def is_gone(pid: int) -> bool:
    """No such process, or a zombie that somebody else has to reap."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def parse_cri(text: str) -> list[tuple[str, str, str]]:
    """(stream, tag, text) of each record."""
    rows = []
    for line in text.splitlines():
        _, stream, tag, *rest = line.split(" ", 3)
        rows.append((stream, tag, rest[0] if rest else ""))
    return rows


def output_of(rows: list[tuple[str, str, str]], stream: str = "stdout") -> str:
    """What the process wrote."""
    return "".join(text + ("\n" if tag == "F" else "") for name, tag, text in rows if name == stream)


class Bench:
    """Makes containers ``c1`` ...; ``programs`` is the folder of the native programs."""

    def __init__(self, folder: Path, mark: str, programs: Path, template: rootfs.Template) -> None:
        self.places = Places(str(folder / "store"))
        self.places.prepare()
        self.folder = folder
        self.mark = mark
        self.programs = programs
        self.template = template
        self.made: list[str] = []

    # ---- life ----

    def create(self, args: list[str], change: Callable[[Spec], None] | None = None, **keys: str) -> str:
        """A created container; ``keys`` of the monitor's spec."""
        container_id = f"c{len(self.made) + 1}"
        session = self.begin(container_id, args, change, **keys)
        assert session.refusal is None, session.refusal
        return container_id

    def begin(
        self, container_id: str, args: list[str], change: Callable[[Spec], None] | None = None, **keys: str
    ) -> Session:
        """The whole conversation of a create."""
        self.write_bundle(container_id, args, change, is_terminal=keys.get("terminal") == "1")
        words = ["create", "--bundle", self.places.bundle(container_id), container_id]
        return self.converse(self.spec(container_id, **keys), words)

    def write_bundle(
        self, container_id: str, args: list[str], change: Callable[[Spec], None] | None, *, is_terminal: bool
    ) -> None:
        bundle = Path(self.places.bundle(container_id))
        if not bundle.exists():
            bundle.mkdir(parents=True)
            self.template.copy_to(bundle / "rootfs")
            Path(self.places.container(container_id)).mkdir()
            self.made.append(container_id)
        spec = base_spec()
        spec["process"]["args"] = args
        spec["process"]["terminal"] = is_terminal
        spec["linux"]["cgroupsPath"] = f"/{self.mark}/{container_id}"
        if change is not None:
            change(spec)
        (bundle / "config.json").write_text(json.dumps(spec))

    def spec(self, container_id: str, **keys: str) -> dict[str, str]:
        """The monitor's."""
        return {
            "id": container_id,
            "dir": self.places.container(container_id),
            "run": self.places.container_run(container_id),
            "runtime_root": self.places.runtime_root,
            "command": str(self.hook()),
            "runs": "1",
            "log": "cri",
            **keys,
        }

    def hook(self) -> Path:
        """The engine's command: it writes its arguments to the file ``called``."""
        path = self.folder / "hook"
        if not path.exists():
            path.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/called\n')
            path.chmod(0o755)
        return path

    def called(self) -> list[str]:
        """The calls of the engine's command."""
        path = self.folder / "called"
        return path.read_text().splitlines() if path.exists() else []

    def converse(self, spec: dict[str, str], words: list[str]) -> Session:
        """Spawn a monitor and be its planner."""
        ours, theirs = seqpacket_pair()
        try:
            with self.keeper() as keeper:
                try:
                    pid = keeper.spawn(spec, theirs.fileno())
                finally:
                    theirs.close()
            session = Session(ours, pid)
            session.begin(
                ["--root", self.places.runtime_root, "--cgroup-manager=cgroupfs", *words], Surroundings("/", {})
            )
            while not session.is_over:
                session.receive()
        finally:
            ours.close()
        return session

    def exec(self, container_id: str, args: list[str], exec_id: str = "e1", **keys: str) -> Session:
        """A further process; its files are in ``exec_folder``."""
        folder = self.exec_folder(container_id, exec_id)
        folder.mkdir(parents=True)
        process = base_spec()["process"] | {"args": args, "terminal": keys.get("terminal") == "1"}
        (folder / "process.json").write_text(json.dumps(process))
        spec = self.spec(container_id, exec=exec_id, dir=str(folder), run=str(folder), **keys)
        return self.converse(spec, ["exec", "--process", str(folder / "process.json"), container_id])

    def exec_folder(self, container_id: str, exec_id: str = "e1") -> Path:
        return Path(self.places.exec_run(container_id, exec_id))

    def start(self, container_id: str) -> None:
        with self.monitor(container_id) as monitor:
            monitor.start()

    def run(self, args: list[str], change: Callable[[Spec], None] | None = None, **keys: str) -> str:
        """Create and start."""
        container_id = self.create(args, change, **keys)
        self.start(container_id)
        return container_id

    # ---- looking ----

    def keeper(self) -> Keeper:
        return Keeper.open(self.places)

    def monitor(self, container_id: str) -> Monitor:
        return Monitor.connect(self.places.container_run(container_id))

    def monitor_of(self, folder: Path) -> Monitor:
        """Of an exec; waits for it."""
        wait_until((folder / "monitor.sock").exists, f"a monitor in {folder}")
        return Monitor.connect(str(folder))

    def monitor_pid(self, container_id: str) -> int:
        """Of the monitor that answers; waits for it."""
        return wait_until(
            lambda: monitor_pid_or_none(self.places.container_run(container_id)) or 0, f"a monitor of {container_id}"
        )

    def keeper_pid(self) -> int:
        """Of the keeper that answers; waits for it."""
        wait_until(lambda: has_keeper(self.places), "a keeper")
        return wait_until(lambda: int(Path(self.places.run, "keeper.lock").read_text() or 0), "the keeper's pid")

    def init_pid(self, container_id: str) -> int:
        return int(Path(self.places.record(container_id), "live").read_text().split()[0])

    def wait_exit(self, container_id: str) -> dict[str, Any]:
        """The exit record, from its file."""
        return self.wait_record(Path(self.places.container(container_id)))

    def wait_record(self, folder: Path) -> dict[str, Any]:
        wait_until((folder / "exit").exists, f"an exit in {folder}")
        found: dict[str, Any] = json.loads((folder / "exit").read_text())
        return found

    def wait_monitor_gone(self, container_id: str) -> None:
        run_folder = Path(self.places.container_run(container_id))
        wait_until(lambda: not (run_folder / "monitor.spec").exists(), f"the end of the monitor of {container_id}")

    def wait_nothing_kept(self) -> None:
        """Until the keeper has no monitor any more."""

        def keeps_nothing() -> bool:
            with self.keeper() as keeper:
                return not keeper.list()

        wait_until(keeps_nothing, "a keeper without monitors")

    def log(self, container_id: str) -> list[tuple[str, str, str]]:
        """The records of its log in the CRI's format, over all rotated files."""
        folder = Path(self.places.container(container_id))
        files = sorted(folder.glob("log*"), key=lambda path: -int(path.suffix[1:] or 0) if path.suffix else 0)
        return parse_cri("".join(path.read_bytes().decode("utf-8", "surrogateescape") for path in files))

    # ---- end ----

    def close(self) -> None:
        """Kill what runs, delete what was made, end the keeper."""
        for container_id in self.made:
            command = [str(self.programs / "corral-runtime"), "--root", self.places.runtime_root]
            if Path(self.places.record(container_id)).exists():
                run(*command, "delete", "--force", container_id)
        with contextlib.suppress(FileNotFoundError):
            for container_id in self.made:
                self.wait_monitor_gone(container_id)
        self.end_keeper()
        self._remove_groups()

    def end_keeper(self) -> None:
        """Wait until nothing is left for it to do, then end it."""
        if not has_keeper(self.places):
            return
        pid = self.keeper_pid()
        wait_until(self._is_shut_down, "nothing left for the keeper to do")
        wait_until(lambda: is_gone(pid), "the keeper's end")

    def _is_shut_down(self) -> bool:
        from corral.errors import CorralError

        try:
            with self.keeper() as keeper:
                keeper.shut_down()
        except CorralError:
            return False
        return True

    def groups(self) -> list[str]:
        """The test's cgroups that are there."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        parts = [line.partition(" - ") for line in lines]
        mounts = [left.split(" ", 5)[4] for left, _, right in parts if right.split(" ", 1)[0] in ("cgroup", "cgroup2")]
        return [f"{mount}/{self.mark}" for mount in mounts if os.path.isdir(f"{mount}/{self.mark}")]

    def _remove_groups(self) -> None:
        for group in self.groups():
            with contextlib.suppress(OSError):
                os.rmdir(group)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
