"""``make bench``: what containers cost with Corral's engine, containerd, podman and docker.

All engines take turns in one run, each round in a new random order. Printed are medians, and ratios to containerd that
are medians of the rounds' own ratios, so that a machine that is busy with other things disturbs them little.
Nothing here passes or fails. Needs root, ctr, podman and docker (those that are missing are left out), skopeo and
docker-registry.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "native"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import bench_engine_peers as peers
from tools import bench_report
from tools.bench_engine_peers import Engine

import build as native_build

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results of tools/bench_engine.py -->", "<!-- end of the engine's results -->"
SETUP = 'ip link set lo up; mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/lock; exec "$@"'
INSIDE = "CORRAL_BENCH_INSIDE"
BASE = "containerd"
REQUEST = "a request to the service"
REGISTRY = "127.0.0.1:5000"
PULLED = f"{REGISTRY}/large:1"
LAYERS, LAYER_MIB = 4, 50
# After a command: what it started and left ends in this time, and is its cost as well.
GRACE_S = 0.15
_PR_SET_CHILD_SUBREAPER = 36


class Table:
    """Values by operation and engine, one a round."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = {}
        self.errors: list[str] = []

    def add(self, operation: str, engine: str, value: float) -> None:
        """One more round's."""
        self.values.setdefault((operation, engine), []).append(value)

    def median(self, operation: str, engine: str) -> float | None:
        """None where nothing was measured."""
        found = self.values.get((operation, engine))
        return statistics.median(found) if found else None

    def ratio(self, operation: str, engine: str, base: str) -> float | None:
        """The median of the rounds' own ratios."""
        ours, theirs = self.values.get((operation, engine)), self.values.get((operation, base))
        if not ours or not theirs:
            return None
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=False))

    def text(self) -> str:
        """As a Markdown table: operations as they came, in each the engines by name."""
        lines = ["| what | engine | median | to containerd |", "|---|---|--:|--:|"]
        operations = list(dict.fromkeys(operation for operation, _ in self.values))
        for operation, engine in sorted(self.values, key=lambda pair: (operations.index(pair[0]), pair[1])):
            value, ratio = self.median(operation, engine), self.ratio(operation, engine, BASE)
            lines.append(f"| {operation} | {engine} | {value:.1f} | {'-' if ratio is None else f'{ratio:.2f}'} |")
        return "\n".join(lines)

    def targets(self, many: int, crowd: int) -> str:
        """Each target of the project beside what was measured, as a Markdown table."""
        wanted = [
            (FIRST, REQUEST, BASE, 0.12),
            (WHOLE, "corral", BASE, 0.6),
            (WHOLE, "corral", "podman", 0.4),
            (PULL, "corral", BASE, 1.0),
            (MEMORY.format(many), "corral", BASE, 0.12),
            (RECOVERY.format(crowd), "corral, service", BASE, 1.0),
        ]
        lines = ["| target | at most | measured | met |", "|---|--:|--:|---|"]
        for operation, engine, base, limit in wanted:
            self._target(lines, (f"{operation}: {engine} to {base}", self.ratio(operation, engine, base)), limit)
        for engine in (REQUEST, "corral, service"):
            slower = self.ratio(STARTS.format(8), BASE, engine)
            self._target(lines, (f"{STARTS.format(8)}: {BASE} to {engine}", slower), 1 / 3)
        return "\n".join(lines)

    @staticmethod
    def _target(lines: list[str], found: tuple[str, float | None], limit: float) -> None:
        if found[1] is not None:
            lines.append(f"| {found[0]} | {limit:.2f} | {found[1]:.2f} | {'yes' if found[1] <= limit else 'no'} |")


FIRST = "request to first instruction, ms"
WHOLE = "`run --rm`, ms"
WHOLE_CPU = "`run --rm`, CPU ms"
EXEC = "`exec`, ms"
STARTS = "starts per second, {} at a time"
REMOVALS = "removals per second, {} at a time"
MEMORY = "PSS KiB a container of {}, its own processes"
SHARE = "PSS KiB a container of {}, share of the engine"
RECOVERY = "back after SIGKILL with {}, ms"
LIST = "`ps` of {}, ms"
STATS = "`stats` of {}, ms"
PULL = f"pull of {LAYERS * LAYER_MIB} MiB and first run, ms"


