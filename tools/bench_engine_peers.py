"""The engines that tools/bench_engine.py compares: how each is started, and the words of its commands.

All run in one private mount and network namespace, with their state in a /run of its own and their stores side by side
on the same file system; no container has a network, because `ctr run` gives it none.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = [
    "IMAGE",
    "Containerd",
    "Corral",
    "Docker",
    "Engine",
    "Podman",
    "Service",
    "ask",
    "ask_all",
    "call",
    "cpu_s",
    "descendants",
]

IMAGE = "localhost/corral-bench:1"
DEADLINE_S = 300.0
SLEEPER = ("sleep", "1000000")


def spawn(words: Sequence[str], output: Path) -> int:
    """Start a command with its output in a file; its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawnp(words[0], list(words), os.environ, file_actions=actions)


def call(words: Sequence[str], output: Path) -> str:
    """Run a command to its end and return its output. Raises: RuntimeError with its words when it refuses."""
    _, status = os.waitpid(spawn(words, output), 0)
    said = output.read_text(errors="replace")
    if status != 0:
        raise RuntimeError(f"{' '.join(words)}: {said.strip()[-600:]}")
    return said


def ask(sock: socket.socket, request: bytes) -> None:
    """Send a request and wait for its answer, which is short. Raises: RuntimeError with the words of a refusal."""
    sock.sendall(request)
    answer = sock.recv(1 << 16)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode(errors="replace"))


def ask_all(sock: socket.socket, requests: Sequence[bytes]) -> None:
    """One request after the other."""
    for request in requests:
        ask(sock, request)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll. Raises: RuntimeError after the deadline."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not within {DEADLINE_S:g} s")
        time.sleep(0.005)


def descendants(pid: int) -> Iterator[int]:
    """All processes below one."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return
    for thread in threads:
        try:
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


def cpu_s() -> float:
    """CPU seconds of all that this process has ever started: what was reaped is in its parent's, or our, account."""
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ours.ru_utime + ours.ru_stime
    for pid in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


