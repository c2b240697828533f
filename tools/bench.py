"""``make bench``: what containers cost with Corral, runc, crun, and with the kernel alone.

Three operations: ``run`` of true; the five calls create, start, state, kill, delete; ``exec`` of true. All candidates
take turns in one run, in a new random order each round, so that a slow moment of the machine hits all of them. Printed
are medians of wall time, CPU time of all processes that worked for the call, the peak memory of the largest, and ratios
to this system's runc, each ratio taken within its round. Nothing here passes or fails. Needs root.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "native"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import bench_report, peers

import build as native_build

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
CGROUP_ROOT = Path("/sys/fs/cgroup")
GROUP = f"corral-bench-{os.getpid()}"
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class Candidate:
    """A runtime's command line; its resident planner, if it has one; and what was measured of it per operation."""

    name: str
    command: list[str]
    root: Path
    planner: subprocess.Popen[bytes] | None = None
    costs: dict[str, list[bench_report.Cost]] = field(default_factory=dict)


def run_time_ns(pid: int) -> int:
    """Nanoseconds that the first thread of a process has spent on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def timed(command: list[str], planner: subprocess.Popen[bytes] | None = None) -> bench_report.Cost:
    """Run one command to its end and say what it took, ``planner``'s work included; a non-zero exit is an error."""
    before = run_time_ns(planner.pid) if planner else 0
    # A file, not a pipe: the container keeps standard error open.
    with open(WORK / "stderr", "w+") as stderr:
        result = subprocess.run(
            [str(WORK / "measure"), *command], stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60
        )
        stderr.seek(0)
        if result.returncode != 0 or result.stdout.split()[3:] != ["0"]:
            raise RuntimeError(f"{' '.join(command)}: {stderr.read().strip()}")
    wall_ns, cpu_us, peak_kib, _status = map(int, result.stdout.split())
    extra = (run_time_ns(planner.pid) - before) / 1e9 if planner else 0.0
    return bench_report.Cost(wall_ns / 1e9, cpu_us / 1e6 + extra, peak_kib)


class Bench:
    """One rootfs, one bundle per program, and the operations."""

    def __init__(self, state: Path) -> None:
        self.serial = 0
        self.state = state
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        for name in ("measure", "floor", "enter"):
            native_build.build_single(ROOT / "tools" / f"{name}.c", WORK / name)
        self.sleeper = self._bundle("sleeper", ["/bin/sleep", "600"])
        self.quick = self._bundle("quick", ["/bin/true"])

    def _bundle(self, name: str, arguments: list[str]) -> Path:
        bundle = WORK / name
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (bundle / "rootfs" / folder).mkdir(parents=True)
        busybox = shutil.which("busybox")
        if busybox is None:
            raise SystemExit("bench: busybox is not there: install the package busybox-static")
        shutil.copy2(busybox, bundle / "rootfs" / "bin" / "busybox")
        for applet in ("true", "sleep"):
            (bundle / "rootfs" / "bin" / applet).symlink_to("busybox")
        subprocess.run([corral(), "spec"], cwd=bundle, check=True)
        config = bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["process"].update({"terminal": False, "args": arguments})
        spec["ociVersion"] = "1.0.2"  # older runtimes refuse newer ones
        spec["linux"]["resources"].update({"memory": {"limit": 64 << 20}, "pids": {"limit": 64}})
        config.write_text(json.dumps(spec))
        return bundle

    def candidate(self, name: str, command: list[str]) -> Candidate:
        """A candidate with a state root of its own, and a planner there if it is a resident one."""
        root = self.state / name.replace(" ", "-").replace(",", "")
        root.mkdir(parents=True)
        found = Candidate(name, command, root)
        if "resident" in name:
            start_planner(found)
        return found

    def prepare(self, candidate: Candidate, bundle: Path) -> tuple[list[str], str]:
        """The command's beginning and a fresh id; the bundle gets that id's own cgroup."""
        self.serial += 1
        name = f"{GROUP}-{self.serial}"
        config = bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["linux"]["cgroupsPath"] = f"/{GROUP}/{name}"
        config.write_text(json.dumps(spec))
        return [*candidate.command, "--root", str(candidate.root)], name

    def run(self, candidate: Candidate) -> bench_report.Cost:
        """``run`` of true, from nothing to nothing."""
        start, name = self.prepare(candidate, self.quick)
        return timed([*start, "run", "--bundle", str(self.quick), name], candidate.planner)

    def five_calls(self, candidate: Candidate) -> bench_report.Cost:
        """create, start, state, kill, delete, as conmon and a shim call them."""
        start, name = self.prepare(candidate, self.sleeper)
        total, pid_file = bench_report.Cost(), WORK / f"{name}.pid"
        create = ["create", "--bundle", str(self.sleeper), "--pid-file", str(pid_file), name]
        for words in (create, ["start", name], ["state", name], ["kill", name, "KILL"]):
            total.add(timed([*start, *words], candidate.planner))
        pid = int(pid_file.read_text())
        total.cpu_s += run_time_ns(pid) / 1e9
        # The caller reaps init, which is its child now; the wait is the kernel's, not the runtime's.
        os.waitpid(pid, 0)
        total.add(timed([*start, "delete", name], candidate.planner))
        pid_file.unlink()
        return total

    def exec_true(self, candidate: Candidate) -> bench_report.Cost:
        """``exec`` of true in a container that runs already."""
        start, name = self.prepare(candidate, self.sleeper)
        pid_file = WORK / f"{name}.pid"
        timed([*start, "create", "--bundle", str(self.sleeper), "--pid-file", str(pid_file), name])
        timed([*start, "start", name])
        try:
            return timed([*start, "exec", name, "/bin/true"], candidate.planner)
        finally:
            timed([*start, "kill", name, "KILL"])
            os.waitpid(int(pid_file.read_text()), 0)
            timed([*start, "delete", name])
            pid_file.unlink()

    def floor(self, candidate: Candidate) -> bench_report.Cost:
        """The kernel's own part: tools/floor.c on the same rootfs, with a cgroup in the same hierarchies."""
        self.serial += 1
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mounted = [line.split()[4] for line in lines if " - cgroup" in line]
        groups = sorted(
            {
                f"{point}/{GROUP}-{self.serial}"
                for point in mounted
                if not Path(point).is_symlink() and "cpuset" not in point
            }
        )
        return timed([*candidate.command, str(self.quick / "rootfs"), *groups])


