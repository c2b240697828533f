"""``make bench``: what containers cost with Corral, runc, crun, and with the kernel alone.

Three operations: ``run`` of true; the five calls create, start, state, kill, delete; ``exec`` of true. All candidates
take turns in one run, in a new random order each round, so that a slow moment of the machine hits all of them. Printed
are medians of wall time, CPU time of all processes that the call waited for, the highest peak memory, and ratios to
runc. Nothing here passes or fails. Needs root.
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
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "native"))
import build as native_build

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
CGROUP_ROOT = Path("/sys/fs/cgroup")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class Cost:
    """What one operation took: wall and CPU seconds, peak resident KiB of its largest process."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_kib: int = 0

    def add(self, other: Cost) -> None:
        """Sum times; memory is a peak."""
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.peak_kib = max(self.peak_kib, other.peak_kib)


@dataclass(slots=True)
class Candidate:
    """A runtime's command line, and what was measured of it per operation."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    costs: dict[str, list[Cost]] = field(default_factory=dict)


def timed(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run one command to its end and say what it took; a non-zero exit ends the benchmark."""
    # A file, not a pipe: the container keeps standard error open.
    with open(WORK / "stderr", "w+") as stderr:
        result = subprocess.run(
            [str(WORK / "measure"), *command],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=60,
        )
        stderr.seek(0)
        if result.returncode != 0 or result.stdout.split()[3:] != ["0"]:
            raise RuntimeError(f"{' '.join(command)}: {stderr.read().strip()}")
    wall_ns, cpu_us, peak_kib, _status = map(int, result.stdout.split())
    return Cost(wall_ns / 1e9, cpu_us / 1e6, peak_kib)


class Bench:
    """One rootfs, one bundle per operation, and the operations."""

    def __init__(self) -> None:
        self.serial = 0
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        native_build.build_single(ROOT / "tools" / "measure.c", WORK / "measure")
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
        template = subprocess.run([find_template()[0], "spec"], cwd=bundle, capture_output=True, text=True)
        if template.returncode != 0:
            raise SystemExit(f"bench: {template.stderr}")
        config = bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["process"].update({"terminal": False, "args": arguments})
        spec["linux"]["resources"].update({"memory": {"limit": 64 << 20}, "pids": {"limit": 64}})
        config.write_text(json.dumps(spec))
        return bundle

    def next_name(self) -> str:
        """A container id that was not used before."""
        self.serial += 1
        return f"corral-bench-{os.getpid()}-{self.serial}"

    def prepare(self, candidate: Candidate, bundle: Path) -> tuple[list[str], str]:
        """The command's beginning and a fresh id; the bundle gets that id's own cgroup."""
        name = self.next_name()
        config = bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["linux"]["cgroupsPath"] = f"/corral-bench-{os.getpid()}/{name}"
        config.write_text(json.dumps(spec))
        return [*candidate.command, "--root", str(WORK / f"state-{candidate.name}")], name

    def run(self, candidate: Candidate) -> Cost:
        """``run`` of true, from nothing to nothing."""
        start, name = self.prepare(candidate, self.quick)
        return timed([*start, "run", "--bundle", str(self.quick), name], candidate.environment)

    def five_calls(self, candidate: Candidate) -> Cost:
        """create, start, state, kill, delete, as conmon and a shim call them."""
        start, name = self.prepare(candidate, self.sleeper)
        total, pid_file = Cost(), WORK / f"{name}.pid"
        create = ["create", "--bundle", str(self.sleeper), "--pid-file", str(pid_file), name]
        for words in (create, ["start", name], ["state", name], ["kill", name, "KILL"]):
            total.add(timed([*start, *words], candidate.environment))
        # The caller reaps init, which is its child now; the wait is the kernel's, not the runtime's.
        os.waitpid(int(pid_file.read_text()), 0)
        total.add(timed([*start, "delete", name], candidate.environment))
        pid_file.unlink()
        return total

    def exec_true(self, candidate: Candidate) -> Cost:
        """``exec`` of true in a container that runs already."""
        start, name = self.prepare(candidate, self.sleeper)
        pid_file = WORK / f"{name}.pid"
        timed([*start, "create", "--bundle", str(self.sleeper), "--pid-file", str(pid_file), name])
        timed([*start, "start", name])
        try:
            return timed([*start, "exec", name, "/bin/true"], candidate.environment)
        finally:
            timed([*start, "kill", name, "KILL"])
            os.waitpid(int(pid_file.read_text()), 0)
            timed([*start, "delete", name])
            pid_file.unlink()

    def floor(self, candidate: Candidate) -> Cost:
        """The kernel's own part: tools/floor.c on the same rootfs, with a cgroup in the same hierarchies."""
        name = self.next_name()
        mounted = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup" in line
        ]
        groups = sorted(
            {f"{point}/{name}" for point in mounted if not Path(point).is_symlink() and "cpuset" not in point}
        )
        return timed([*candidate.command, str(self.quick / "rootfs"), *groups])


