"""Mounts: what is mounted where, in which order, and on what kind of target."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import cgroups, mountinfo
from conformance.harness import Bundle, Runtime
from conformance.holders import in_private_mounts
from conformance.host import host
from conformance.runtimes import needs
from conformance.spec import add_bind, add_mount, add_namespace, drop_mount, drop_namespace

TABLE = "cat /proc/self/mountinfo"


def test_bind_mount_shows_the_hosts_directory(runtime: Runtime, bundle: Bundle) -> None:
    """What the container writes into a bind mount is in the host's directory, and the other way."""
    source = bundle.host_dir("data")
    (source / "in").write_text("from host")
    add_bind(bundle.spec, str(source), "/mnt")
    assert runtime.run(bundle, "cat /mnt/in; echo out > /mnt/out").stdout == "from host"
    assert (source / "out").read_text() == "out\n"


def test_bind_source_is_relative_to_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    """A relative source is taken from the bundle's directory."""
    (bundle.host_dir("data") / "mark").touch()
    add_bind(bundle.spec, "data", "/mnt")
    assert runtime.run(bundle, "ls /mnt").stdout == "mark\n"


def test_bind_mount_of_a_file(runtime: Runtime, bundle: Bundle) -> None:
    """A file can be bound; a target that is missing is made as a file."""
    source = bundle.path / "file"
    source.write_text("content")
    add_bind(bundle.spec, str(source), "/etc/new/file")
    assert runtime.run(bundle, "cat /etc/new/file; stat -c %F /etc/new/file").stdout == "contentregular file\n"
    assert (bundle.rootfs / "etc/new/file").is_file()


def test_bind_mount_of_a_socket(runtime: Runtime, bundle: Bundle) -> None:
    """A socket of the host can be bound, as docker.sock is."""
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bundle.path / "s"))
        add_bind(bundle.spec, str(bundle.path / "s"), "/run/s")
        assert runtime.run(bundle, "stat -c %F /run/s").stdout == "socket\n"


def test_missing_directories_of_the_destination_are_made(runtime: Runtime, bundle: Bundle) -> None:
    """The whole path of a destination is made below the rootfs."""
    add_mount(bundle.spec, "/a/b/c", "tmpfs", "tmpfs")
    assert runtime.run(bundle, "stat -c %F:%a /a/b").stdout == "directory:755\n"
    assert (bundle.rootfs / "a/b/c").is_dir()


def test_mounts_are_made_in_the_order_of_the_list(runtime: Runtime, bundle: Bundle) -> None:
    """A later mount is on top of an earlier one, and may use what it brought."""
    one, two = bundle.host_dir("one"), bundle.host_dir("two")
    (one / "sub").mkdir()
    (two / "mark").touch()
    add_bind(bundle.spec, str(one), "/mnt")
    add_bind(bundle.spec, str(two), "/mnt/sub")
    assert runtime.run(bundle, "ls /mnt; ls /mnt/sub").lines == ["sub", "mark"]


def test_later_mount_hides_an_earlier_one_on_the_same_place(runtime: Runtime, bundle: Bundle) -> None:
    """Two mounts on one destination: the last is seen."""
    for name in ("one", "two"):
        (bundle.host_dir(name) / name).touch()
        add_bind(bundle.spec, str(bundle.path / name), "/mnt")
    assert runtime.run(bundle, "ls /mnt").stdout == "two\n"


def test_recursive_bind_brings_the_mounts_below(runtime: Runtime, bundle: Bundle) -> None:
    """rbind carries submounts of the source along, bind does not."""
    source = bundle.host_dir("data")
    (source / "sub").mkdir()
    runtime.prefix = in_private_mounts(f"mount -t tmpfs none {source}/sub; touch {source}/sub/mark")
    add_bind(bundle.spec, str(source), "/mnt/plain")
    add_bind(bundle.spec, str(source), "/mnt/deep", "rbind")
    assert runtime.run(bundle, "ls /mnt/plain/sub; echo -; ls /mnt/deep/sub").lines == ["-", "mark"]


