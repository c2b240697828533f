"""BIND, OPEN_TREE, ATTACH_TREE, IDMAP_TREE, REMOUNT, READONLY, MASK and DETACH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from native.driver import (
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    CLEARED_SHIFT,
    MISSING_OK,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    PROC,
    SOURCE_IN_ROOT,
    Bench,
    bind,
    front,
    mount_fs,
)

pytestmark = pytest.mark.requires("root", "cc", "busybox")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of the host with a file in it."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("content\n")
    return folder


def last_line(text: str, target: str) -> str:
    """The last line of a mount table that is about ``target``."""
    return [line for line in text.splitlines() if line.split()[4:5] == [target]][-1]


TABLE = "cat /proc/self/mountinfo"


def test_directory_is_bound_and_its_target_made(bench: Bench, source: Path) -> None:
    """The source's content is there, and writable, at a target that did not exist."""
    out = bench.inside([bind(source, "/made/here")], "cat /made/here/file; echo new > /made/here/written")
    assert out == "content\n"
    assert (source / "written").read_text() == "new\n"


def test_file_is_bound_on_a_file_made_for_it(bench: Bench, source: Path) -> None:
    """A file source gets a file as target."""
    assert bench.inside([bind(source / "file", "/etc/made/hosts")], "cat /etc/made/hosts") == "content\n"
    assert (bench.rootfs / "etc" / "made" / "hosts").is_file()


def test_file_is_bound_on_a_dangling_link_s_target(bench: Bench, source: Path) -> None:
    """/etc/resolv.conf is often a link to nowhere yet: the file is made where it points, inside the rootfs."""
    (bench.rootfs / "etc" / "resolv.conf").symlink_to("../run/resolve/stub.conf")
    assert bench.inside([bind(source / "file", "/etc/resolv.conf")], "cat /run/resolve/stub.conf") == "content\n"


def test_directory_on_a_file_is_refused(bench: Bench, source: Path) -> None:
    """The two kinds never meet, and the message says which is which."""
    (bench.rootfs / "file").touch()
    text = bench.refused([bind(source, "/file")])
    assert text == f"mount {source} on /file: the source is a directory, '/file' is not: not a directory"
    text = bench.refused([bind(source / "file", "/etc")])
    assert text.endswith("the source is not a directory, '/etc' is: not a directory")


def test_missing_source_is_an_error_that_names_it(bench: Bench) -> None:
    """ENOENT with the host's path."""
    text = bench.refused([bind("/no/such/thing", "/data")])
    assert text == "mount /no/such/thing on /data: open '/no/such/thing': no such file or directory"


def test_missing_source_is_skipped_where_that_is_fine(bench: Bench) -> None:
    """Option 128: nothing is mounted, and no target is made."""
    bench.inside([bind("/no/such/thing", "/data", options=MISSING_OK)], "test ! -e /data")


def test_read_only_bind_is_read_only(bench: Bench, source: Path) -> None:
    """MS_RDONLY makes the top mount read-only, and only that: submounts stay as they are."""
    steps = [PROC, mount_fs("tmpfs", "/sub-source"), ("MKDIR", "/sub-source/below", 0o755)]
    steps += [mount_fs("tmpfs", "/sub-source/below")]
    steps += [bind("/sub-source", "/data", MS_RDONLY | MS_REC, options=SOURCE_IN_ROOT)]
    out = bench.inside(steps, "touch /data/new 2>/dev/null || echo refused; touch /data/below/new")
    assert out == "refused\n"


def test_recursive_read_only_covers_submounts(bench: Bench) -> None:
    """rro: attr_set applies to the whole tree."""
    steps = [mount_fs("tmpfs", "/a"), mount_fs("tmpfs", "/a/b")]
    steps += [bind("/a", "/data", MS_REC, attr_set=ATTR_RDONLY, options=SOURCE_IN_ROOT)]
    script = "touch /data/x 2>/dev/null || echo one; touch /data/b/x 2>/dev/null || echo two; touch /a/b/x"
    assert bench.inside(steps, script) == "one\ntwo\n"


