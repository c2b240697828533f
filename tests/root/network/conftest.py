"""A host of its own for the engine's networks: a network namespace, /run and /dev/net of its own, real CNI plugins."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callers.children import children_of
from conformance.orphans import adopting_orphans
from root.engine.conftest import eventually, remove_groups

# Not the one of .venv: a user's container of the host's root sees nothing below a closed directory, as /root is.
PYTHON = str(Path(sys.executable).resolve())
PROGRAM = Path(__file__).resolve().parents[3] / "build" / "bin" / "corral"
TIMEOUT_S = 120
USER = 48723
FIRST_SUBID, SUBIDS = 1000000, 65536
# The address of the host towards the world, which is the other end of a pair.
ADDRESS, CLIENT = "192.0.2.5", "192.0.2.6"
_PREPARE = f"""set -e
ip link set lo up
ip link add up0 type veth peer name up1
ip address add {ADDRESS}/24 dev up0
ip address add {CLIENT}/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 192.0.2.1
mount -t tmpfs none /run
[ ! -d /etc/cni ] || mount -t tmpfs none /etc/cni
mount -t tmpfs none /dev/net
mknod -m 666 /dev/net/tun c 10 200
for file in passwd subuid subgid; do
    [ ! -e "$1/etc/$file" ] || mount --bind "$1/etc/$file" "/etc/$file"
done
echo ready
exec sleep 100000
"""
_ASK = """
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as s:
    s.settimeout(5)
    s.bind((sys.argv[4], 0))
    s.connect((host, port))
    s.sendall(b"hello")
    print(s.recv(100).decode())
"""
# Says who it is to whoever asks.
SERVE = """
import socket, sys, threading
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 80))
    while True:
        _, peer = s.recvfrom(100); s.sendto(sys.argv[1].encode(), peer)
threading.Thread(target=udp, daemon=True).start()
s = socket.create_server(("", 80)); print("listening", flush=True)
while True:
    c, _ = s.accept(); c.recv(100); c.sendall(sys.argv[1].encode()); c.close()
"""


class Host:
    """``host("run", ...)`` is the program ``corral`` there; ``host.inside("ip", "link")`` any other."""

    def __init__(self, path: Path, mark: str, *, is_rootless: bool = False) -> None:
        self.path = path
        self.mark = mark
        self.is_rootless = is_rootless
        self.store = path / "store"
        # What other suites in this session keep running is theirs to wait for.
        self._others = set(children_of(os.getpid()))
        for name in ("etc", "home", "run", "store"):
            (path / name).mkdir()
        if is_rootless:
            self._make_user()
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _PREPARE, "sh", str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"

    def _make_user(self) -> None:
        for name in ("home", "run", "store"):
            os.chown(self.path / name, USER, USER)
        line = f"rootless:x:{USER}:{USER}::/:/bin/sh\n"
        (self.path / "etc" / "passwd").write_text(Path("/etc/passwd").read_text() + line)
        for name in ("subuid", "subgid"):
            (self.path / "etc" / name).write_text(f"rootless:{FIRST_SUBID}:{SUBIDS}\n")

    def inside(
        self, *words: str, code: int | None = 0, is_user: bool = False, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the place; ``code`` None: any exit code is fine."""
        become = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"] if is_user else []
        done = subprocess.run(
            ["nsenter", "-t", str(self._holder.pid), "-n", "-m", f"--wd={self.path}", *become, *words],
            env={**os.environ, "CORRAL_CGROUP_PARENT": f"/{self.mark}", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def __call__(
        self, *words: str, code: int | None = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        own = {"HOME": str(self.path / "home"), "XDG_RUNTIME_DIR": str(self.path / "run"), **(env or {})}
        command = [str(PROGRAM), "--store", str(self.store), *words]
        return self.inside(*command, code=code, is_user=self.is_rootless, env=own)

    def serve(self, name: str, *words: str) -> str:
        """A container that answers with its name on port 80 of both protocols, once it does; its id."""
        command = ["--", PYTHON, "-c", SERVE, name]
        made = self("run", "-d", "--name", name, *words, "host", *command).stdout.strip()
        eventually(lambda: "listening" in self("logs", name).stdout)
        return made

    def ask(self, address: str, port: int, protocol: str = "tcp", *, source: str = "") -> str:
        """What answers there, asked from the host, by its address ``source``."""
        return self.inside(sys.executable, "-c", _ASK, address, str(port), protocol, source).stdout.strip()

    def ask_from(self, container: str, address: str, port: int = 80, *, code: int | None = 0) -> str:
        """What answers there, asked from a container."""
        words = (PYTHON, "-c", _ASK, address, str(port), "tcp", "")
        return self("exec", container, *words, code=code).stdout.strip()

    def address(self, container: str, network: str = "") -> str:
        """The container's first address, or that on one network."""
        rows = self.network_of(container)["networks"]
        found = next(row for row in rows if network in ("", row["name"]))
        return str(found["addresses"][0].partition("/")[0])

    def network_of(self, container: str) -> dict[str, Any]:
        """``network_result`` of inspect."""
        found: dict[str, Any] = json.loads(self("inspect", container).stdout)[0]["network_result"]
        return found

    def rests(self, container_id: str = "") -> list[str]:
        """What networks have left on the host: names, devices, rules, addresses in use."""
        found = [f"netns {name}" for name in self.inside("ls", "-A", "/run/netns", code=None).stdout.split()]
        links = self.inside("ip", "-o", "link").stdout.splitlines()
        found += [line for line in links if ": veth" in line or ": cr" in line]
        rules = self.inside("iptables-save").stdout.splitlines()
        found += [line for line in rules if (container_id and container_id in line) or "-d 10." in line]
        leases = (self.store / "run" / "networks").glob("*/[0-9]*")
        return found + [f"address {path}" for path in leases]

    def close(self) -> None:
        """Remove the containers, end the keeper, which has nothing more to do then, and the place."""
        try:
            for name in self("ps", "-aq").stdout.split():
                self("rm", "-f", name)
            self._end_keeper()
        finally:
            self._holder.kill()
            self._holder.wait()
            assert self._holder.stdout is not None
            self._holder.stdout.close()
            # What the keeper still ran, to follow up an end, is ours to wait for.
            eventually(self._has_no_children)
        remove_groups(self.mark)

    def _has_no_children(self) -> bool:
        """Whether all have ended that came to this process since the host began, and have been waited for."""
        ours = set(children_of(os.getpid())) - self._others
        for pid in ours:
            os.waitpid(pid, os.WNOHANG)
        return not ours

    def _end_keeper(self) -> None:
        lock = self.store / "run" / "keeper.lock"
        pid = lock.read_text().strip() if lock.exists() else ""
        comm = Path(f"/proc/{pid}/comm")
        if pid and comm.exists() and comm.read_text().startswith("corral-keeper"):
            os.kill(int(pid), signal.SIGTERM)
            until = time.monotonic() + TIMEOUT_S
            while os.waitpid(int(pid), os.WNOHANG)[0] == 0:
                assert time.monotonic() < until
                time.sleep(0.01)


def make_host(mark: str, *, is_rootless: bool = False) -> Iterator[Host]:
    """A host, which is taken apart afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"{mark}-", dir="/tmp"))
    path.chmod(0o755)
    # The keeper's group cannot be removed before somebody has waited for it, and pid 1 may take its time.
    with adopting_orphans():
        made = Host(path, mark, is_rootless=is_rootless)
        yield made
        made.close()
    shutil.rmtree(path)


@pytest.fixture
def host(mark: str, no_leaks: None) -> Iterator[Host]:
    """A host of root's."""
    yield from make_host(mark)
