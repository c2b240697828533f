"""The machine is what the cell's name says. Runs inside the guest only."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

HIERARCHY = os.environ.get("CORRAL_VM_HIERARCHY", "")
KERNEL = os.environ.get("CORRAL_VM_KERNEL", "")
IS_ROOTLESS = os.environ.get("CORRAL_VM_USER") == "rootless"
V2_CONTROLLERS = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}
V1_CONTROLLERS = {"cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "net_prio", "pids"}


def mounted(fstype: str) -> list[tuple[str, set[str]]]:
    """(mount point, options of the file system) of each mount of this type."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _source, options = right.split(" ", 2)
        if kind == fstype:
            found.append((left.split(" ")[4], set(options.split(","))))
    return found


def test_kernel_is_of_the_series() -> None:
    """The kernel that runs is the one that the cell names."""
    assert KERNEL == ".".join(os.uname().release.split(".")[:2])


def test_systemd_is_process_1() -> None:
    """PID 1 is systemd, and it got the system up."""
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    shown = subprocess.run(["systemctl", "is-active", "basic.target"], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "active\n"


def test_v2_has_every_controller() -> None:
    """On v2 nothing but cgroup2 is mounted, and it has all controllers."""
    if HIERARCHY == "v2":
        assert [point for point, _ in mounted("cgroup2")] == ["/sys/fs/cgroup"]
        assert mounted("cgroup") == []
        assert V2_CONTROLLERS - set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()) == set()
    else:
        assert [point for point, _ in mounted("cgroup2")] == ([] if HIERARCHY == "v1" else ["/sys/fs/cgroup/unified"])


def test_v1_has_every_controller() -> None:
    """On v1 and hybrid every controller is mounted as a v1 hierarchy."""
    held: set[str] = set().union(*(options for _, options in mounted("cgroup")))
    assert (V1_CONTROLLERS if HIERARCHY != "v2" else set()) - held == set()


@pytest.mark.parametrize("bus", ["--user"] if IS_ROOTLESS else ["--system"])
def test_bus_answers(bus: str) -> None:
    """The service manager of this user answers over D-Bus."""
    interface = ("org.freedesktop.systemd1.Manager", "Version")
    place = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    command = ["busctl", bus, "get-property", *place, *interface]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.stdout.startswith('s "252'), shown.stderr


def test_user_manager_delegates_a_subtree() -> None:
    """Rootless tests run in a subtree that their user may write."""
    if IS_ROOTLESS:
        assert os.geteuid() == 1000
        own = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2]
        base = {"v2": "/sys/fs/cgroup", "hybrid": "/sys/fs/cgroup/unified", "v1": "/sys/fs/cgroup/systemd"}[HIERARCHY]
        assert own.startswith("/user.slice/user-1000.slice/user@1000.service/")
        assert os.access(f"{base}{own}", os.W_OK)
    else:
        assert os.geteuid() == 0


def make_bundle(folder: Path) -> Path:
    """A bundle of runc's own default config, with busybox as its root."""
    root = folder / "rootfs"
    for name in ("bin", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    command = ["runc", "spec", *(["--rootless"] if IS_ROOTLESS else [])]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/busybox", "echo", "hello from a container"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_runc_runs_a_container(tmp_path: Path) -> None:
    """A runtime that is known to be good works here."""
    bundle = make_bundle(tmp_path)
    command = ["runc", "--root", str(tmp_path / "state"), "run", f"environment-{os.getpid()}"]
    shown = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=120)
    assert (shown.stdout, shown.returncode) == ("hello from a container\n", 0), shown.stderr


def test_corral_is_the_wheel() -> None:
    """`import corral` and corral-runtime are what the wheel installed, not a checkout."""
    import corral

    assert corral.__file__ is not None
    assert os.path.realpath(corral.__file__).startswith("/opt/corral/prefix/")
    shown = subprocess.run(["corral-runtime", "--version"], capture_output=True, text=True, timeout=60)
    assert shown.stdout.startswith("corral-runtime version "), shown.stderr


def test_clock_is_sane() -> None:
    """The guest's clock is set: certificates, leases and records would be in 1970 otherwise."""
    assert time.gmtime().tm_year >= 2025