def test_symlink_on_the_way_is_resolved_inside_the_rootfs(runtime: Runtime, bundle: Bundle) -> None:
    """An absolute link in the destination is taken relative to the container's root."""
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "link").symlink_to("/real")
    add_mount(bundle.spec, "/link/sub", "tmpfs", "tmpfs")
    assert mountinfo.at(runtime.run(bundle, TABLE).stdout, "/real/sub").fstype == "tmpfs"


def test_symlink_out_of_the_rootfs_stays_inside(runtime: Runtime, bundle: Bundle) -> None:
    """A link with `..` cannot leave the rootfs: nothing is made on the host."""
    outside = bundle.host_dir("outside")
    (bundle.rootfs / "link").symlink_to("../outside")
    add_mount(bundle.spec, "/link/sub", "tmpfs", "tmpfs")
    mountinfo.at(runtime.run(bundle, TABLE).stdout, "/outside/sub")
    assert list(outside.iterdir()) == []


def test_destination_with_a_space(runtime: Runtime, bundle: Bundle) -> None:
    """Names that the mount table escapes are no obstacle."""
    add_mount(bundle.spec, "/mnt/a b", "tmpfs", "tmpfs")
    assert mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt/a b").fstype == "tmpfs"


def test_tmpfs_has_its_size_and_owner(runtime: Runtime, bundle: Bundle) -> None:
    """Options that are the file system's own are passed on to it."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", "size=1m", "uid=5", "gid=6", "nr_inodes=100")
    done = runtime.run(bundle, "stat -c %u:%g /mnt; df -k /mnt | tail -1 | awk '{print $2}'")
    assert done.lines == ["5:6", "1024"]


@needs("tmpfs-mode-on-a-directory")
def test_tmpfs_mode_wins_over_that_of_the_directory(runtime: Runtime, bundle: Bundle) -> None:
    """A `mode=` that was asked for is not replaced by the mode of the directory below."""
    (bundle.rootfs / "mnt").chmod(0o750)
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", "mode=0711")
    assert runtime.run(bundle, "stat -c %a /mnt").stdout == "711\n"


def test_tmpfs_without_mode_takes_that_of_the_directory(runtime: Runtime, bundle: Bundle) -> None:
    """A tmpfs over an existing directory keeps that directory's mode."""
    (bundle.rootfs / "mnt").chmod(0o1770)
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs")
    assert runtime.run(bundle, "stat -c %a /mnt").stdout == "1770\n"


def test_tmpcopyup_fills_the_tmpfs_from_the_rootfs(runtime: Runtime, bundle: Bundle) -> None:
    """With tmpcopyup the directory's content is in the tmpfs; writes do not reach the rootfs."""
    (bundle.rootfs / "var/sub").mkdir()
    (bundle.rootfs / "var/sub/file").write_text("old")
    (bundle.rootfs / "var/sub/file").chmod(0o640)
    (bundle.rootfs / "var/link").symlink_to("sub/file")
    add_mount(bundle.spec, "/var", "tmpfs", "tmpfs", "tmpcopyup")
    done = runtime.run(bundle, "cat /var/link; stat -c :%a /var/sub/file; stat -f -c %T /var; echo new > /var/sub/file")
    assert done.lines == ["old:640", "tmpfs"]
    assert (bundle.rootfs / "var/sub/file").read_text() == "old"


def test_tmpcopyup_respects_other_options(runtime: Runtime, bundle: Bundle) -> None:
    """A read-only tmpfs with tmpcopyup is filled first and locked then."""
    (bundle.rootfs / "var/file").write_text("old")
    add_mount(bundle.spec, "/var", "tmpfs", "tmpfs", "tmpcopyup", "ro")
    done = runtime.run(bundle, "cat /var/file; echo; > /var/x || echo locked")
    assert done.lines == ["old", "locked"]