def test_recursive_clear_makes_submounts_writable(bench: Bench) -> None:
    """rrw: attr_clear applies to the whole tree."""
    steps = [mount_fs("tmpfs", "/a"), mount_fs("sysfs", "/a/b", flags=MS_RDONLY)]
    steps += [PROC, bind("/a", "/data", MS_REC, attr_clear=ATTR_RDONLY, options=SOURCE_IN_ROOT)]
    assert " /data/b rw," in last_line(bench.inside(steps, TABLE), "/data/b")


def test_bind_without_flags_keeps_those_of_its_source(bench: Bench) -> None:
    """Only a bind that names flags changes any."""
    steps = [PROC, mount_fs("tmpfs", "/a", flags=MS_NOSUID | MS_NODEV), bind("/a", "/data", options=SOURCE_IN_ROOT)]
    assert " /data rw,nosuid,nodev," in last_line(bench.inside(steps, TABLE), "/data")


def test_bind_with_flags_has_exactly_those(bench: Bench) -> None:
    """As mount(2) with MS_REMOUNT does it, flags that are not named are cleared."""
    steps = [PROC, mount_fs("tmpfs", "/a", flags=MS_NOSUID), bind("/a", "/data", MS_NODEV, options=SOURCE_IN_ROOT)]
    assert " /data rw,nodev,relatime " in last_line(bench.inside(steps, TABLE), "/data")


def test_flag_cleared_in_words_is_cleared(bench: Bench) -> None:
    """`rw` alone names no flag to set, yet makes a bind of a read-only mount writable."""
    options = SOURCE_IN_ROOT | ATTR_RDONLY << CLEARED_SHIFT
    steps = [mount_fs("sysfs", "/a", flags=MS_RDONLY), PROC, bind("/a", "/data", options=options)]
    assert " /data rw,relatime " in last_line(bench.inside(steps, TABLE), "/data")


def test_propagation_is_set_on_the_attached_mount(bench: Bench, source: Path) -> None:
    """shared and slave show in the mount table."""
    steps = [PROC, bind(source, "/one", propagation=MS_SHARED), bind(source, "/two", propagation=MS_PRIVATE | MS_REC)]
    table = bench.inside(steps, TABLE)
    assert " shared:" in last_line(table, "/one")
    assert last_line(table, "/two").split()[6] == "-"
    assert bench.inside([PROC, bind("/proc", "/three", MS_REC, propagation=MS_SLAVE | MS_REC)], "ls /three/1 | wc -l")


def test_targets_below_proc_are_for_lxcfs_alone(bench: Bench, source: Path) -> None:
    """/proc/meminfo and its like may be covered, other files of procfs not."""
    assert bench.inside([PROC, bind(source / "file", "/proc/meminfo")], "cat /proc/meminfo") == "content\n"
    text = bench.refused([PROC, bind(source / "file", "/proc/version")])
    assert "'/proc/version' cannot be mounted because it is inside /proc" in text


def test_device_is_bound_on_a_file(bench: Bench) -> None:
    """Devices come as binds where mknod is not allowed."""
    assert (
        bench.inside([bind("/dev/null", "/dev/null")], "stat -c '%F %t:%T' /dev/null") == "character special file 1:3\n"
    )


def test_tree_from_a_slot_is_attached(bench: Bench, source: Path) -> None:
    """OPEN_TREE and BIND with a slot: the source was opened before, by somebody who may."""
    steps = [("OPEN_TREE", 70, str(source), 0), bind(source, "/data", slot=70)]
    assert bench.inside(steps, "cat /data/file") == "content\n"


def test_open_tree_names_what_is_missing(bench: Bench) -> None:
    """ENOENT with the path."""
    assert bench.refused([("OPEN_TREE", 70, "/no/such", 0)]) == (
        "open /no/such for mounting: open '/no/such': no such file or directory"
    )


def test_attach_tree_sets_recursive_attributes(bench: Bench, source: Path) -> None:
    """ATTACH_TREE places the tree of a slot with mount_setattr's flags."""
    steps = [PROC, ("OPEN_TREE", 70, str(source), 1), ("ATTACH_TREE", 70, "/data", ATTR_RDONLY | ATTR_NOEXEC, 0, 0, 0)]
    assert " /data ro,noexec," in last_line(bench.inside(steps, TABLE), "/data")


