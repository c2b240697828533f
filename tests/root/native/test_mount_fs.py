"""MOUNT_FS: new file systems below the rootfs, and what they must never be mounted on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from native.driver import (
    ATTR_NOSUID,
    COPY_UP,
    LATE_READONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    ORDINARY,
    PROC,
    Bench,
    mount_fs,
)

pytestmark = pytest.mark.requires("root", "cc", "busybox")


def options_of(target: str) -> str:
    """A shell command that prints the mount's options, then those of its superblock."""
    return f"grep ' {target} ' /proc/self/mountinfo | head -n 1"


def test_tmpfs_has_the_options_of_its_data(bench: Bench) -> None:
    """Each option of `data` reaches the file system; flags land on the mount."""
    steps = [PROC, mount_fs("tmpfs", "/data", "size=64k,mode=0751,nr_inodes=9", MS_NOSUID | MS_NODEV | MS_NOEXEC)]
    line = bench.inside(steps, options_of("/data"))
    assert " /data rw,nosuid,nodev,noexec,relatime " in line
    assert "size=64k,nr_inodes=9,mode=751" in line


def test_tmpfs_without_mode_has_that_of_the_directory_below(bench: Bench) -> None:
    """A tmpfs takes the mode of the directory that it covers unless the config names one."""
    (bench.rootfs / "var").mkdir()
    (bench.rootfs / "var").chmod(0o2750)
    assert bench.inside([mount_fs("tmpfs", "/var")], "stat -c %a /var") == "2750\n"


def test_tmpfs_on_a_missing_directory_is_sticky(bench: Bench) -> None:
    """Where nothing was, tmpfs' own default of 1777 holds."""
    assert bench.inside([mount_fs("tmpfs", "/no/such/place")], "stat -c %a /no/such/place /no/such") == "1777\n755\n"


def test_made_directories_do_not_depend_on_the_callers_umask(bench: Bench) -> None:
    """Directories made for a mount have mode 0755 whatever umask the caller has, and that umask is left alone."""
    old = os.umask(0o077)
    try:
        out = bench.inside([mount_fs("tmpfs", "/a/b", "mode=0700")], "stat -c %a /a; umask")
    finally:
        os.umask(old)
    assert out == "755\n0077\n"


def test_read_only_tmpfs_cannot_be_written(bench: Bench) -> None:
    """MS_RDONLY makes the mount and its superblock read-only."""
    line = bench.inside([PROC, mount_fs("tmpfs", "/data", flags=MS_RDONLY)], options_of("/data"))
    assert " /data ro,relatime " in line
    assert line.partition(" - tmpfs ")[2].split()[1].split(",")[0] == "ro"


def test_read_only_sysfs_leaves_the_superblock_alone(bench: Bench) -> None:
    """The superblock of sysfs is the host's too: only the mount gets read-only."""
    line = bench.inside([PROC, mount_fs("sysfs", "/sys", flags=MS_RDONLY, options=ORDINARY)], options_of("/sys"))
    assert " /sys ro,relatime " in line
    assert line.partition(" - sysfs ")[2].split()[1].split(",")[0] == "rw"


def test_late_read_only_stays_writable_until_remount(bench: Bench) -> None:
    """Option 32 mounts without MS_RDONLY; a REMOUNT with MS_BIND adds it and keeps what is named."""
    steps = [
        PROC,
        mount_fs("tmpfs", "/data", flags=MS_RDONLY | MS_NOSUID, options=LATE_READONLY),
        ("MKDIR", "/data/made", 0o711),
        ("REMOUNT", "/data", MS_BIND | MS_RDONLY | MS_NOSUID, ""),
    ]
    out = bench.inside(steps, f"stat -c %a /data/made; {options_of('/data')}")
    assert out.startswith("711\n")
    assert " /data ro,nosuid,relatime " in out


def test_remount_changes_the_superblock_without_ms_bind(bench: Bench) -> None:
    """A REMOUNT without MS_BIND hands `data` to the file system."""
    steps = [PROC, mount_fs("tmpfs", "/data", "size=64k"), ("REMOUNT", "/data", 0, "size=128k")]
    assert "size=128k" in bench.inside(steps, options_of("/data"))


