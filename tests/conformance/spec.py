"""The config.json that every case starts from, and the small edits that cases make to it.

Plain data and pure functions: nothing here touches the system.
"""

from __future__ import annotations

import copy
from typing import Any

Spec = dict[str, Any]

DEFAULT_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")

_BASE: Spec = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {
            "bounding": list(DEFAULT_CAPABILITIES),
            "effective": list(DEFAULT_CAPABILITIES),
            "permitted": list(DEFAULT_CAPABILITIES),
        },
        "noNewPrivileges": False,
    },
    "root": {"path": "rootfs", "readonly": False},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
    ],
    "linux": {
        "namespaces": [
            {"type": "pid"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "cgroup"},
        ],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
    },
}


def base_spec() -> Spec:
    """A fresh copy of the smallest config in which a shell works as in an ordinary container."""
    return copy.deepcopy(_BASE)


def add_namespace(spec: Spec, kind: str, path: str | None = None) -> None:
    """Ask for a namespace of this kind, new or by path, in place of what the spec says about it."""
    drop_namespace(spec, kind)
    entry: Spec = {"type": kind}
    if path is not None:
        entry["path"] = path
    spec["linux"]["namespaces"].append(entry)


def drop_namespace(spec: Spec, kind: str) -> None:
    """Share the caller's namespace of this kind."""
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != kind]


def add_mount(spec: Spec, destination: str, kind: str, source: str, *options: str) -> Spec:
    """Append a mount and return its entry, for the rarer properties."""
    entry: Spec = {"destination": destination, "type": kind, "source": source}
    if options:
        entry["options"] = list(options)
    spec["mounts"].append(entry)
    return entry


def add_bind(spec: Spec, source: str, destination: str, *options: str) -> Spec:
    """Append a bind mount; `bind` itself is added unless `rbind` is among the options."""
    kind = () if "rbind" in options else ("bind",)
    return add_mount(spec, destination, "bind", source, *kind, *options)


def drop_mount(spec: Spec, destination: str) -> None:
    """Take away the mount on this destination."""
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != destination]


def map_ids(spec: Spec, host_id: int, size: int = 65536, container_id: int = 0) -> None:
    """Ask for a new user namespace with one range for users and the same one for groups."""
    add_namespace(spec, "user")
    entry = {"containerID": container_id, "hostID": host_id, "size": size}
    spec["linux"]["uidMappings"] = [dict(entry)]
    spec["linux"]["gidMappings"] = [dict(entry)]


def set_capabilities(spec: Spec, *names: str, ambient: bool = False) -> None:
    """Put these names in bounding, effective and permitted (and inheritable and ambient)."""
    sets = ["bounding", "effective", "permitted"] + (["inheritable", "ambient"] if ambient else [])
    spec["process"]["capabilities"] = {kind: list(names) for kind in sets}


def rootless(spec: Spec, uid: int, gid: int) -> None:
    """Turn the spec into one that an unprivileged user may run: only their own id is mapped."""
    add_namespace(spec, "user")
    spec["linux"]["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    spec["linux"].pop("resources", None)
    spec["linux"].pop("cgroupsPath", None)