def test_empty_slot_is_refused(bench: Bench) -> None:
    """A slot without descriptor is an error, not a bind of something else."""
    assert "descriptor 71" in bench.refused([bind("/x", "/data", slot=71)])


def test_idmapped_tree_shows_mapped_owners(bench: Bench, source: Path) -> None:
    """IDMAP_TREE: owner 0 of the source is seen as 100000, and files made by 100000 belong to 0 on disk."""
    steps = [
        ("OPEN_TREE", 70, str(source), 0),
        ("IDMAP_TREE", 70, "0 100000 65536", "0 200000 65536", 0),
        bind(source, "/data", slot=70),
    ]
    out = bench.run([*bench.root(), *steps, ("PIVOT", 0)], "/bin/stat", "-c", "%u %g", "/data/file", PATH="/bin")
    if "does not support idmapped mounts" in out.err:
        pytest.skip("the file system of the scratch folder knows no idmapped mounts")
    assert (out.err, out.out) == ("", "100000 200000\n")


def test_idmapped_tree_with_a_bad_map_is_refused(bench: Bench, source: Path) -> None:
    """What the kernel refuses as a map is quoted."""
    steps = [("OPEN_TREE", 70, str(source), 0), ("IDMAP_TREE", 70, "0 0 65536", "nonsense", 0)]
    assert bench.refused(steps).endswith("write the gid map 'nonsense': invalid argument")


def test_idmap_of_procfs_is_refused_with_the_reason(bench: Bench) -> None:
    """Not every file system supports it."""
    steps = [("OPEN_TREE", 70, "/proc", 0), ("IDMAP_TREE", 70, "0 1 1", "0 1 1", 0)]
    assert "the source's file system does not support idmapped mounts: invalid argument" in bench.refused(steps)


def test_front_runs_tree_steps_too(bench: Bench, source: Path) -> None:
    """OPEN_TREE and IDMAP_TREE are the front's steps."""
    steps = [("OPEN_TREE", 70, str(source), 0), ("IDMAP_TREE", 70, "0 100000 65536", "0 100000 65536", 1)]
    result = bench.run(**front(steps))
    assert result.err == "" or "does not support idmapped mounts" in result.err


# ---- READONLY and MASK -----------------------------------------------------------------------------------------


def test_readonly_path_cannot_be_written(bench: Bench) -> None:
    """A directory and a file become read-only, with the flags that their mount has."""
    (bench.rootfs / "file").touch()
    steps = [PROC, mount_fs("tmpfs", "/data", flags=MS_NOSUID), ("MKDIR", "/data/sub", 0o755)]
    steps += [("READONLY", "/data/sub"), ("READONLY", "/file"), ("READONLY", "/proc/sys")]
    script = (
        "exec 2>&1; touch /data/sub/x || true; touch /file || true; sh -c 'echo y >/proc/sys/kernel/hostname' || true;"
    )
    out = bench.inside(steps, script + TABLE)
    assert out.lower().count("read-only file system") == 3
    assert " /data/sub ro,nosuid," in last_line(out, "/data/sub")


def test_readonly_keeps_mounts_below(bench: Bench) -> None:
    """What a submount hides stays hidden."""
    steps = [mount_fs("tmpfs", "/a"), mount_fs("tmpfs", "/a/b"), ("MKDIR", "/a/b/inside", 0o755), ("READONLY", "/a")]
    assert bench.inside(steps, "ls /a/b") == "inside\n"


@pytest.mark.parametrize("step", ["MASK", "READONLY"])
def test_missing_path_is_fine(bench: Bench, step: str) -> None:
    """Neither a missing path nor one below a file is an error, and nothing is made for it."""
    bench.inside([(step, "/no/such/path"), (step, "/bin/busybox/x")], "test ! -e /no")


