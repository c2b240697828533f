"""ROOT_PROPAGATION, ROOTFS, PIVOT, READONLY_ROOT, PROPAGATE_ROOT, MKDIR, SYMLINK, MKNOD and CONSOLE."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from native.driver import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, PROC, Bench, Step, bind, mount_fs

pytestmark = pytest.mark.requires("root", "cc", "busybox")

SHELL = ("/bin/sh", "-euc")
CHAR = 0o020000
FIFO = 0o010000


def run_in(bench: Bench, steps: list[Step], script: str) -> str:
    """What a shell prints after exactly these steps; all must go well."""
    result = bench.run(steps, *SHELL, script, PATH="/bin")
    assert (result.status, result.err) == (0, ""), result.err
    return result.out


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["pivot_root", "move", "chroot"])
def test_root_is_the_rootfs(bench: Bench, mode: int) -> None:
    """All three ways end at "/" of the rootfs, with the working directory there."""
    (bench.rootfs / "here").touch()
    assert run_in(bench, [*bench.root(), PROC, ("PIVOT", mode)], "test -e /here; pwd; ls / | grep -c here") == "/\n1\n"


def test_old_root_is_gone_after_pivot(bench: Bench) -> None:
    """No mount of the host is left in the container's table, and its root has no parent to climb to."""
    table = run_in(bench, [*bench.root(), PROC, ("PIVOT", 0)], "cat /proc/self/mountinfo; ls /../../../bin >/dev/null")
    assert [line.split()[4] for line in table.splitlines()] == ["/", "/proc"]


def test_moved_root_leaves_no_procfs_of_the_host(bench: Bench) -> None:
    """With MS_MOVE the host's tree stays below, but its proc and sysfs are unmounted or covered first."""
    table = run_in(bench, [*bench.root(), PROC, ("PIVOT", 1)], "cat /proc/self/mountinfo")
    assert [line.split()[4] for line in table.splitlines() if " - proc " in line] == ["/proc"]


def test_read_only_image_needs_no_directory_for_the_old_root(bench: Bench) -> None:
    """pivot_root(".", ".") makes nothing in the image."""
    before = sorted(os.listdir(bench.rootfs))
    run_in(bench, [*bench.root(), ("PIVOT", 0), ("READONLY_ROOT", 0)], "true")
    assert sorted(os.listdir(bench.rootfs)) == before


def test_readonly_root_is_read_only(bench: Bench) -> None:
    """READONLY_ROOT makes "/" read-only and leaves other mounts writable."""
    steps = [*bench.root(), mount_fs("tmpfs", "/tmp"), ("PIVOT", 0), ("READONLY_ROOT", 0)]
    assert run_in(bench, steps, "touch /x 2>/tmp/x || echo refused") == "refused\n"


def test_rootfs_propagation_is_set_last(bench: Bench) -> None:
    """PROPAGATE_ROOT: a shared root is shared in the container's table."""
    steps = [*bench.root(), PROC, ("PIVOT", 0), ("PROPAGATE_ROOT", MS_SHARED)]
    line = run_in(bench, steps, "grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo").splitlines()[0]
    assert " shared:" in line


def test_root_propagation_cuts_the_way_to_the_host(bench: Bench) -> None:
    """A mount made after ROOT_PROPAGATION(slave) does not reach the peer namespace; private ends both ways."""
    table = bench.run([("ROOT_PROPAGATION", MS_PRIVATE | MS_REC)], "cat", "/proc/self/mountinfo").out
    assert "shared:" not in table
    assert "master:" not in table


def test_bad_propagation_is_refused(bench: Bench) -> None:
    """Two kinds at once make no sense to the kernel."""
    result = bench.run([("ROOT_PROPAGATION", MS_SHARED | MS_SLAVE)])
    assert result.err == "set the propagation of /: set the propagation of '/': invalid argument"


def test_missing_rootfs_is_named(bench: Bench) -> None:
    """ENOENT with the path."""
    result = bench.run([("ROOTFS", "/no/such/rootfs", 0)])
    assert (
        result.err == "prepare the rootfs /no/such/rootfs: open the rootfs '/no/such/rootfs': no such file or directory"
    )


def test_rootfs_mounts_below_it_come_along(bench: Bench) -> None:
    """The rootfs is bound recursively: what the caller mounted there is in the container."""
    inner = bench.rootfs / "tmp"
    steps = [("ROOT_PROPAGATION", MS_SLAVE | MS_REC), ("ROOTFS", str(inner), 1), ("MKDIR", "/x", 0o755)]
    steps += [mount_fs("tmpfs", "/x"), ("MKDIR", "/x/y", 0o755), ("ROOTFS", str(bench.rootfs), 0), ("PIVOT", 0)]
    assert run_in(bench, steps, "ls /tmp/x") == "y\n"


def test_pivot_without_a_rootfs_is_refused(bench: Bench) -> None:
    """A plan without ROOTFS cannot change the root."""
    assert "there is no rootfs" in bench.run([("PIVOT", 0)]).err


# ---- entries ----------------------------------------------------------------------------------------------------


