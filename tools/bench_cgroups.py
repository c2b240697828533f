"""What control groups cost: one group by each driver, many scopes at once beside runc, and samples of many groups.

    python tools/bench_cgroups.py                # groups by driver, and samples, on this host
    python tools/bench_cgroups.py --scopes 200   # the runtimes, many containers at once: needs systemd
    python tools/bench_cgroups.py --write docs/performance.md

A benchmark, not a test: nothing passes or fails. Needs root, and Corral installed or on the path. Everything is made
below a group of its own, and removed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from tools import bench_report

from corral.cgroup import (
    CgroupfsLocation,
    DelegatedParent,
    Manager,
    StatsSampler,
    SystemdLocation,
    compile_limits,
    create_group,
    ensure_delegated_parent,
    is_systemd_running,
    limit_properties,
    members_of,
    open_group,
    place,
    place_unit,
    read_layout,
    read_stats,
    remove_delegated_parent,
    remove_group,
    system_manager,
    unit_properties,
)

__all__ = ["groups_report", "main", "scopes_report"]

BEGIN, END = "<!-- results of tools/bench_cgroups.py -->", "<!-- end of these results -->"
NAME = f"corralbench{os.getpid()}"
RESOURCES = {"memory": {"limit": 64 << 20}, "pids": {"limit": 64}}
DEADLINE_S = 120.0
# Calls at the same time, as many as a kubelet has in flight on a busy node.
WORKERS = 16


@contextlib.contextmanager
def sleeper() -> Iterator[int]:
    """A process to put into a group."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def direct_parent(manager: Manager | None) -> Iterator[DelegatedParent]:
    """A delegated parent of the bench's own: a scope where there is systemd, else a directory."""
    layout = read_layout()
    location: SystemdLocation | CgroupfsLocation = CgroupfsLocation(f"/{NAME}-direct")
    if manager is not None:
        location = SystemdLocation("", "", f"{NAME}-direct")
    with sleeper() as holder:
        pid = holder if manager is not None else 0
        parent = ensure_delegated_parent(location, layout, holder_pid=pid, manager=manager, deadline_s=DEADLINE_S)
        try:
            yield parent
        finally:
            remove_delegated_parent(parent, layout, manager=manager, deadline_s=DEADLINE_S)


def plain_group(path: str) -> None:
    """Make a group by hand, limit it, let a process enter, end that, remove the group."""
    layout = read_layout()
    writes = compile_limits(RESOURCES, layout)
    made = create_group(layout, place(CgroupfsLocation(path), layout), controllers=writes.controllers)
    with sleeper() as pid, open_group(made.members) as group:
        group.apply(writes.writes)
        group.attach(pid)
    remove_group([*made.made, *reversed(made.parents)], deadline_s=DEADLINE_S)


def scope_group(manager: Manager, name: str) -> None:
    """The same by systemd: a scope with the limits as properties and in the files; then its end."""
    layout = read_layout()
    writes = compile_limits(RESOURCES, layout).writes
    unit = place_unit(SystemdLocation("", "", name))
    properties = [*unit_properties(unit, description="a benchmark"), *limit_properties(writes, layout)]
    with sleeper() as pid:
        manager.start_transient_scope(unit.unit, [pid], properties, deadline_s=DEADLINE_S)
        with open_group(members_of(layout, place(CgroupfsLocation(unit.path), layout))) as group:
            group.apply(writes)
        os.kill(pid, signal.SIGKILL)
        manager.stop_unit(unit.unit, deadline_s=DEADLINE_S)


