"""The containers that the sweep makes: small ones that between them use every step of the executor."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance import spec as specs
from probes import lacking
from sweep.world import World

Spec = specs.Spec


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of container: edits of the config, flags of create and run, and what must be there meanwhile."""

    name: str
    edit: Callable[[Spec, Path], None]
    flags: tuple[str, ...] = ()
    global_args: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    is_rootless: bool = False
    env: tuple[tuple[str, str], ...] = ()


def _plain(spec: Spec, path: Path) -> None:
    spec["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 64}}


def _hooks(spec: Spec, path: Path) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    spec["hooks"] = {kind: [{"path": "/bin/true"}] for kind in kinds}
    spec["hooks"]["poststop"] = [{"path": "/bin/sh", "args": ["sh", "-c", f"echo poststop >> {path}/hooks.txt"]}]
    spec["annotations"] = {"run.oci.hooks.stdout": "/dev/null"}


def _user(spec: Spec, path: Path) -> None:
    specs.map_ids(spec, 100000)
    (path / "mapped").mkdir(exist_ok=True)
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    mount = specs.add_bind(spec, str(path / "mapped"), "/mnt")
    mount |= {"uidMappings": ids, "gidMappings": ids}
    specs.add_bind(spec, str(path / "mapped"), "/home", "ro")


def _console(spec: Spec, path: Path) -> None:
    spec["process"] |= {"terminal": True, "consoleSize": {"height": 20, "width": 60}}


def _joined(spec: Spec, path: Path) -> None:
    """Network and IPC are another process's; its own time."""
    specs.add_namespace(spec, "time")
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 100}}


def _settings(spec: Spec, path: Path) -> None:
    specs.add_namespace(spec, "network")
    spec |= {"hostname": "swept", "domainname": "example"}
    spec["root"]["readonly"] = True
    spec["process"] |= {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "oomScoreAdj": 500,
        "noNewPrivileges": True,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 1},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
        "execCPUAffinity": {"initial": "0", "final": "0"},
        "user": {"uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [5]},
        "env": ["PATH=/bin"],
        "cwd": "/tmp",
    }
    spec["linux"] |= {
        "sysctl": {"net.ipv4.ip_forward": "0"},
        "maskedPaths": ["/proc/kcore", "/proc/acpi"],
        "readonlyPaths": ["/proc/sys"],
        "personality": {"domain": "LINUX"},
        "rootfsPropagation": "shared",
        "devices": [{"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237}],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": str(path / "seccomp.sock"),
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
        },
    }
    # Unknown, so it is ignored with a warning, as the specification says.
    spec["process"]["capabilities"]["bounding"].append("CAP_UNKNOWN")
    if not lacking("memory-policy"):
        spec["linux"]["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0"}
    specs.add_mount(spec, "/run", "tmpfs", "tmpfs", "tmpcopyup", "size=65536")
    specs.add_mount(spec, "/sys", "sysfs", "sysfs", "ro")
    specs.add_mount(spec, "/sys/fs/cgroup", "cgroup", "cgroup", "ro")


def _notify(spec: Spec, path: Path) -> None:
    spec["linux"].pop("resources", None)


def _nothing(spec: Spec, path: Path) -> None:
    spec["linux"].pop("resources", None)
    spec["linux"].pop("cgroupsPath", None)


SCENES = {
    scene.name: scene
    for scene in (
        Scene("plain", _plain, ("--pid-file", "{path}/pid")),
        Scene("hooks", _hooks),
        Scene("user", _user),
        Scene("console", _console, ("--console-socket", "{path}/console.sock"), sockets=("console.sock",)),
        Scene("joined", _joined, namespaces=("network", "ipc")),
        Scene("settings", _settings, ("--pidfd-socket", "{path}/pidfd.sock"), sockets=("pidfd.sock", "seccomp.sock")),
        Scene("notify", _notify, sockets=("ready.dgram",), env=(("NOTIFY_SOCKET", "{path}/ready.dgram"),)),
        Scene("disabled", _nothing, global_args=("--cgroup-manager", "disabled")),
        Scene("rootless", _nothing, is_rootless=True),
    )
}


def make_spec(scene: Scene, path: Path, holder: int, user: int) -> Spec:
    """The config of a scene; ``holder`` is the process whose namespaces are joined."""
    spec = specs.base_spec()
    spec["linux"]["cgroupsPath"] = "to be named"
    spec["process"]["args"] = ["/bin/true"]
    if scene.is_rootless:
        specs.rootless(spec, user, user)
    scene.edit(spec, path)
    names = {"network": "net", "ipc": "ipc"}
    for kind in scene.namespaces:
        specs.add_namespace(spec, kind, f"/proc/{holder}/ns/{names[kind]}")
    return spec


class Listeners:
    """Sockets that take what the front sends, and close it."""

    def __init__(self, world: World, scene: Scene) -> None:
        self.sockets: list[socket.socket] = []
        for name in scene.sockets:
            is_datagram = name.endswith(".dgram")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM)
            path = world.path / name
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            if not is_datagram:
                listener.listen(64)
            listener.setblocking(False)
            self.sockets.append(listener)

    def drain(self) -> None:
        """Take and close all that came; descriptors that were sent go with it."""
        for listener in self.sockets:
            with contextlib.suppress(BlockingIOError):
                while listener.type == socket.SOCK_DGRAM:
                    listener.recv(4096)
                while True:
                    listener.accept()[0].close()

    def close(self) -> None:
        """Stop listening."""
        self.drain()
        for listener in self.sockets:
            listener.close()


@contextlib.contextmanager
def surroundings(world: World, scene: Scene) -> Iterator[tuple[int, Listeners]]:
    """The process whose namespaces are joined (0: none), and the listening sockets."""
    listeners = Listeners(world, scene)
    holder: subprocess.Popen[Any] | None = None
    if scene.namespaces:
        command = ["unshare", "--net", "--ipc", "sh", "-c", "echo ready; exec sleep 100000"]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        world.allowed |= {holder.pid}
    try:
        yield (holder.pid if holder else 0), listeners
    finally:
        listeners.close()
        if holder is not None:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
