"""Mounts while somebody swaps the directories under our feet, and mounts from a more privileged namespace."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

from native.driver import (
    ATTR_RDONLY,
    CLEARED_SHIFT,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    OPTIONAL,
    ORDINARY,
    Bench,
    Result,
    bind,
    mount_fs,
)

pytestmark = pytest.mark.requires("root", "cc", "busybox")

AT_FDCWD = -100
RENAME_EXCHANGE = 2


class Swapper:
    """Exchanges two paths until told to stop."""

    def __init__(self, one: Path, two: Path) -> None:
        self.paths = (os.fsencode(one), os.fsencode(two))
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.swap)

    def swap(self) -> None:
        while not self.stop.is_set():
            self.libc.renameat2(AT_FDCWD, self.paths[0], AT_FDCWD, self.paths[1], RENAME_EXCHANGE)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join()


def test_racing_symlink_never_moves_a_mount_out_of_the_rootfs(bench: Bench) -> None:
    """CVE-2021-30465: a volume's directory exchanged with a link to "/" while mounts are made below it."""
    volume, outside = bench.rootfs / "volume", bench.folder / "outside"
    (volume / "dir" / "target").mkdir(parents=True)
    (volume / "link").symlink_to(f"/../../../../../../..{outside}")
    (outside / "target").mkdir(parents=True)
    steps = [
        (("MOUNT_FS", OPTIONAL), *mount_fs("tmpfs", f"/volume/dir/{name}")[1:]) for name in ["target", "new"] * 150
    ]
    steps += [(("MKDIR", OPTIONAL), f"/volume/dir/made-{number}", 0o755) for number in range(150)]
    with Swapper(volume / "dir", volume / "link"):
        result = bench.run([*bench.root(), *steps], "cat", "/proc/self/mountinfo")
    assert result.status == 0, result.err
    assert [line for line in result.out.splitlines() if f" {outside}" in line] == []
    assert sorted(os.listdir(outside)) == ["target"]
    # They lie below the rootfs: in the directory, or where the link leads inside of it.
    made = [
        line.split()[4] for line in result.out.splitlines() if " - tmpfs tmpfs " in line and str(bench.folder) in line
    ]
    assert made != []
    assert [path for path in made if not path.startswith(f"{bench.rootfs}/")] == []


def test_racing_rename_out_of_the_rootfs_is_noticed(bench: Bench) -> None:
    """A directory exchanged with another place: what was mounted elsewhere is an error, never a success in silence."""
    one, two = bench.rootfs / "one", bench.rootfs / "two"
    for place in (one, two):
        (place / "target").mkdir(parents=True)
    steps = [(("MOUNT_FS", OPTIONAL), *mount_fs("tmpfs", "/one/target")[1:]) for _ in range(200)]
    with Swapper(one, two):
        result = bench.run([*bench.root(), *steps])
    assert result.status == 0, result.err
    for line in result.err.splitlines():
        assert "mount tmpfs on /one/target: " in line


# ---- user namespaces -------------------------------------------------------------------------------------------------


