"""Runs single steps of the executor, without front and planner, through native/tests/test_step_driver.c."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from corral.runtime import wire
from corral.runtime.plan import FRONT, INIT, Plan

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "native-tests"
APPLETS = "sh cat cp echo env grep head id ls ln mkdir mount readlink rm sleep stat stty touch true wc hostname tty"

# mount(2) and mount_setattr(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 8, 32, 1024
MS_BIND, MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 4096, 16384, 1 << 17, 1 << 18, 1 << 19, 1 << 20
ATTR_RDONLY, ATTR_NOSUID, ATTR_NOEXEC = 1, 2, 8

# Options of MOUNT_FS and BIND
COPY_UP, ORDINARY, LATE_READONLY, SOURCE_IN_ROOT, MISSING_OK = 1, 16, 32, 64, 128
CLEARED_SHIFT = 32

OPTIONAL = 1

Step = tuple[Any, ...]


@functools.cache
def _build() -> str:
    """Build the C tests with ASan and UBSan, once; the compiler's complaint, or ''."""
    command = [sys.executable, str(ROOT / "native" / "build.py"), "--tests", "--out", str(OUT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return "" if result.returncode == 0 else result.stderr


def build_driver() -> Path:
    """The driver of single steps; CORRAL_STEP_DRIVER names one built elsewhere."""
    if ready := os.environ.get("CORRAL_STEP_DRIVER"):
        return Path(ready)
    assert _build() == ""
    return OUT / "test_step_driver"


def make_rootfs(path: Path) -> Path:
    """A rootfs with a static busybox and the usual empty directories."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (path / name).mkdir(parents=True)
    program = shutil.which("busybox")
    assert program is not None
    shutil.copy(program, path / "bin" / "busybox")
    for applet in APPLETS.split():
        (path / "bin" / applet).symlink_to("busybox")
    path.chmod(0o755)
    return path


class Result:
    """What became of the steps and of the command after them."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.strip()


class Bench:
    """A place to run steps: a scratch folder with a rootfs, and where to run (a private mount namespace or none)."""

    def __init__(self, folder: Path, *, namespaces: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.rootfs = folder / "rootfs"
        self.namespaces = namespaces
        self.environment: dict[str, str] = {}
        self.count = 0

    def root(self) -> list[Step]:
        """The steps that every container begins with."""
        return [("ROOT_PROPAGATION", MS_SLAVE | MS_REC), ("ROOTFS", str(self.rootfs), 0)]

    def command(self, steps: list[Step], *command: str, actor: int = INIT) -> list[str]:
        """The command line that runs ``steps``, then ``command`` among what they left."""
        plan = Plan()
        for op, *args in steps:
            flags = 0
            if isinstance(op, tuple):
                op, flags = op
            plan.add(actor, op, *args, flags=flags)
        self.count += 1
        file = self.folder / f"plan-{self.count}"
        file.write_bytes(wire.encode(plan))
        driver = [str(build_driver()), str(file), "init" if actor == INIT else "front", *command]
        return ["unshare", *self.namespaces, *driver] if self.namespaces else driver

    def run(self, steps: list[Step], *command: str, actor: int = INIT, **environment: str) -> Result:
        """Run ``steps`` as one actor in one process, then ``command``, if the steps went well."""
        env = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0", **self.environment, **environment}
        done = subprocess.run(
            self.command(steps, *command, actor=actor),
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Result(done)

    def inside(self, steps: list[Step], script: str) -> str:
        """What a shell prints in the new root after ``steps``; they must succeed, and so must the shell."""
        mounts = [*self.root(), *steps, ("PIVOT", 0)]
        result = self.run(mounts, "/bin/sh", "-euc", script, PATH="/bin")
        assert (result.status, result.err) == (0, ""), result.err
        return result.out

    def refused(self, steps: list[Step]) -> str:
        """The words with which ``steps``, in a fresh root, end; they must not succeed."""
        result = self.run([*self.root(), *steps])
        assert result.status == 1, result.out + result.err
        return result.err


def front(steps: list[Step]) -> dict[str, Any]:
    """Arguments for Bench.run of steps that belong to the front."""
    return {"steps": steps, "actor": FRONT}


def bind(source: object, target: str, flags: int = 0, **more: int) -> Step:
    """A BIND step; ``more``: attr_set, attr_clear, propagation, options, slot."""
    return (
        "BIND",
        str(source),
        target,
        MS_BIND | flags,
        more.get("attr_set", 0),
        more.get("attr_clear", 0),
        more.get("propagation", 0),
        more.get("options", 0),
        more.get("slot", -1),
    )


def mount_fs(kind: str, target: str, data: str = "", flags: int = 0, **more: int) -> Step:
    """A MOUNT_FS step; ``more``: attr_set, attr_clear, propagation, options."""
    return (
        "MOUNT_FS",
        kind,
        kind,
        target,
        data,
        flags,
        more.get("attr_set", 0),
        more.get("attr_clear", 0),
        more.get("propagation", 0),
        more.get("options", 0),
    )


PROC = mount_fs("proc", "/proc", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC, options=ORDINARY)
