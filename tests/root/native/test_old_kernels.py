"""The mount steps where the kernel knows less: before 5.12 (no mount_setattr), and without the new mount API."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from native.driver import (
    ATTR_RDONLY,
    COPY_UP,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    ORDINARY,
    PROC,
    Bench,
    bind,
    mount_fs,
)

pytestmark = [
    pytest.mark.requires("root", "cc", "busybox"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="the filter names system calls by number"
    ),
]

FSOPEN, MOUNT_SETATTR, FSMOUNT = 430, 442, 432
TABLE = "cat /proc/self/mountinfo"


@pytest.fixture(params=[(MOUNT_SETATTR,), (FSOPEN, MOUNT_SETATTR)], ids=["before-5.12", "no-fsopen"])
def old_bench(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """A bench on an older kernel."""
    bench.environment = {"DRIVER_REFUSE": ",".join(str(number) for number in request.param)}
    return bench


def last_line(text: str, target: str) -> str:
    """The last line of a mount table that is about ``target``."""
    return [line for line in text.splitlines() if line.split()[4:5] == [target]][-1]


def test_file_systems_have_their_options(old_bench: Bench) -> None:
    """tmpfs with data and flags, proc with its own."""
    steps = [PROC, mount_fs("tmpfs", "/data", "size=64k,mode=0751", MS_NOSUID | MS_RDONLY)]
    line = last_line(old_bench.inside(steps, TABLE), "/data")
    assert " /data ro,nosuid," in line
    assert "size=64k,mode=751" in line


def test_mode_of_the_covered_directory_is_kept(old_bench: Bench) -> None:
    """Also by way of mount(2)."""
    (old_bench.rootfs / "var").mkdir(mode=0o711)
    assert old_bench.inside([mount_fs("tmpfs", "/var", "size=64k")], "stat -c %a /var") == "711\n"


def test_shared_superblock_stays_writable(old_bench: Bench) -> None:
    """A read-only sysfs is a read-only mount of a writable superblock."""
    steps = [PROC, mount_fs("sysfs", "/sys", flags=MS_RDONLY, options=ORDINARY)]
    line = last_line(old_bench.inside(steps, TABLE), "/sys")
    assert " /sys ro," in line
    assert line.partition(" - sysfs ")[2].split()[1].split(",")[0] == "rw"


def test_copy_up_is_filled_then_read_only(old_bench: Bench) -> None:
    """tmpcopyup with ro."""
    (old_bench.rootfs / "etc" / "file").write_text("content\n")
    step = mount_fs("tmpfs", "/etc", flags=MS_RDONLY, options=COPY_UP)
    assert old_bench.inside([step], "cat /etc/file; touch /etc/new 2>/dev/null || echo refused") == "content\nrefused\n"


def test_bind_flags_and_propagation(old_bench: Bench, tmp_path: Path) -> None:
    """A read-only bind, and its propagation."""
    source = tmp_path / "source"
    source.mkdir()
    steps = [PROC, bind(source, "/data", MS_RDONLY | MS_NODEV, propagation=MS_PRIVATE | MS_REC)]
    assert " /data ro,nodev," in last_line(old_bench.inside(steps, TABLE), "/data")


def test_recursive_flags_are_refused(old_bench: Bench, tmp_path: Path) -> None:
    """rro cannot be had before 5.12, and must not be ignored."""
    text = old_bench.refused([bind(tmp_path, "/data", MS_REC, attr_set=ATTR_RDONLY)])
    assert text.endswith("set the flags of the mount and all below it: function not implemented")


def test_readonly_and_mask(old_bench: Bench) -> None:
    """Read-only and masked paths after the change of root, where /proc is the container's."""
    (old_bench.rootfs / "secret").write_text("secret\n")
    os.mknod(old_bench.rootfs / "dev" / "null", 0o020666, os.makedev(1, 3))
    after = [("READONLY", "/proc/sys"), ("MASK", "/secret"), ("REMOUNT", "/tmp", MS_BIND | MS_RDONLY, "")]
    after += [("READONLY_ROOT", 0)]
    steps = [*old_bench.root(), ("PRIVATE_PROC", 0), PROC, mount_fs("tmpfs", "/tmp"), ("PIVOT", 0), *after]
    script = f"cat /secret; {TABLE}; touch /tmp/x 2>/dev/null || echo refused"
    if old_bench.environment["DRIVER_REFUSE"].startswith(str(FSOPEN)):
        steps.remove(("MASK", "/secret"))
        script = script.removeprefix("cat /secret; ")
    result = old_bench.run(steps, "/bin/sh", "-euc", script, PATH="/bin")
    assert (result.status, result.err) == (0, "")
    assert " /proc/sys ro," in last_line(result.out, "/proc/sys")
    assert " / ro," in last_line(result.out, "/")
    assert result.out.endswith("refused\n")
    assert "secret\n" not in result.out.replace(" /secret ", "")


def test_detach(old_bench: Bench) -> None:
    """umount2 through the verified procfs."""
    steps = [mount_fs("tmpfs", "/tmp"), ("MKDIR", "/tmp/x", 0o755), ("DETACH", "/tmp")]
    assert old_bench.inside(steps, "ls /tmp") == ""
