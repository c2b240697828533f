"""What a test may require of the host: one table of probes, each of them harmless and asked at most once."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["PROBES", "lacking", "missing"]

# A probe answers "" if the thing is there, otherwise why not.
Probe = Callable[[], str]

_CAP_NET_ADMIN = 12
_SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}


def _root() -> str:
    return "" if os.geteuid() == 0 else "the tests run without root"


def _userns() -> str:
    command = ["unshare", "--user", "--map-current-user", "true"]
    if shutil.which(command[0]) is None:
        return "unshare is not installed"
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return "" if result.returncode == 0 else f"unshare says: {result.stderr.strip()}"


def _newuidmap() -> str:
    absent = [name for name in ("newuidmap", "newgidmap") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def _mounted(fstype: str) -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" - {fstype} " in line:
            return ""
    return f"no {fstype} is mounted"


def _realtime_groups() -> str:
    found = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists()
    return "" if found else "no v1 cpu controller with realtime limits (CONFIG_RT_GROUP_SCHED)"


def _kvm() -> str:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"open /dev/kvm: {error.strerror}"
    return ""


def _program(name: str) -> Probe:
    return lambda: "" if shutil.which(name) else f"{name} is not on PATH"


def _compiler() -> str:
    return "" if any(shutil.which(name) for name in ("cc", "gcc", "clang")) else "no C compiler is on PATH"


def _memory_policy() -> str:
    number = _SYS_SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        return "the system call's number on this machine is not in the table"
    libc = ctypes.CDLL(None, use_errno=True)
    # MPOL_DEFAULT with no nodes: what the process has already.
    if libc.syscall(number, 0, None, 0) == 0:
        return ""
    return f"set_mempolicy: {os.strerror(ctypes.get_errno())}"


def _net_admin() -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1:
            return ""
    return "CAP_NET_ADMIN is not in the effective set"


def _apparmor() -> str:
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        enabled = False
    return "" if enabled else "AppArmor is not enabled in this kernel"


def _selinux() -> str:
    return "" if Path("/sys/fs/selinux/enforce").exists() else "SELinux is not enabled in this kernel"


def _cni() -> str:
    absent = [name for name in ("ip", "iptables-save", "nsenter") if shutil.which(name) is None]
    if absent:
        return f"{absent[0]} is not on PATH"
    return "" if Path("/usr/lib/cni/bridge").exists() else "no CNI plugins in /usr/lib/cni"


PROBES: dict[str, Probe] = {
    "root": _root,
    "userns": _userns,
    "newuidmap": _newuidmap,
    "cgroup-v1": lambda: _mounted("cgroup"),
    "cgroup-v2": lambda: _mounted("cgroup2"),
    "cgroup-v2-only": lambda: "there are cgroup v1 hierarchies" if _mounted("cgroup") == "" else _mounted("cgroup2"),
    "cpu-rt": _realtime_groups,
    "kvm": _kvm,
    "runc": _program("runc"),
    "crun": _program("crun"),
    "podman": _program("podman"),
    "containerd": _program("containerd"),
    "dockerd": _program("dockerd"),
    "buildah": _program("buildah"),
    "busybox": _program("busybox"),
    "docker-registry": _program("docker-registry"),
    "cni": _cni,
    "pasta": _program("pasta"),
    "slirp4netns": _program("slirp4netns"),
    "skopeo": _program("skopeo"),
    "umoci": _program("umoci"),
    "htpasswd": _program("htpasswd"),
    "openssl": _program("openssl"),
    "groff": _program("groff"),
    "bash": _program("bash"),
    "zsh": _program("zsh"),
    "fish": _program("fish"),
    "cc": _compiler,
    "clang": _program("clang"),
    "musl-gcc": _program("musl-gcc"),
    "memory-policy": _memory_policy,
    "net-admin": _net_admin,
    "apparmor": _apparmor,
    "selinux": _selinux,
    "resctrl": lambda: _mounted("resctrl"),
}


@functools.cache
def lacking(name: str) -> str:
    """Say why this host lacks ``name``; '' if it has it. A name outside the table is a mistake in the test."""
    return PROBES[name]()


def missing(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return those of ``names`` that this host lacks, each with the reason."""
    return [(name, reason) for name in names if (reason := lacking(name))]