class Bench:
    """All engines, the image that they have, and what was measured."""

    def __init__(self, work: Path, chosen: Sequence[str]) -> None:
        self.work, self.table, self.serial = work, Table(), 0
        self.engines: list[Engine] = []
        self.random = random.Random(1)
        work.mkdir(parents=True)
        native_build.build_single(ROOT / "tools" / "first.c", work / "first")
        (work / "out").mkdir()
        archive = self._archive()
        for kind in (peers.Corral, peers.Service, peers.Containerd, peers.Podman, peers.Docker):
            if kind.name.partition(",")[0] not in chosen:
                continue
            engine = kind(work / kind.name.replace(", ", "-"), Path("/run") / kind.name.replace(", ", "-"))
            engine.begin()
            self.engines.append(engine)
            engine.load(archive)

    def _archive(self) -> Path:
        """The image as a docker-archive, which all of them read: busybox and first.c."""
        busybox = shutil.which("busybox")
        if busybox is None:
            raise SystemExit("bench: busybox is not there: install the package busybox-static")
        files = {"bin/busybox": Path(busybox).read_bytes(), "bin/first": (self.work / "first").read_bytes()}
        layer = _tar(
            {**files, "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n", "out/.keep": b""},
            links={f"bin/{name}": "busybox" for name in ("sh", "sleep", "true")},
        )
        return write_archive(self.work / "image.tar", peers.IMAGE, [layer])

    def name(self) -> str:
        """A fresh name for a container."""
        self.serial += 1
        return f"b{self.serial}"

    def end(self) -> None:
        """Stop all daemons."""
        for engine in self.engines:
            engine.end()

    # ---- one container -------------------------------------------------------------------------------------------

    def rounds(self, count: int) -> None:
        """`run`, `exec` and the service's request in turns."""
        turns: list[Callable[[], None]] = []
        sleepers = {}
        for engine in self.engines:
            sleepers[engine.name] = self.name()
            peers.call(engine.start_words(sleepers[engine.name]), self.work / "output")
            turns.append(lambda engine=engine: self.run_once(engine))  # type: ignore[misc]
            turns.append(lambda engine=engine: self.exec_once(engine, sleepers[engine.name]))  # type: ignore[misc]
            if isinstance(engine, peers.Service):
                turns.append(lambda engine=engine: self.request_once(engine))  # type: ignore[misc]
        for number in range(count + 2):
            self.random.shuffle(turns)
            for turn in turns:
                turn()
            if number == 1:
                # The first two rounds warm the page cache.
                self.table.values.clear()
        for engine in self.engines:
            for words in engine.remove_words(sleepers[engine.name]):
                peers.call(words, self.work / "output")

    def run_once(self, engine: Engine) -> None:
        """`run --rm` of a workload that prints when it began."""
        words = engine.run_words(self.name(), "first")
        cpu, begin = peers.cpu_s(), time.monotonic_ns()
        said = peers.call(words, self.work / "output")
        end = time.monotonic_ns()
        settle()
        self.table.add(FIRST, engine.name, (int(said.split()[-1]) - begin) / 1e6)
        self.table.add(WHOLE, engine.name, (end - begin) / 1e6)
        self.table.add(WHOLE_CPU, engine.name, (peers.cpu_s() - cpu) * 1e3)

    def request_once(self, engine: peers.Service) -> None:
        """The same asked of the service by a program; its output is a file, since nobody is attached."""
        mount: dict[str, object] = {"type": "bind", "source": str(self.work / "out"), "target": "/out"}
        request = engine.run_request(self.name(), "first", "/out/first", mounts=[mount], auto_remove=True)
        written = self.work / "out" / "first"
        with engine.connect() as sock:
            begin = time.monotonic_ns()
            peers.ask(sock, request)
        peers.wait_for(lambda: written.exists() and written.read_text().endswith("\n"), "the workload writes")
        self.table.add(FIRST, REQUEST, (int(written.read_text()) - begin) / 1e6)
        written.unlink()
        settle()

    def exec_once(self, engine: Engine, name: str) -> None:
        """`exec` of true."""
        self.serial += 1
        words = engine.exec_words(name, self.serial)
        begin = time.monotonic_ns()
        peers.call(words, self.work / "output")
        self.table.add(EXEC, engine.name, (time.monotonic_ns() - begin) / 1e6)
        settle()

    # ---- many ----------------------------------------------------------------------------------------------------

    def rates(self, few: int, rounds: int) -> None:
        """Starts and removals, one after the other and eight at a time, engines in turns."""
        for at_once in (1, 8):
            for _ in range(rounds):
                for engine in self.random.sample(self.engines, len(self.engines)):
                    names = [self.name() for _ in range(few)]
                    self.table.add(STARTS.format(at_once), engine.name, few / self.start_all(engine, names, at_once))
                    self.table.add(REMOVALS.format(at_once), engine.name, few / self.remove_all(engine, names, at_once))
                    settle()
                    if isinstance(engine, peers.Service):
                        self._request_rates(engine, few, at_once)

    def _request_rates(self, engine: peers.Service, few: int, at_once: int) -> None:
        """The same by a program's requests: no command of ours is started for each."""
        names = [self.name() for _ in range(few)]
        for operation, requests in (
            (STARTS, [engine.run_request(name, *peers.SLEEPER) for name in names]),
            (REMOVALS, [engine.request("rm", reference=name, force=True) for name in names]),
        ):
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(engine.connect()) for _ in range(at_once)]
                begin = time.monotonic()
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(peers.ask_all, sockets, [requests[turn::at_once] for turn in range(at_once)]))
                self.table.add(operation.format(at_once), REQUEST, few / (time.monotonic() - begin))
            settle()

    def start_all(self, engine: Engine, names: Sequence[str], at_once: int) -> float:
        """Start idle containers; seconds."""
        return self._all([[engine.start_words(name)] for name in names], at_once)

    def remove_all(self, engine: Engine, names: Sequence[str], at_once: int) -> float:
        """End and remove them; seconds."""
        return self._all([engine.remove_words(name) for name in names], at_once)

    def _all(self, jobs: Sequence[Sequence[Sequence[str]]], at_once: int) -> float:
        def work(number: int) -> None:
            for words in jobs[number]:
                peers.call(words, self.work / f"output-{number}")

        begin = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(work, range(len(jobs))))
        return time.monotonic() - begin

    def crowds(self, many: int, crowd: int) -> None:
        """Memory of many idle containers; lists, samples and recovery with a crowd of them. One engine at a time."""
        for engine in self.engines:
            names = [self.name() for _ in range(crowd)]
            self.start_all(engine, names[:many], 8)
            settle()
            own, share = engine.memory_kib()
            self.table.add(MEMORY.format(many), engine.name, own / many)
            self.table.add(SHARE.format(many), engine.name, share / many)
            if isinstance(engine, (peers.Corral, peers.Containerd)):
                self.start_all(engine, names[many:], 8)
                self._watch(engine, len(names))
            else:
                names = names[:many]
                self._time(LIST.format(many), engine, engine.list_words())
                self._time(STATS.format(many), engine, engine.stats_words())
            self.remove_all(engine, names, 8)

    def _watch(self, engine: Engine, count: int) -> None:
        for _ in range(3):
            self._time(LIST.format(count), engine, engine.list_words())
            if engine.stats_words():
                self._time(STATS.format(count), engine, engine.stats_words())
        for _ in range(3):
            engine.kill()
            begin = time.monotonic_ns()
            if engine.daemon > 0:
                engine.begin()
            peers.wait_for(lambda: self._lists(engine, count), "all containers are seen again")
            self.table.add(RECOVERY.format(count), engine.name, (time.monotonic_ns() - begin) / 1e6)

    def _lists(self, engine: Engine, count: int) -> bool:
        lines = peers.call(engine.list_words(), self.work / "output").splitlines()[1:]
        return sum("RUNNING" in line or " Up " in line for line in lines) == count

    def _time(self, operation: str, engine: Engine, words: Sequence[str]) -> None:
        begin = time.monotonic_ns()
        peers.call(words, self.work / "output")
        self.table.add(operation, engine.name, (time.monotonic_ns() - begin) / 1e6)

    # ---- images --------------------------------------------------------------------------------------------------

    def pulls(self, rounds: int) -> None:
        """Pull a large image and run a program of it: where layers are unpacked differs between engines."""
        registry = self._registry()
        try:
            for _ in range(rounds):
                for engine in self.random.sample(self.engines, len(self.engines)):
                    words = [PULLED if word == peers.IMAGE else word for word in engine.run_words(self.name(), "true")]
                    os.sync()
                    begin = time.monotonic_ns()
                    engine.pull(PULLED)
                    peers.call(words, self.work / "output")
                    self.table.add(PULL, engine.name, (time.monotonic_ns() - begin) / 1e6)
                    engine.forget(PULLED)
        finally:
            os.kill(registry, 15)
            os.waitpid(registry, 0)

    def _registry(self) -> int:
        """A registry on loopback with the image; its pid."""
        config = self.work / "registry.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.work}/registry}}}}\n"
            f"http: {{addr: '{REGISTRY}'}}\n"
        )
        pid = peers.spawn(["docker-registry", "serve", str(config)], self.work / "registry.log")
        shuffle = random.Random(2)
        busybox = Path(shutil.which("busybox") or "busybox").read_bytes()
        layers = [_tar({"bin/busybox": busybox}, links={"bin/true": "busybox"})]
        for number in range(LAYERS):
            # As compressible as programs are: half of each KiB is noise.
            files = {
                f"data/{number}/{at:03}": b"".join(shuffle.randbytes(512) + bytes(512) for _ in range(1024))
                for at in range(LAYER_MIB)
            }
            layers.append(_tar(files))
        archive = write_archive(self.work / "large.tar", PULLED, layers)
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        copy += [f"docker-archive:{archive}", f"docker://{PULLED}"]
        peers.wait_for(lambda: _answers(copy, self.work / "output"), "the registry takes an image")
        return pid