def test_proc_can_hide_processes(runtime: Runtime, bundle: Bundle) -> None:
    """Options of proc reach the kernel."""
    drop_mount(bundle.spec, "/proc")
    add_mount(bundle.spec, "/proc", "proc", "proc", "hidepid=2")
    options = mountinfo.at(runtime.run(bundle, TABLE).stdout, "/proc").super_options
    assert options & {"hidepid=2", "hidepid=invisible"}


def test_devpts_is_an_instance_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    """The container's /dev/pts has none of the host's terminals, and its options."""
    done = runtime.run(bundle, f"ls /dev/pts; {TABLE}")
    assert done.lines[0] == "ptmx"
    assert mountinfo.at("\n".join(done.lines[1:]), "/dev/pts").super_options >= {"mode=620", "ptmxmode=666"}


def test_mount_is_not_seen_on_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """While the container runs, its mounts are in its own table only."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs")
    with runtime.start(bundle) as c:
        assert mountinfo.at(c.proc("mountinfo"), "/mnt").fstype == "tmpfs"
        assert list((bundle.rootfs / "mnt").iterdir()) == []
        assert str(bundle.rootfs) not in Path("/proc/self/mountinfo").read_text()


def test_rootfs_read_only(runtime: Runtime, bundle: Bundle) -> None:
    """root.readonly: the root refuses writes, mounts on it take them."""
    bundle.spec["root"]["readonly"] = True
    add_mount(bundle.spec, "/tmp", "tmpfs", "tmpfs")
    done = runtime.run(bundle, f"> /x || echo locked; > /tmp/x && echo open; {TABLE}")
    assert done.lines[:2] == ["locked", "open"]
    assert "ro" in mountinfo.at(done.stdout.split("open\n")[1], "/").options
    assert not (bundle.rootfs / "x").exists()


def test_rootfs_is_writable_by_default(runtime: Runtime, bundle: Bundle) -> None:
    """Without root.readonly the container's files land in the rootfs."""
    runtime.run(bundle, "echo hi > /x")
    assert (bundle.rootfs / "x").read_text() == "hi\n"


def test_masked_file_reads_empty(runtime: Runtime, bundle: Bundle) -> None:
    """A masked file is /dev/null, whatever it was."""
    (bundle.rootfs / "etc/secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/etc/secret", "/proc/keys", "/proc/timer_list"]
    done = runtime.run(bundle, "cat /etc/secret /proc/keys; stat -c %t:%T /etc/secret; echo x > /etc/secret")
    assert done.stdout == "1:3\n"
    assert (bundle.rootfs / "etc/secret").read_text() == "secret"


def test_masked_directory_is_empty_and_read_only(runtime: Runtime, bundle: Bundle) -> None:
    """A masked directory shows nothing and takes nothing."""
    (bundle.rootfs / "var/secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/var"]
    done = runtime.run(bundle, f"ls -A /var; > /var/x || echo locked; {TABLE}")
    assert done.lines[0] == "locked"
    assert "ro" in mountinfo.at(done.stdout.split("locked\n")[1], "/var").options


def test_masked_path_that_is_missing_is_ignored(runtime: Runtime, bundle: Bundle) -> None:
    """The callers' lists name files that not every kernel has."""
    bundle.linux["maskedPaths"] = ["/proc/no/such", "/no/such"]
    bundle.linux["readonlyPaths"] = ["/proc/no/such", "/no/such"]
    assert runtime.run(bundle, "ls /no || echo none").stdout == "none\n"


@pytest.mark.parametrize("path", ["/proc/sys", "/proc/bus", "/etc/passwd", "/var"])
def test_readonly_path_refuses_writes(runtime: Runtime, bundle: Bundle, path: str) -> None:
    """A read-only path, of proc or of the rootfs, is a read-only mount of itself."""
    bundle.linux["readonlyPaths"] = [path]
    done = runtime.run(bundle, TABLE)
    assert "ro" in mountinfo.at(done.stdout, path).options