def masked(bench: Bench, paths: list[str], script: str) -> str:
    """What a script prints after masking, as the planner orders it: after the change of root."""
    steps = [PROC, mount_fs("tmpfs", "/dev"), ("MKNOD", "/dev/null", 0o020666, os.makedev(1, 3), 0, 0)]
    result = bench.run(
        [*bench.root(), *steps, ("PIVOT", 0), *[("MASK", path) for path in paths]],
        "/bin/sh",
        "-euc",
        script,
        PATH="/bin",
    )
    assert (result.status, result.err) == (0, ""), result.err
    return result.out


def test_masked_file_is_the_null_device(bench: Bench) -> None:
    """A masked file reads as empty and swallows writes."""
    (bench.rootfs / "secret").write_text("secret\n")
    out = masked(
        bench, ["/secret", "/proc/version"], "cat /secret /proc/version; stat -c %t:%T /secret; echo x > /secret"
    )
    assert out == "1:3\n"
    assert (bench.rootfs / "secret").read_text() == "secret\n"


def test_masked_directories_are_empty_and_read_only(bench: Bench) -> None:
    """Each masked directory is covered by the same empty read-only file system."""
    for name in ("one", "two"):
        (bench.rootfs / name).mkdir()
        (bench.rootfs / name / "secret").touch()
    script = "ls /one /two | grep secret || echo empty; touch /two/x 2>/dev/null || echo refused; stat -c %d /one /two"
    out = masked(bench, ["/one", "/two", "/proc/acpi"], script).splitlines()
    assert out[:2] == ["empty", "refused"]
    assert out[2] == out[3]


@pytest.mark.parametrize("trick", ["file", "link", "other-device"])
def test_mask_refuses_a_false_null_device(bench: Bench, trick: str) -> None:
    """CVE-2025-31133: what is bound over a masked path is the real /dev/null, or nothing is and creation ends."""
    null, sentinel = bench.rootfs / "dev" / "null", bench.rootfs / "sentinel"
    sentinel.write_text("kept\n")
    if trick == "file":
        null.touch()
    elif trick == "link":
        null.symlink_to("/sentinel")
    else:
        os.mknod(null, 0o020666, os.makedev(1, 5))
    (bench.rootfs / "secret").touch()
    result = bench.run([*bench.root(), PROC, ("PIVOT", 0), ("MASK", "/secret")])
    assert result.status == 1
    assert "/dev/null" in result.err
    assert sentinel.read_text() == "kept\n"


def test_detach_unmounts(bench: Bench, source: Path) -> None:
    """DETACH takes the topmost mount off a directory or a file."""
    (bench.rootfs / "data").mkdir()
    (bench.rootfs / "etc" / "file").write_text("image\n")
    steps = [
        PROC,
        bind(source, "/data"),
        bind(source / "file", "/etc/file"),
        ("DETACH", "/data"),
        ("DETACH", "/etc/file"),
    ]
    assert bench.inside(steps, "ls /data; cat /etc/file") == "image\n"


def test_detach_of_what_is_no_mount_is_refused(bench: Bench) -> None:
    """EINVAL, as umount(2) says."""
    (bench.rootfs / "data").mkdir()
    assert bench.refused([("DETACH", "/data")]) == "unmount /data: invalid argument"


def test_remount_of_a_missing_path_is_refused(bench: Bench) -> None:
    """ENOENT with the path."""
    assert bench.refused([("REMOUNT", "/none", MS_BIND | MS_RDONLY, "")]) == (
        "remount /none: open '/none': no such file or directory"
    )


def test_tree_from_a_slot_keeps_the_flags_of_its_source(bench: Bench) -> None:
    """A tree of the front is not locked, so its flags stay unless the config clears them in words."""
    steps = [PROC, mount_fs("tmpfs", "/a", flags=MS_NOSUID | MS_NODEV)]
    tree = ("OPEN_TREE", 70, f"{bench.rootfs}/a", 0)
    table = bench.inside([*steps, tree, bind("/a", "/data", MS_RDONLY, slot=70)], TABLE)
    assert " /data ro,nosuid,nodev," in last_line(table, "/data")
    cleared = ATTR_NOSUID << CLEARED_SHIFT
    table = bench.inside([*steps, tree, bind("/a", "/data", MS_RDONLY, slot=70, options=cleared)], TABLE)
    assert " /data ro,nodev," in last_line(table, "/data")