def groups_report(rounds: int) -> str:
    """One group by each driver that this host has, in turns: a table of medians."""
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(system_manager()) if is_systemd_running() else None
        parent = stack.enter_context(direct_parent(manager))
        counter = iter(range(10_000_000))
        ways: dict[str, Callable[[], None]] = {
            "cgroupfs: a directory of its own": lambda: plain_group(f"/{NAME}-{next(counter)}"),
            "direct: below a delegated parent": lambda: plain_group(str(parent.location(f"c{next(counter)}"))),
        }
        if manager is not None:
            used = manager
            ways["systemd: a scope"] = lambda: scope_group(used, f"{NAME}-{next(counter)}")
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        order = random.Random(1)
        names = list(ways)
        for number in range(rounds + 2):
            order.shuffle(names)
            for way in names:
                wall, cpu = time.monotonic(), time.process_time()
                ways[way]()
                # The first two rounds load what is loaded once.
                if number >= 2:
                    taken[way].append((time.monotonic() - wall, time.process_time() - cpu))
    lines = ["| one group made, limited, entered, removed | wall ms | CPU ms of the caller |", "|---|--:|--:|"]
    for way, costs in taken.items():
        wall_ms, cpu_ms = (statistics.median(cost[at] for cost in costs) * 1000 for at in (0, 1))
        lines.append(f"| {way} | {wall_ms:.1f} | {cpu_ms:.1f} |")
    return "\n".join(lines)