def test_readonly_path_is_recursive(runtime: Runtime, bundle: Bundle) -> None:
    """Below a read-only path, sysctl files cannot be written even by root with all capabilities."""
    add_namespace(bundle.spec, "network")
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    done = runtime.run(
        bundle, "echo 1 > /proc/sys/net/ipv4/ip_forward || echo locked; cat /proc/sys/net/ipv4/ip_forward"
    )
    assert done.lines == ["locked", "0"]


ROOT_PROPAGATION = {"private": "private", "slave": "slave", "shared": "shared", "unbindable": "unbindable"}


AT_ROOT = [pytest.param(v, marks=needs("rootfs-propagation-of-the-root")) for v in ("shared", "rshared", "unbindable")]


@pytest.mark.parametrize("value", ["private", "rprivate", "rslave", *AT_ROOT])
def test_rootfs_propagation(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """linux.rootfsPropagation is what the mount of / has in the container."""
    bundle.linux["rootfsPropagation"] = value
    tree = bundle.rootfs
    runtime.prefix = in_private_mounts(f"mount --bind {tree} {tree}; mount --make-shared {tree}")
    expected = ROOT_PROPAGATION[value.removeprefix("r") if value[1:] in ROOT_PROPAGATION else value]
    assert mountinfo.at(runtime.run(bundle, TABLE).stdout, "/").propagation == expected


@pytest.mark.parametrize("value", ["", "rslave", "rprivate"])
def test_mounts_of_the_container_never_reach_a_shared_host(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """Even where all of the host's mounts are shared, the host's table stays as it was."""
    if value:
        bundle.linux["rootfsPropagation"] = value
    add_mount(bundle.spec, "/mnt", "tmpfs", "marked-tmpfs")
    watch = f"grep -c -e marked-tmpfs -e {bundle.rootfs} /proc/self/mountinfo >&2 || true"
    shared = "mount --make-rshared /"
    runtime.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{shared}; "$@"; {watch}', "sh"]
    assert runtime.run(bundle, "true").stderr == "0\n"


@pytest.mark.parametrize("value", ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared"])
def test_mount_propagation_option(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """Each propagation option of a mount is what the kernel says of it."""
    source = bundle.host_dir("data")
    runtime.prefix = in_private_mounts(f"mount -t tmpfs none {source}; mount --make-shared {source}")
    if value.endswith("shared"):
        bundle.linux["rootfsPropagation"] = "shared"
    add_bind(bundle.spec, str(source), "/mnt", "rbind", value)
    expected = ROOT_PROPAGATION[value.removeprefix("r") if value[1:] in ROOT_PROPAGATION else value]
    assert mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").propagation == expected


def test_slave_mount_receives_what_the_host_mounts_later(runtime: Runtime, bundle: Bundle) -> None:
    """With rslave, a mount made on the host afterwards shows up inside."""
    source = bundle.host_dir("data")
    (source / "late").mkdir()
    script = f"mount -t tmpfs none {source}; mount --make-shared {source}; mkdir {source}/late"
    # The host's later mount is made by a hook: it runs in the runtime's namespace.
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"mount -t tmpfs late {source}/late"], "env": ["PATH=/bin:/sbin"]}
    bundle.spec["hooks"] = {"poststart": [hook]}
    bundle.linux["rootfsPropagation"] = "rslave"
    runtime.prefix = in_private_mounts(script)
    add_bind(bundle.spec, str(source), "/mnt", "rbind", "rslave")
    wait = "for i in $(seq 200); do grep -q ' /mnt/late ' /proc/self/mountinfo && echo seen && exit; sleep 0.01; done"
    assert runtime.run(bundle, wait).stdout == "seen\n"


@host("cgroup-v1")
def test_cgroup_mount_shows_every_v1_hierarchy(runtime: Runtime, bundle: Bundle) -> None:
    """On v1 and hybrid, type cgroup gives a directory per controller, with the container's group in it."""
    add_mount(bundle.spec, "/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    done = runtime.run(bundle, "ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs | head -1; " + TABLE)
    assert {"memory", "cpu", "pids", "devices", "freezer"} <= set(done.lines)
    assert "1" in done.lines
    inner = mountinfo.at("\n".join(x for x in done.lines if " - " in x), "/sys/fs/cgroup/pids")
    assert (inner.fstype, "ro" in inner.options) == ("cgroup", True)


@host("cgroup-v1")
def test_cgroup_mount_read_write_allows_groups_inside(runtime: Runtime, bundle: Bundle) -> None:
    """Without `ro`, root of the container makes groups below its own."""
    add_mount(bundle.spec, "/sys/fs/cgroup", "cgroup", "cgroup")
    done = runtime.run(bundle, "cd /sys/fs/cgroup/pids && mkdir child && cat child/pids.max && rmdir child")
    assert done.stdout == "max\n"


@host("cgroup-v1")
def test_cgroup_mount_without_cgroup_namespace_shows_only_the_own_group(runtime: Runtime, bundle: Bundle) -> None:
    """Without a cgroup namespace the v1 mounts are binds of the container's own groups."""
    drop_namespace(bundle.spec, "cgroup")
    add_mount(bundle.spec, "/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    done = runtime.run(bundle, "cat /sys/fs/cgroup/memory/cgroup.procs | grep -c . ; " + TABLE)
    root = mountinfo.at("\n".join(x for x in done.lines if " - " in x), "/sys/fs/cgroup/memory").root
    assert root == cgroups.path_of(bundle.linux["cgroupsPath"])


@host("cgroup-v2-only")
def test_cgroup_mount_on_v2(runtime: Runtime, bundle: Bundle) -> None:
    """On v2, type cgroup is a cgroup2 mount rooted at the container's group."""
    add_mount(bundle.spec, "/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    done = runtime.run(bundle, "cat /sys/fs/cgroup/cgroup.procs | head -1; " + TABLE)
    assert done.lines[0] == "1"
    assert mountinfo.at(done.stdout.partition("\n")[2], "/sys/fs/cgroup").fstype == "cgroup2"
    assert cgroups.is_v2_only()


def test_bind_of_a_missing_source_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A bind source that is not there is named in the error."""
    add_bind(bundle.spec, "/no/such/source", "/mnt")
    runtime.refuse(bundle, "/no/such/source", "no such file or directory")


def test_unknown_file_system_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A type that the kernel does not know is an error, with the destination."""
    add_mount(bundle.spec, "/mnt", "nosuchfs", "none")
    runtime.refuse(bundle, "/mnt")


def test_wrong_data_option_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """An option that the file system refuses is an error."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", "nosuchoption=1")
    runtime.refuse(bundle, "/mnt")


def test_mount_over_proc_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A bind mount on /proc itself would fool the runtime's own writes."""
    add_bind(bundle.spec, str(bundle.host_dir("fake")), "/proc")
    runtime.refuse(bundle, "/proc")


def test_mount_inside_proc_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Only a few files of /proc may be mount targets."""
    add_bind(bundle.spec, str(bundle.host_dir("fake")), "/proc/self")
    runtime.refuse(bundle, "/proc")


@pytest.mark.parametrize("name", ["cpuinfo", "meminfo", "uptime", "stat", "loadavg", "diskstats", "swaps"])
def test_bind_over_files_that_lxcfs_serves(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """The files of /proc that lxcfs replaces can be bound over."""
    (bundle.path / "fake").write_text("replaced")
    add_bind(bundle.spec, str(bundle.path / "fake"), f"/proc/{name}")
    assert runtime.run(bundle, f"cat /proc/{name}").stdout == "replaced"


def test_mount_destination_that_is_relative_counts_from_the_root(runtime: Runtime, bundle: Bundle) -> None:
    """A relative destination, which old callers write, is taken from /."""
    add_mount(bundle.spec, "mnt", "tmpfs", "tmpfs")
    assert mountinfo.at(runtime.run(bundle, TABLE).stdout, "/mnt").fstype == "tmpfs"