def test_device_has_number_mode_and_owner(bench: Bench) -> None:
    """MKNOD, whatever the caller's umask."""
    old = os.umask(0o077)
    try:
        out = bench.inside(
            [
                ("MKNOD", "/dev/deep/zero", CHAR | 0o666, os.makedev(1, 5), 3, 4),
                ("MKNOD", "/dev/pipe", FIFO | 0o640, 0, 0, 0),
            ],
            "stat -c '%t:%T %a %u %g' /dev/deep/zero; stat -c '%F %a' /dev/pipe",
        )
    finally:
        os.umask(old)
    assert out == "1:5 666 3 4\nfifo 640\n"


def test_same_device_that_exists_is_fine(bench: Bench) -> None:
    """It is left as it is."""
    os.mknod(bench.rootfs / "dev" / "null", CHAR | 0o600, os.makedev(1, 3))
    step = ("MKNOD", "/dev/null", CHAR | 0o666, os.makedev(1, 3), 0, 0)
    assert bench.inside([step], "stat -c %a /dev/null") == "600\n"


def test_something_else_at_a_devices_place_is_refused(bench: Bench) -> None:
    """Neither a file nor a link to something precious is taken for the device."""
    (bench.rootfs / "dev" / "null").symlink_to("/etc/precious")
    (bench.rootfs / "etc" / "precious").write_text("kept")
    text = bench.refused([("MKNOD", "/dev/null", CHAR | 0o666, os.makedev(1, 3), 7, 7)])
    assert text == "create device /dev/null: '/dev/null' is there and is not this device: file exists"
    assert (bench.rootfs / "etc" / "precious").stat().st_uid == 0


# ---- console -----------------------------------------------------------------------------------------------------

DEVPTS = mount_fs("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620")


def test_console_is_a_pty_of_the_containers_devpts(bench: Bench) -> None:
    """/dev/console is that pty, of the size asked for, without ONLCR."""
    script = (
        "stat -c %t /dev/console; stty size < /dev/console; stty -a < /dev/console | grep -o -- '-onlcr'; ls /dev/pts"
    )
    out = bench.inside([DEVPTS, ("CONSOLE", 33, 101, 1, 66)], script)
    assert out == "88\n33 101\n-onlcr\n0\nptmx\n"


def test_console_without_bind_makes_no_node(bench: Bench) -> None:
    """exec opens a pty but covers nothing."""
    assert bench.inside([DEVPTS, ("CONSOLE", 0, 0, 0, 66)], "test ! -e /dev/console; ls /dev/pts/0") == "/dev/pts/0\n"


def test_console_is_never_bound_through_a_symlink(bench: Bench) -> None:
    """CVE-2025-52565: /dev/console as a link to a path that is to be masked or protected."""
    (bench.rootfs / "dev" / "console").symlink_to("/etc/target")
    (bench.rootfs / "etc" / "target").touch()
    text = bench.refused([DEVPTS, ("CONSOLE", 0, 0, 1, 66)])
    assert "open '/dev/console': too many levels of symbolic links" in text


def test_false_pty_multiplexer_is_refused(bench: Bench) -> None:
    """A file, or another device, at /dev/pts/ptmx is not opened."""
    (bench.rootfs / "dev" / "pts").mkdir()
    os.mknod(bench.rootfs / "dev" / "pts" / "ptmx", CHAR | 0o666, os.makedev(5, 2))
    text = bench.refused([("CONSOLE", 0, 0, 1, 66)])
    assert "'/dev/pts/ptmx' in the container is no pty multiplexer" in text


def test_console_without_devpts_says_so(bench: Bench) -> None:
    """ENOENT with the path inside the container."""
    assert bench.refused([("CONSOLE", 0, 0, 0, 66)]).endswith(
        "open '/dev/pts/ptmx' in the container: no such file or directory"
    )


def test_bind_of_the_hosts_dev_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    """Entries are made in what is mounted, and through it, never beside it."""
    other = tmp_path / "other-dev"
    other.mkdir()
    bench.inside(
        [bind(other, "/dev"), ("MKDIR", "/dev/shm", 0o1777), ("SYMLINK", "/proc/self/fd", "/dev/fd", 0)], "true"
    )
    assert ((other / "shm").stat().st_mode & 0o7777, os.readlink(other / "fd")) == (0o1777, "/proc/self/fd")
    assert os.listdir(bench.rootfs / "dev") == []


def test_streams_belong_to_the_user_of_the_process(bench: Bench) -> None:
    """CREDENTIALS gives pipes and the pty to the new user, so that /dev/stdout can be opened again; not /dev/null."""
    become = ("CREDENTIALS", 1234, 1234, b"", 0, 0, 0, 0, 0, 0)
    steps = [*bench.root(), PROC, DEVPTS, ("CONSOLE", 0, 0, 0, 66), ("PIVOT", 0), become]
    result = bench.run(steps, "/bin/stat", "-L", "-c", "%u", "/dev/pts/0", "/proc/self/fd/1", "/proc/self/fd/0")
    assert (result.err, result.out) == ("", "1234\n1234\n0\n")