def samples_report(number: int, rounds: int) -> str:
    """CPU time of one sample of ``number`` groups, by descriptors that stay open and by opening files each time."""
    layout = read_layout()
    made = [create_group(layout, place(CgroupfsLocation(f"/{NAME}/g{at}"), layout)) for at in range(number)]
    try:
        with contextlib.ExitStack() as stack:
            samplers = []
            for created in made:
                with open_group(created.members) as group:
                    samplers.append(stack.enter_context(StatsSampler(group)))
            kept = _cpu_ms(lambda: [sampler.sample() for sampler in samplers], rounds)
        with contextlib.ExitStack() as stack:
            groups = [stack.enter_context(open_group(created.members)) for created in made]
            opened = _cpu_ms(lambda: [read_stats(group) for group in groups], max(3, rounds // 4))
    finally:
        members = [member for created in made for member in (*created.made, *created.parents)]
        remove_group(members, deadline_s=DEADLINE_S)
    met = "yes" if kept <= 60 else "no"
    return (
        f"| one sample of {number} groups | CPU ms | at most | met |\n|---|--:|--:|---|\n"
        f"| descriptors kept open (`StatsSampler`) | {kept:.1f} | 60 | {met} |\n"
        f"| files opened each time (`read_stats`, which also reads cpuset and huge pages) | {opened:.1f} | - | - |"
    )


def _cpu_ms(action: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        taken.append(time.process_time() - start)
    return statistics.median(taken) * 1000


@dataclass(slots=True)
class Candidate:
    """A runtime with its driver: the command's beginning, and how its cgroupsPath looks."""

    name: str
    command: list[str]
    cgroups_path: Callable[[str], str]
    flags: tuple[str, ...] = ()
    pids: list[int] = field(default_factory=list)


def scopes_report(number: int, folder: Path) -> str:
    """``number`` containers made at once, then deleted at once, by each runtime, as a table."""
    results = {
        name: many(name, number, folder) for name in CANDIDATES if shutil.which(name.split()[0]) or "corral" in name
    }
    return scopes_table(number, results)


def scopes_table(number: int, results: dict[str, tuple[float, float]]) -> str:
    """Wall times of creating and deleting, and their ratios to runc's."""
    lines = [
        f"| {number} containers, {WORKERS} at a time | create, s | delete, s | create to runc | both to runc |",
        "|---|--:|--:|--:|--:|",
    ]
    base = next(times for name, times in results.items() if name.startswith("runc"))
    for name, (made, removed) in results.items():
        ratio, whole = made / base[0], (made + removed) / sum(base)
        lines.append(f"| {name} | {made:.1f} | {removed:.1f} | {ratio:.2f} | {whole:.2f} |")
    return "\n".join(lines)


def many(name: str, number: int, folder: Path) -> tuple[float, float]:
    """Wall seconds in which the candidate ``name`` makes, and deletes, ``number`` containers. Needs systemd."""
    runtime = shutil.which("corral-runtime") or str(Path(__file__).resolve().parents[1] / ".venv/bin/corral-runtime")
    subreap()
    with system_manager() as manager, direct_parent(manager) as parent:
        candidate = _candidate(name, runtime, parent)
        with _planner(candidate, runtime, folder):
            _many(candidate, 4, folder)  # what is loaded once
            return _many(candidate, number, folder)


def subreap() -> None:
    """Containers become this process's children, as they become a shim's."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


CANDIDATES = (
    "runc, scopes",
    "corral resident, scopes",
    "corral resident, direct",
    "corral resident, scopes in the engine's layout",
    "crun, scopes",
    "corral cold, scopes",
)


def _candidate(name: str, runtime: str, parent: DelegatedParent) -> Candidate:
    program = name.partition(",")[0]
    if name.endswith("direct"):
        command = [runtime, "--cgroup-manager", "cgroupfs"]
        return Candidate(name, command, lambda container: str(parent.location(container)))
    flags = ("--cgroup-layout", "engine") if "engine" in name else ()
    command = [runtime if program.startswith("corral") else program, "--systemd-cgroup"]
    return Candidate(name, command, lambda container: f"system.slice:{NAME}:{container}", flags)


@contextlib.contextmanager
def _planner(candidate: Candidate, runtime: str, folder: Path) -> Iterator[None]:
    """The resident planner of a candidate's state root, if it has one."""
    root = folder / candidate.name.replace(" ", "-").replace(",", "").replace("'", "")
    root.mkdir()
    candidate.command = [candidate.command[0], "--root", str(root), *candidate.command[1:]]
    if "resident" not in candidate.name:
        yield
        return
    process = subprocess.Popen([runtime, "--root", str(root), "planner"])
    until = time.monotonic() + DEADLINE_S
    while not (root / ".planner.sock").exists() and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _many(candidate: Candidate, number: int, folder: Path) -> tuple[float, float]:
    """Make ``number`` containers at once, then kill and delete them: wall seconds of each."""
    # Names of its own: what another candidate left when it broke off is not in the way.
    prefix = f"{NAME}x{CANDIDATES.index(candidate.name)}x"
    bundles = [_bundle(folder, candidate, f"{prefix}{at}") for at in range(number)]

    def create(bundle: Path) -> None:
        words = ["create", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), *candidate.flags]
        _run([*candidate.command, *words, bundle.name], bundle)

    def delete(bundle: Path) -> None:
        _run([*candidate.command, "delete", "--force", bundle.name], bundle)

    taken = []
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for action in (create, delete):
            start = time.monotonic()
            list(pool.map(action, bundles))
            taken.append(time.monotonic() - start)
    for bundle in bundles:
        shutil.rmtree(bundle)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return taken[0], taken[1]


def _run(command: list[str], bundle: Path) -> None:
    with open(bundle / "output", "ab+") as output:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=DEADLINE_S)
        if result.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {output.read().decode(errors='replace').strip()}")


def _bundle(folder: Path, candidate: Candidate, name: str) -> Path:
    """A bundle of its own for each container: only config.json differs, the rootfs is shared."""
    rootfs = folder / "rootfs"
    if not rootfs.exists():
        for place_in_it in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (rootfs / place_in_it).mkdir(parents=True)
        shutil.copy2(shutil.which("busybox") or "/bin/busybox", rootfs / "bin" / "sleep")
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
    bundle = folder / name
    bundle.mkdir()
    spec = json.loads((folder / "config.json").read_text())
    spec["process"].update({"terminal": False, "args": ["/bin/sleep", "1000"]})
    spec["root"] = {"path": str(rootfs), "readonly": True}
    spec["linux"]["cgroupsPath"] = candidate.cgroups_path(name)
    spec["linux"].setdefault("resources", {}).update(RESOURCES)
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def machine() -> str:
    """Where this was measured."""
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} cores, cgroups: {read_layout().mode}; "
        f"load average {load:.1f}."
    )


def main() -> int:
    """Command line: ``--rounds``, ``--samples``, ``--scopes N``, ``--write FILE``."""
    parser = argparse.ArgumentParser(description="measure what control groups cost")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--samples", type=int, default=500, metavar="GROUPS")
    parser.add_argument("--scopes", type=int, default=0, metavar="CONTAINERS")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the results between the marks in this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("groups of its own need root")
    parts = [machine(), groups_report(options.rounds), samples_report(options.samples, 20)]
    if options.scopes:
        with tempfile.TemporaryDirectory(prefix="corral-bench-") as folder:
            parts.append(scopes_report(options.scopes, Path(folder)))
    text = "\n\n".join(parts)
    print(text)
    if options.write is not None:
        bench_report.write_between_marks(options.write, text, begin=BEGIN, end=END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