def corral() -> str:
    """The installed runtime: what users have, with its modules in one file."""
    program = ROOT / ".venv" / "bin" / "corral-runtime"
    if not program.exists():
        raise SystemExit("bench: corral is not installed: make install")
    return str(program)


def state_folder() -> Path:
    """Where all candidates keep their state: in memory, as /run is on every installed system."""
    for place in (Path("/run"), Path("/dev/shm")):
        kind = subprocess.run(["stat", "-f", "-c", "%T", place], capture_output=True, text=True).stdout.strip()
        if kind == "tmpfs":
            return place / GROUP
    return WORK / "state"


def start_planner(candidate: Candidate) -> None:
    """Start the candidate's resident planner and wait until it listens."""
    candidate.planner = subprocess.Popen([*candidate.command, "--root", str(candidate.root), "planner"])
    until = time.monotonic() + 10
    while not (candidate.root / ".planner.sock").exists():
        if time.monotonic() > until or candidate.planner.poll() is not None:
            raise SystemExit("bench: the planner does not listen")
        time.sleep(0.01)


def stop_planner(candidate: Candidate) -> None:
    """End the candidate's planner, if it has one."""
    if candidate.planner is not None:
        candidate.planner.terminate()
        candidate.planner.wait()


def version_of(command: list[str]) -> str:
    """The version that a runtime prints first."""
    text = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    return next((word for word in text.split() if word[:1].isdigit()), "")