def test_recursive_attributes_apply_to_a_new_mount(bench: Bench) -> None:
    """attr_set is honoured for a file system just as for a bind mount."""
    line = bench.inside([PROC, mount_fs("tmpfs", "/data", attr_set=ATTR_NOSUID)], options_of("/data"))
    assert " /data rw,nosuid,relatime " in line


def test_unknown_option_is_refused_in_the_kernels_words(bench: Bench) -> None:
    """What the file system says about an option is quoted."""
    text = bench.refused([mount_fs("tmpfs", "/data", "nonsense=1")])
    assert text.startswith("mount tmpfs on /data: ")
    assert "nknown parameter 'nonsense'" in text
    assert text.endswith(": invalid argument")


def test_unknown_file_system_is_named(bench: Bench) -> None:
    """ENODEV says which type the kernel does not know."""
    text = bench.refused([mount_fs("nosuchfs", "/data")])
    assert text == "mount nosuchfs on /data: the kernel does not know file system type 'nosuchfs': no such device"


def test_long_option_is_handed_to_mount(bench: Bench) -> None:
    """An option beyond the 256 bytes that fsconfig(2) takes is no error: mount(2) takes a page."""
    lowers = []
    for number in range(8):
        lower = bench.rootfs / f"lower-{number}-{'x' * 40}"
        lower.mkdir()
        (lower / f"from-{number}").touch()
        lowers.append(str(lower))
    data = "lowerdir=" + ":".join(lowers)
    assert len(data) > 256
    out = bench.inside([mount_fs("overlay", "/merged", data)], "ls /merged | wc -l")
    assert out.strip() == "8"


def test_overlay_is_writable_where_asked(bench: Bench) -> None:
    """upperdir and workdir make a writable overlay, whose writes land in the upper directory."""
    for name in ("lower", "upper", "work"):
        (bench.folder / name).mkdir()
    (bench.folder / "lower" / "below").write_text("from below\n")
    data = ",".join(f"{name}dir={bench.folder}/{name}" for name in ("lower", "upper", "work"))
    assert (
        bench.inside([mount_fs("overlay", "/merged", data)], "cat /merged/below; touch /merged/new") == "from below\n"
    )
    assert (bench.folder / "upper" / "new").exists()


def test_copy_up_copies_what_the_image_has(bench: Bench) -> None:
    """tmpcopyup: files, links, directories, modes, owners and times of the covered directory, none of it followed."""
    etc = bench.rootfs / "etc"
    (etc / "deep" / "er").mkdir(parents=True)
    (etc / "deep" / "er" / "file").write_text("content\n")
    (etc / "deep" / "er" / "file").chmod(0o4711)
    os.chown(etc / "deep" / "er" / "file", 12, 34)
    os.chmod(etc / "deep" / "er" / "file", 0o4711)
    (etc / "link").symlink_to("/nowhere/../else")
    os.mkfifo(etc / "fifo", 0o640)
    os.utime(etc / "deep", (1, 2))
    script = (
        "cat /etc/deep/er/file; stat -c '%a %u %g' /etc/deep/er/file; readlink /etc/link; stat -c %F /etc/fifo;"
        "stat -c %Y /etc/deep; touch /etc/new; " + options_of("/etc")
    )
    out = bench.inside([PROC, mount_fs("tmpfs", "/etc", options=COPY_UP)], script).splitlines()
    assert out[:5] == ["content", "4711 12 34", "/nowhere/../else", "fifo", "2"]
    assert " - tmpfs " in out[5]
    assert not (etc / "new").exists()


def test_copy_up_of_a_read_only_tmpfs_is_filled_first(bench: Bench) -> None:
    """A read-only tmpcopyup holds the image's content and cannot be written."""
    (bench.rootfs / "etc" / "file").write_text("content\n")
    step = mount_fs("tmpfs", "/etc", flags=MS_RDONLY, options=COPY_UP)
    assert bench.inside([step], "cat /etc/file; touch /etc/new 2>/dev/null || echo refused") == "content\nrefused\n"


def test_copy_up_beyond_the_size_is_refused(bench: Bench) -> None:
    """A tmpfs too small for the image's content is an error that names the file."""
    (bench.rootfs / "etc" / "large").write_bytes(b"x" * 200_000)
    text = bench.refused([mount_fs("tmpfs", "/etc", "size=64k", options=COPY_UP)])
    assert text == "mount tmpfs on /etc: copy 'large' from the image: no space left on device"


