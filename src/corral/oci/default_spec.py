"""The config.json that the ``spec`` command writes: a shell, confined as runc's default is.

Pure: the caller knows who it is and what the host has.

Source: runtime-spec config.md "Configuration schema example"; members and values as users of ``runc spec`` know them.
"""

from __future__ import annotations

from corral.oci.features import OCI_VERSION_MAX
from corral.oci.hidden import MASKED_PATHS, READONLY_PATHS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.spec import Linux, Mount, Namespace, Process, Spec

# What even root may keep in the default container.
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def default_spec(*, rootless: bool, uid: int, gid: int, has_cgroup_namespace: bool = False) -> Spec:
    """A complete configuration with ``rootfs`` beside it as root.

    ``rootless`` maps root inside to ``uid`` and ``gid`` of the host (otherwise unused), and avoids what an unprivileged
    user may not do: a sysfs of its own, a terminal group, limits. ``has_cgroup_namespace`` adds one; runc does so on
    hosts with cgroup v2 alone.
    """
    return {
        "ociVersion": OCI_VERSION_MAX,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "corral",
        "mounts": _mounts(rootless),
        "linux": _linux(rootless, uid, gid, has_cgroup_namespace),
    }


def _process() -> Process:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        # Not ambient: the kernel raises only what is inheritable too, and the default gives nothing to inherit.
        "capabilities": {
            "bounding": list(_CAPABILITIES),
            "effective": list(_CAPABILITIES),
            "permitted": list(_CAPABILITIES),
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    mount: Mount = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = list(options)
    return mount


def _mounts(rootless: bool) -> list[Mount]:
    pts_options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not rootless:
        pts_options.append("gid=5")  # the group tty, which a single mapping does not contain
    if rootless:
        # A new sysfs needs a network namespace owned by the same user namespace.
        sys = _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    else:
        sys = _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *pts_options),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        sys,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
    ]


def _linux(rootless: bool, uid: int, gid: int, has_cgroup_namespace: bool) -> Linux:
    kinds = ["pid", "ipc", "uts", "mount"] if rootless else ["pid", "network", "ipc", "uts", "mount"]
    if has_cgroup_namespace:
        kinds.append("cgroup")
    if rootless:
        kinds.append("user")
    namespaces: list[Namespace] = [{"type": kind} for kind in kinds]
    linux: Linux = {}
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = namespaces
    linux["maskedPaths"] = list(MASKED_PATHS)
    linux["readonlyPaths"] = list(READONLY_PATHS)
    return linux