def find_commands(enter: Path, rooms: list[peers.Room], added: list[str]) -> dict[str, list[str]]:
    """Names and command lines of all runtimes of this machine and, with PEERS=1, of a newer suite; fills ``rooms``."""
    commands = {"corral, cold": [corral()], "corral, resident": [corral()]}
    newer = os.environ.get("PEERS", "") not in ("", "0")
    folder = peers.fetch(ROOT / "build" / "peers" / peers.SUITE) if newer else None
    unified = CGROUP_ROOT / "unified"
    # crun refuses a hybrid host whose v2 hierarchy has controllers: let it see the v1 ones alone.
    hide = (
        [f"umount {unified}"]
        if unified.is_mount() and unified.joinpath("cgroup.controllers").read_text().strip()
        else []
    )
    for name, wishes in (("runc", []), ("crun", hide)):
        path = shutil.which(name) or ""
        places = [(path, wishes)] if path else []
        if folder is not None:
            places.append((peers.program_of(folder, name), [peers.libraries_of(folder), *wishes]))
        for program, script in places:
            command = [program]
            if script:
                rooms.append(peers.Room(enter, *script))
                command = rooms[-1].command(program)
            commands[f"{name} {version_of(command)}{', v1 only' * bool(wishes)}"] = command
    return commands | {name: [path] for name, _, path in (text.partition("=") for text in added)}


def find_candidates(bench: Bench, commands: dict[str, list[str]], found: list[Candidate]) -> list[str]:
    """Fill ``found`` with all runtimes that can run a container on this machine; say why the others cannot."""
    absent = []
    for name, command in commands.items():
        candidate = bench.candidate(name, command)
        try:
            bench.run(candidate)
            found.append(candidate)
        except RuntimeError as error:
            stop_planner(candidate)
            absent.append(f"{name}: {str(error).rpartition(': ')[2].splitlines()[-1][:160]}")
    return absent


def measure(bench: Bench, candidates: list[Candidate], floor: Candidate, *, rounds: int, seed: int) -> None:
    """Let all candidates take turns."""
    order = random.Random(seed)
    turns: list[tuple[str, Candidate, Callable[[Candidate], bench_report.Cost]]] = [("run", floor, bench.floor)]
    for item in candidates:
        turns += [("run", item, bench.run), ("five calls", item, bench.five_calls), ("exec", item, bench.exec_true)]
    for number in range(rounds + 2):
        order.shuffle(turns)
        for label, item, operation in turns:
            cost = operation(item)
            # The first two rounds warm the page cache.
            if number >= 2:
                item.costs.setdefault(label, []).append(cost)


def remove_groups() -> None:
    """Remove the benchmark's cgroups, and kill what an interrupted run left in them."""
    for parent in (CGROUP_ROOT / GROUP, *CGROUP_ROOT.glob(f"*/{GROUP}")):
        for group in (*parent.glob("*/cgroup.procs"), *parent.glob("cgroup.procs")):
            for pid in map(int, group.read_text().split()):
                os.kill(pid, signal.SIGKILL)
                # An orphan became this process's child; a fresh zombie still counts as a member.
                os.waitpid(pid, 0)
            group.parent.rmdir()


def machine(rounds: int, load_before: str, load_after: str, state: Path) -> str:
    """One line about where and how this was measured."""
    here = (
        f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    return f"{here}; {rounds} rounds; state in {state.parent}; load average {load_before} before, {load_after} after."


def load_average() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def main() -> int:
    """Command line: ``--rounds``, ``--seed``, ``--add NAME=PATH``, ``--write FILE``; PEERS=1 fetches newer peers."""
    parser = argparse.ArgumentParser(description="measure what containers cost")
    parser.add_argument("--rounds", type=int, default=40, help="measured rounds, after two to warm up")
    parser.add_argument("--seed", type=int, default=1, help="of the order within rounds")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=PATH", help="one more runtime")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the results between the marks in this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers with cgroups of their own need root")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    load_before, state = load_average(), state_folder()
    bench = Bench(state)
    rooms: list[peers.Room] = []
    candidates: list[Candidate] = []
    try:
        absent = find_candidates(bench, find_commands(WORK / "enter", rooms, options.add), candidates)
        floor = Candidate("kernel's floor", [str(WORK / "floor")], state)
        measure(bench, candidates, floor, rounds=options.rounds, seed=options.seed)
    finally:
        for item in candidates:
            stop_planner(item)
        for room in rooms:
            room.close()
        remove_groups()
        for folder in (WORK, state):
            shutil.rmtree(folder, ignore_errors=True)
    results = {item.name: item.costs for item in [*candidates, floor]}
    text = machine(options.rounds, load_before, load_average(), state) + "\n\n" + bench_report.table(results)
    text += "\n\n" + bench_report.targets(results)
    text += "".join(f"\n\nNot measured: {line}" for line in absent)
    print(text)
    if options.write is not None:
        bench_report.write_between_marks(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