def _answers(words: Sequence[str], output: Path) -> bool:
    try:
        peers.call(words, output)
    except RuntimeError:
        return False
    return True


def settle() -> None:
    """Let what a command left come to its end, and reap it: orphans are this process's children."""
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        for pid in [pid for pid in peers.descendants(os.getpid()) if _is_orphaned_zombie(pid)]:
            os.waitpid(pid, 0)
        time.sleep(0.02)


def _is_orphaned_zombie(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] == "Z" and int(fields[1]) == os.getpid()


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def write_archive(path: Path, reference: str, layers: Sequence[bytes]) -> Path:
    """Write a docker-archive."""
    import hashlib

    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    names = [f"{digest}.tar" for digest in digests]
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
    files = dict(zip(names, layers, strict=True))
    files["config.json"], files["manifest.json"] = json.dumps(config).encode(), json.dumps(manifest).encode()
    path.write_bytes(_tar(files))
    return path


def machine(engines: Sequence[Engine], load_before: float) -> str:
    """Where this was measured."""
    versions = ", ".join(engine.name for engine in engines)
    return (
        f"{platform.machine()}, Linux {platform.release()}, {os.cpu_count()} cores; {versions}; "
        f"load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after."
    )


def end_all() -> None:
    """End all that this run has started: stopped first, so that no keeper starts another monitor for one that ends."""
    while pids := [pid for pid in peers.descendants(os.getpid()) if not _is_orphaned_zombie(pid)]:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        settle()