@pytest.mark.parametrize("path", ["/proc", "/link/proc"], ids=["last-component", "parent"])
def test_proc_is_never_mounted_through_a_symlink(bench: Bench, path: str) -> None:
    """CVE-2019-19921, CVE-2023-27561: an image whose /proc is a symlink gets no procfs at all."""
    (bench.rootfs / "elsewhere" / "proc").mkdir(parents=True)
    (bench.rootfs / "link").symlink_to("elsewhere")
    (bench.rootfs / "proc").rmdir()
    (bench.rootfs / "proc").symlink_to("elsewhere")
    text = bench.refused([mount_fs("proc", path, options=ORDINARY)])
    assert text == f"mount proc on {path}: '{path}' must be mounted on an ordinary directory: not a directory"


def test_proc_is_never_mounted_on_a_file(bench: Bench) -> None:
    """CVE-2019-16884: a file at /proc is refused too."""
    (bench.rootfs / "proc").rmdir()
    (bench.rootfs / "proc").touch()
    assert "must be mounted on an ordinary directory" in bench.refused([PROC])


def test_symlinks_resolve_inside_the_rootfs(bench: Bench) -> None:
    """An absolute link, even a dangling one, leads to a place in the rootfs, and what is missing there is made."""
    (bench.rootfs / "var").mkdir()
    (bench.rootfs / "var" / "run").symlink_to("/run")
    (bench.rootfs / "up").symlink_to("../../../../../../up-there")
    steps = [mount_fs("tmpfs", "/var/run/a", "mode=0701"), mount_fs("tmpfs", "/up/b", "mode=0702")]
    assert bench.inside(steps, "stat -c %a /run/a /up-there/b") == "701\n702\n"
    assert (bench.rootfs / "run" / "a").is_dir()


def test_endless_links_are_refused(bench: Bench) -> None:
    """A loop of links is ELOOP, not a hang."""
    (bench.rootfs / "one").symlink_to("two")
    (bench.rootfs / "two").symlink_to("one")
    assert bench.refused([mount_fs("tmpfs", "/one/x")]).endswith(": too many levels of symbolic links")


def test_nothing_else_is_mounted_inside_proc(bench: Bench) -> None:
    """A mount inside procfs would give the container a false picture of itself: refused, also through a symlink."""
    (bench.rootfs / "innocent").symlink_to("/proc/sys")
    for path in ("/proc/sys", "/innocent", "/proc"):
        text = bench.refused([PROC, mount_fs("tmpfs", path)])
        assert f"'{path}' cannot be mounted because it is inside /proc" in text


def test_the_rootfs_itself_is_no_target(bench: Bench) -> None:
    """A mount on "/" would be covered by nothing and seen by nobody."""
    assert "'/' is the rootfs itself" in bench.refused([mount_fs("tmpfs", "/")])


def test_source_reaches_the_mount_table(bench: Bench) -> None:
    """`source` is what mountinfo shows."""
    step = ("MOUNT_FS", "tmpfs", "some-name", "/data", "", 0, 0, 0, 0, 0)
    assert " - tmpfs some-name " in bench.inside([PROC, step], options_of("/data"))


def test_devpts_is_an_instance_of_its_own(bench: Bench) -> None:
    """The legacy options of devpts, newinstance among them, are taken."""
    step = mount_fs("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620", MS_NOSUID | MS_NOEXEC)
    assert bench.inside([step], "ls /dev/pts; stat -c %a /dev/pts/ptmx") == "ptmx\n666\n"


def test_mqueue_is_mounted(bench: Bench) -> None:
    """A file system without options and with a shared superblock works."""
    assert " - mqueue mqueue " in bench.inside([PROC, mount_fs("mqueue", "/dev/mqueue")], options_of("/dev/mqueue"))


def test_host_sees_none_of_it(bench: Bench) -> None:
    """The mounts are those of the namespace alone."""
    bench.inside([PROC, mount_fs("tmpfs", "/data")], "true")
    assert str(bench.rootfs) not in Path("/proc/self/mountinfo").read_text()