def remove_groups() -> None:
    """Remove the benchmark's cgroups, and kill what an interrupted run left in them."""
    name = f"corral-bench-{os.getpid()}"
    for parent in (CGROUP_ROOT / name, *CGROUP_ROOT.glob(f"*/{name}")):
        for group in (*parent.glob("*/cgroup.procs"), *parent.glob("cgroup.procs")):
            for pid in map(int, group.read_text().split()):
                os.kill(pid, signal.SIGKILL)
                # An orphan became this process's child; a fresh zombie still counts as a member.
                os.waitpid(pid, 0)
            group.parent.rmdir()


def find_template() -> list[str]:
    """A runtime that can print a default config.json."""
    for name in (str(ROOT / "build" / "bin" / "corral-runtime"), "runc", "crun"):
        path = shutil.which(name)
        if path is not None:
            return [path]
    raise SystemExit("bench: neither corral-runtime, runc nor crun is there")


def find_candidates(bench: Bench) -> list[Candidate]:
    """All runtimes of this machine that can run a container on it; says which cannot, and why."""
    found = []
    for name, program in (
        ("corral", str(ROOT / "build" / "bin" / "corral-runtime")),
        ("runc", "runc"),
        ("crun", "crun"),
    ):
        path = shutil.which(program)
        if path is None:
            print(f"{name}: not installed", file=sys.stderr)
            continue
        candidate = Candidate(name, [path])
        try:
            bench.run(candidate)
        except RuntimeError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        found.append(candidate)
    return found


def measure(bench: Bench, candidates: list[Candidate], rounds: int, seed: int) -> None:
    """Let all candidates take turns."""
    order = random.Random(seed)
    operations: dict[str, Callable[[Candidate], Cost]] = {
        "run": bench.run,
        "five calls": bench.five_calls,
        "exec": bench.exec_true,
    }
    for number in range(rounds + 2):
        turns = [(label, item) for label in operations for item in candidates if item.name != "floor"]
        turns += [("run", item) for item in candidates if item.name == "floor"]
        order.shuffle(turns)
        for label, item in turns:
            cost = bench.floor(item) if item.name == "floor" else operations[label](item)
            # The first two rounds warm the page cache.
            if number >= 2:
                item.costs.setdefault(label, []).append(cost)


def report(candidates: list[Candidate]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| operation | runtime | wall ms | CPU ms | peak MiB | wall to runc | CPU to runc |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for label in ("run", "five calls", "exec"):
        base = next((item.costs[label] for item in candidates if item.name == "runc" and label in item.costs), None)
        for item in candidates:
            costs = item.costs.get(label)
            if not costs:
                continue
            wall, cpu = (
                statistics.median(values) * 1000 for values in ([c.wall_s for c in costs], [c.cpu_s for c in costs])
            )
            peak = max(cost.peak_kib for cost in costs) / 1024
            ratios = "| - | - |"
            if base is not None:
                # Paired: the median of each round's own ratio.
                ratio = statistics.median(a.wall_s / b.wall_s for a, b in zip(costs, base, strict=True))
                cpu_ratio = cpu / (statistics.median(cost.cpu_s for cost in base) * 1000)
                ratios = f"| {ratio:.2f} | {cpu_ratio:.2f} |"
            lines.append(f"| {label} | {item.name} | {wall:.1f} | {cpu:.1f} | {peak:.1f} {ratios}")
    return "\n".join(lines)


def main() -> int:
    """Command line: ``--rounds``, ``--seed``, ``--add NAME=PATH``."""
    parser = argparse.ArgumentParser(description="measure what containers cost")
    parser.add_argument("--rounds", type=int, default=40, help="measured rounds, after two to warm up")
    parser.add_argument("--seed", type=int, default=1, help="of the order within rounds")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=PATH", help="one more runtime")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers with cgroups of their own need root")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    bench = Bench()
    try:
        candidates = find_candidates(bench)
        candidates += [Candidate(name, [path]) for name, _, path in (text.partition("=") for text in options.add)]
        floor = native_build.build_single(ROOT / "tools" / "floor.c", WORK / "floor")
        candidates.append(Candidate("floor", [str(floor)]))
        measure(bench, candidates, options.rounds, options.seed)
    finally:
        remove_groups()
        shutil.rmtree(WORK, ignore_errors=True)
    print(f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} cores, {options.rounds} rounds\n")
    print(report(candidates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