class Engine:
    """One engine: ``folder`` on disk, ``run`` in memory, ``base`` the words that its commands begin with."""

    name = ""
    base: list[str]
    options: list[str]
    # Processes that exist once for each container.
    helpers: tuple[str, ...] = ()

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self.run = folder, run
        folder.mkdir(parents=True)
        run.mkdir(parents=True)
        self.daemon = -1

    def call(self, *words: str) -> str:
        """Run one of its commands."""
        return call([*self.base, *words], self.folder / "output")

    def begin(self) -> None:
        """Start its daemon, if it has one, until it answers."""

    def load(self, archive: Path) -> None:
        """Take the image from a docker-archive."""
        self.call("load", "-i", str(archive))

    def start_daemon(self, words: Sequence[str], answers: Callable[[], bool]) -> None:
        """Start it and wait until it answers. Raises: RuntimeError with its last words if it ends instead."""
        log = self.folder / "daemon.log"
        self.daemon = spawn(words, log)

        def look() -> bool:
            if os.waitpid(self.daemon, os.WNOHANG) != (0, 0):
                raise RuntimeError(f"{' '.join(words)}: {log.read_text(errors='replace').strip()[-600:]}")
            return answers()

        wait_for(look, f"{self.name} answers")

    def end(self) -> None:
        """Stop what ``begin`` started."""
        if self.daemon > 0:
            os.kill(self.daemon, signal.SIGTERM)
            os.waitpid(self.daemon, 0)
            self.daemon = -1

    def kill(self) -> None:
        """SIGKILL to what it cannot do without."""
        os.kill(self.daemon, signal.SIGKILL)
        os.waitpid(self.daemon, 0)

    def run_words(self, name: str, *command: str) -> list[str]:
        """A container in the foreground, removed at its end."""
        return [*self.base, "run", "--rm", "--name", name, *self.options, IMAGE, *command]

    def start_words(self, name: str) -> list[str]:
        """One that stays."""
        return [*self.base, "run", "-d", "--name", name, *self.options, IMAGE, *SLEEPER]

    def remove_words(self, name: str) -> list[list[str]]:
        """The commands that end and remove it."""
        return [[*self.base, "rm", "-f", name]]

    def exec_words(self, name: str, serial: int) -> list[str]:
        """One more process in it."""
        del serial
        return [*self.base, "exec", name, "true"]

    def list_words(self) -> list[str]:
        """What lists the containers that run, one a line after a heading."""
        return [*self.base, "ps"]

    def stats_words(self) -> list[str]:
        """One sample of them all; [] where no one command does it."""
        return [*self.base, "stats", "--no-stream"]

    def pull(self, reference: str) -> None:
        """Get an image from a registry without TLS."""
        self.call("pull", "--tls-verify=false", reference)

    def forget(self, reference: str) -> None:
        """Remove it, with all that was unpacked."""
        self.call("rmi", "-f", reference)

    def own(self) -> set[int]:
        """Its processes, without the containers'."""
        mine = {self.daemon, *descendants(self.daemon)} if self.daemon > 0 else set()
        for pid in descendants(os.getpid()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if any(word == str(self.run) or word.startswith(f"{self.run}/") for word in words):
                mine.add(pid)
        return {pid for pid in mine if _comm(pid) not in ("", "sleep")}

    def memory_kib(self) -> tuple[int, int]:
        """PSS of the processes that exist for each container, and of the others."""
        sums = [0, 0]
        for pid in self.own():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            pss = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
            sums[not _comm(pid).startswith(self.helpers)] += pss
        return sums[0], sums[1]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Corral(Engine):
    """Corral without a service: each command does its work itself."""

    name = "corral"
    helpers: tuple[str, ...] = ("corral-monitor",)
    program = ""

    def __init__(self, folder: Path, run: Path) -> None:
        super().__init__(folder, run)
        self.base = [self.program, "--store", str(folder / "store"), "--run-dir", str(run)]
        self.options = ["--network", "none"]
        self.call("info")

    def end(self) -> None:
        """Its keeper ends by itself when it has nothing to keep."""
        super().end()
        wait_for(lambda: not self.keeper(), "the keeper ends")

    def keeper(self) -> list[int]:
        """Its keeper's pid, if there is one."""
        return [pid for pid in self.own() if _comm(pid) == "corral-keeper"]

    def kill(self) -> None:
        """The keeper is all that a store without a service has."""
        for pid in self.keeper():
            os.kill(pid, signal.SIGKILL)

    def forget(self, reference: str) -> None:
        """Unpacked layers that no image has go with gc."""
        super().forget(reference)
        self.call("gc")


class Service(Corral):
    """Corral with ``corral serve``, and its command line in front of that."""

    name = "corral, service"

    def begin(self) -> None:
        """Until it says that it is ready."""
        self.start_daemon([*self.base, "serve"], self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with self.connect() as sock:
                sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: corral\r\n\r\n")
                return sock.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def kill(self) -> None:
        """The service and the keeper at once."""
        os.kill(self.daemon, signal.SIGKILL)
        super().kill()
        os.waitpid(self.daemon, 0)

    def connect(self) -> socket.socket:
        """A client of the service."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.run / "serve.sock"))
        return sock

    @staticmethod
    def request(verb: str, **body: object) -> bytes:
        """A call of a verb, as HTTP."""
        text = json.dumps(body).encode()
        return b"POST /v1/%b HTTP/1.1\r\nHost: corral\r\nContent-Length: %d\r\n\r\n%b" % (
            verb.encode(),
            len(text),
            text,
        )

    @classmethod
    def run_request(
        cls, name: str, *command: str, mounts: Sequence[dict[str, object]] = (), auto_remove: bool = False
    ) -> bytes:
        """The request that `run -d` makes, or `run -d --rm`."""
        definition = {
            "name": name,
            "root": {"kind": "image", "image": IMAGE},
            "process": {"command": list(command)},
            "network": {"mode": "none"},
            "resources": {"pids": 2048},
            "mounts": list(mounts),
            "auto_remove": auto_remove,
        }
        return cls.request("run", request=definition)


class Containerd(Engine):
    """containerd and its own command line."""

    name = "containerd"
    helpers: tuple[str, ...] = ("containerd-shim",)

    def begin(self) -> None:
        """Without the plugins that would want other parts of the host."""
        config = self.folder / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.run}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"]\n'
            f'[grpc]\n  address = "{self.run}/d.sock"\n[ttrpc]\n  address = "{self.run}/d.sock.ttrpc"\n'
        )
        # Its namespace names the cgroup above its containers.
        self.base = ["ctr", "-a", f"{self.run}/d.sock", "-n", f"corral-bench-{os.getpid()}"]
        self.start_daemon(["containerd", "--config", str(config)], self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.call("version"))
        except RuntimeError:
            return False

    def load(self, archive: Path) -> None:
        self.call("image", "import", str(archive))

    def run_words(self, name: str, *command: str) -> list[str]:
        return [*self.base, "run", "--rm", IMAGE, name, *command]

    def start_words(self, name: str) -> list[str]:
        return [*self.base, "run", "-d", IMAGE, name, *SLEEPER]

    def remove_words(self, name: str) -> list[list[str]]:
        return [[*self.base, "task", "rm", "-f", name], [*self.base, "container", "rm", name]]

    def exec_words(self, name: str, serial: int) -> list[str]:
        return [*self.base, "task", "exec", "--exec-id", f"e{serial}", name, "true"]

    def list_words(self) -> list[str]:
        return [*self.base, "task", "ls"]

    def stats_words(self) -> list[str]:
        return []

    def pull(self, reference: str) -> None:
        self.call("image", "pull", "--plain-http", reference)

    def forget(self, reference: str) -> None:
        self.call("image", "rm", "--sync", reference)


class Podman(Engine):
    """podman with storage of its own, and runc: crun refuses hybrid hierarchies."""

    name = "podman"
    helpers: tuple[str, ...] = ("conmon",)

    def __init__(self, folder: Path, run: Path) -> None:
        super().__init__(folder, run)
        os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
        os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
        # This machine does not give away CAP_SYS_RESOURCE: limits must not be raised.
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{run}/run"\n'
        )
        self.base = [
            "podman",
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--root",
            f"{folder}/root",
        ]
        self.base += ["--runroot", f"{run}/run", "--tmpdir", f"{run}/tmp", "--network-config-dir", f"{folder}/cni"]
        self.options = ["--network", "none", "--cgroup-parent", f"/corral-bench-{os.getpid()}-podman"]

    def remove_words(self, name: str) -> list[list[str]]:
        return [[*self.base, "rm", "-f", "-t", "0", name]]


class Docker(Engine):
    """dockerd with the containerd that it starts."""

    name = "docker"
    helpers: tuple[str, ...] = ("containerd-shim",)

    def begin(self) -> None:
        """Without any network of its own."""
        where = f"unix://{self.run}/d.sock"
        self.base = [shutil.which("docker") or "docker", "-H", where]
        self.options = ["--network", "none"]
        (self.folder / "daemon.json").write_text("{}")
        words = ["dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.run}/exec", "-H", where]
        words += ["--pidfile", f"{self.run}/pid", "--config-file", f"{self.folder}/daemon.json", "--bridge=none"]
        words += ["--iptables=false", "--ip6tables=false", "--exec-opt", "native.cgroupdriver=cgroupfs"]
        words += ["--cgroup-parent", f"/corral-bench-{os.getpid()}-docker"]
        self.start_daemon(words, self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.call("version"))
        except RuntimeError:
            return False

    def pull(self, reference: str) -> None:
        self.call("pull", "-q", reference)