def in_userns(bench: Bench, prepare: str, steps: list[tuple[object, ...]], *command: str) -> Result:
    """Run ``steps`` as root of a user namespace whose mounts come, locked, from a namespace where ``prepare`` ran."""
    driver = bench.command(steps, *command)
    line = " ".join(f"'{word}'" for word in driver)
    script = f"set -e; {prepare}; exec unshare --user --map-root-user --mount --pid --fork {line}"
    outer = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    env = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(outer, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return Result(done)


@pytest.fixture
def plain_bench(tmp_path: Path, bench: Bench) -> Bench:
    """A bench whose folder root of any user namespace can pass through."""
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    bench.namespaces = ()
    return bench


def prepared(bench: Bench) -> str:
    """Shell commands that mount a tmpfs with nosuid, nodev, noexec and ro on the scratch folder's `locked`."""
    locked = bench.folder / "locked"
    locked.mkdir()
    return f"mount -t tmpfs -o nosuid,nodev,noexec,ro,mode=755 tmpfs {locked}"


def test_locked_flags_stay_on_a_bind(plain_bench: Bench) -> None:
    """In a user namespace the flags of the source that the kernel has locked survive a bind that names others."""
    steps = [*plain_bench.root(), bind(plain_bench.folder / "locked", "/data", MS_NOSUID)]
    result = in_userns(plain_bench, prepared(plain_bench), steps, "cat", "/proc/self/mountinfo")
    assert (result.status, result.err) == (0, "")
    line = [line for line in result.out.splitlines() if f" {plain_bench.rootfs}/data " in line][-1]
    assert line.split()[5].split(",")[:4] == ["ro", "nosuid", "nodev", "noexec"]


def test_locked_flag_cleared_in_words_is_refused(plain_bench: Bench) -> None:
    """`rw` on a source that is locked read-only is an error, not a read-only mount."""
    options = ATTR_RDONLY << CLEARED_SHIFT
    steps = [*plain_bench.root(), bind(plain_bench.folder / "locked", "/data", MS_NOSUID, options=options)]
    result = in_userns(plain_bench, prepared(plain_bench), steps)
    assert result.err.endswith("set the mount's flags, some of which are locked: operation not permitted")


def test_read_only_is_added_to_locked_flags(plain_bench: Bench) -> None:
    """ro on a bind in a user namespace, and READONLY on a path below it."""
    prepare = f"{prepared(plain_bench)}; mount -o remount,bind,rw,nosuid,nodev {plain_bench.folder}/locked || true"
    steps = [*plain_bench.root(), bind(plain_bench.folder / "locked", "/data", MS_RDONLY), ("READONLY", "/data")]
    result = in_userns(plain_bench, prepare, steps, "cat", "/proc/self/mountinfo")
    assert (result.status, result.err) == (0, "")
    lines = [line for line in result.out.splitlines() if f" {plain_bench.rootfs}/data " in line]
    assert [line.split()[5].split(",")[:3] for line in lines] == [["ro", "nosuid", "nodev"]] * 2


def test_remount_keeps_locked_flags(plain_bench: Bench) -> None:
    """A REMOUNT with MS_BIND in a user namespace cannot drop nodev, and does not have to be told."""
    steps = [*plain_bench.root(), bind(plain_bench.folder / "locked", "/data")]
    steps += [("REMOUNT", "/data", MS_BIND | MS_RDONLY, "")]
    result = in_userns(plain_bench, prepared(plain_bench), steps, "cat", "/proc/self/mountinfo")
    assert (result.status, result.err) == (0, "")
    line = [line for line in result.out.splitlines() if f" {plain_bench.rootfs}/data " in line][-1]
    assert "ro,nosuid,nodev,noexec" in line


def test_sysfs_with_the_hosts_network_is_refused(plain_bench: Bench) -> None:
    """The kernel lets only the owner of a network namespace mount sysfs; the error says so plainly."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    steps = [*plain_bench.root(), mount_fs("sysfs", "/sys", flags=flags, options=ORDINARY)]
    result = in_userns(plain_bench, "true", steps)
    assert result.err == "mount sysfs on /sys: operation not permitted"


def test_device_becomes_a_bind_in_a_user_namespace(plain_bench: Bench) -> None:
    """MKNOD falls back on the host's own node of that number, and on nothing else."""
    null = ("MKNOD", "/dev/null", 0o020666, os.makedev(1, 3), 0, 0)
    steps = [*plain_bench.root(), null, ("PIVOT", 0)]
    plain_bench.rootfs.chmod(0o777)
    (plain_bench.rootfs / "dev").chmod(0o777)
    result = in_userns(plain_bench, "true", steps, "/bin/stat", "-c", "%t:%T", "/dev/null")
    assert (result.err, result.out) == ("", "1:3\n")
    false = ("MKNOD", "/dev/zero", 0o020666, os.makedev(1, 3), 0, 0)
    text = in_userns(plain_bench, "true", [*plain_bench.root(), false]).err
    assert text == "create device /dev/zero: make the device '/dev/zero': operation not permitted"


def test_readonly_root_in_a_user_namespace(plain_bench: Bench) -> None:
    """READONLY_ROOT works on mounts with locked flags."""
    steps = [*plain_bench.root(), ("PIVOT", 0), ("READONLY_ROOT", 0)]
    result = in_userns(plain_bench, "true", steps, "/bin/sh", "-c", "touch /x 2>/dev/null || echo refused")
    assert result.out == "refused\n"