def remove_groups() -> None:
    """The cgroups that the engines made for this run alone, empty by now."""
    for path in sorted(Path("/sys/fs/cgroup").glob(f"**/corral-bench-{os.getpid()}*"), reverse=True):
        for below in sorted((item for item in path.rglob("*") if item.is_dir()), reverse=True):
            below.rmdir()
        path.rmdir()


def enter(arguments: Sequence[str]) -> None:
    """Go on in mount and network namespaces of our own, with a /run in memory."""
    words = ["unshare", "-mn", "--propagation", "private", "--", "sh", "-ec", SETUP, "sh", sys.executable, *arguments]
    os.execvpe(words[0], words, {**os.environ, INSIDE: "1"})


def main() -> int:
    """Command line: ``--rounds``, ``--many``, ``--crowd``, ``--engines``, ``--parts``, ``--write FILE``."""
    parser = argparse.ArgumentParser(description="measure what containers cost with each engine")
    parser.add_argument("--rounds", type=int, default=20, help="of single containers, after two to warm up")
    parser.add_argument("--few", type=int, default=24, help="containers a round of starts and removals")
    parser.add_argument("--many", type=int, default=100, help="idle containers whose memory is measured")
    parser.add_argument("--crowd", type=int, default=300, help="containers that are listed and recovered")
    parser.add_argument("--engines", default="corral,containerd,podman,docker")
    parser.add_argument("--parts", default="rounds,rates,crowds,pulls")
    parser.add_argument("--corral", default=str(ROOT / ".venv" / "bin" / "corral"), metavar="PROGRAM")
    parser.add_argument("--nice", type=int, default=0, help="of all engines alike, where the machine is not ours alone")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the results between the marks in this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers with cgroups of their own need root")
    if INSIDE not in os.environ:
        os.nice(options.nice)
        enter([str(Path(__file__).resolve()), *sys.argv[1:]])
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ["CORRAL_CGROUP_PARENT"] = f"/corral-bench-{os.getpid()}-corral"
    peers.Corral.program = options.corral
    programs = {"corral": options.corral, "containerd": "ctr", "podman": "podman", "docker": "dockerd"}
    chosen = [name for name in options.engines.split(",") if shutil.which(programs[name])]
    work, load_before = ROOT / "build" / f"bench-engine-{os.getpid()}", os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bench = None
    try:
        bench = Bench(work, chosen)
        parts = options.parts.split(",")
        if "rounds" in parts:
            bench.rounds(options.rounds)
        if "rates" in parts:
            bench.rates(options.few, 3)
        if "crowds" in parts:
            bench.crowds(options.many, options.crowd)
        if "pulls" in parts:
            bench.pulls(3)
        bench.end()
    except BaseException:
        # Broken off: what there is, is shown, and nothing stays.
        if bench is not None:
            print(bench.table.text())
        end_all()
        raise
    table = bench.table
    text = "\n\n".join([machine(bench.engines, load_before), table.text(), table.targets(options.many, options.crowd)])
    print(text)
    if options.write is not None:
        bench_report.write_between_marks(options.write, text, begin=BEGIN, end=END)
    settle()
    remove_groups()
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
