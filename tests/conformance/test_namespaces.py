"""Namespaces: new, shared and joined by path, and what lives in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

from conformance.harness import Bundle, Runtime, namespace_of, status_of
from conformance.holders import hold
from conformance.host import host
from conformance.rootfs import chown_tree
from conformance.runtimes import needs
from conformance.spec import add_bind, add_namespace, drop_mount, drop_namespace, map_ids

FILES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "mount": "mnt", "network": "net", "cgroup": "cgroup", "time": "time"}
JOINABLE = {"network": "--net", "ipc": "--ipc", "uts": "--uts", "cgroup": "--cgroup", "pid": "--fork"}
TIME = pytest.param("time", marks=[needs("time-namespace"), host("time-namespace")])


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "mount", "network", "cgroup", TIME])
def test_namespace_is_new_when_asked_for_without_path(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Each namespace without a path is another one than the caller's."""
    add_namespace(bundle.spec, kind)
    with runtime.create(bundle, "true") as c:
        assert namespace_of(c.pid, FILES[kind]) != namespace_of("self", FILES[kind])


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "network", "cgroup", "time"])
def test_namespace_is_the_callers_when_not_asked_for(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """What the config does not list is inherited."""
    drop_namespace(bundle.spec, kind)
    with runtime.create(bundle, "true") as c:
        assert namespace_of(c.pid, FILES[kind]) == namespace_of("self", FILES[kind])


@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_namespace_is_joined_when_given_by_path(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """With a path the container is put into exactly that namespace."""
    with hold(JOINABLE[kind]) as pid:
        add_namespace(bundle.spec, kind, f"/proc/{pid}/ns/{FILES[kind]}")
        with runtime.create(bundle, "true") as c:
            assert namespace_of(c.pid, FILES[kind]) == namespace_of(pid, FILES[kind])


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "network", "cgroup"])
def test_namespace_of_another_container_is_joined(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """As in a pod: the second container shares one namespace of the first, and no other."""
    add_namespace(bundle.spec, "network")
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] += "b"
        add_namespace(bundle.spec, kind, f"/proc/{first.pid}/ns/{FILES[kind]}")
        with runtime.start(bundle) as second:
            same = {k for k, f in FILES.items() if namespace_of(first.pid, f) == namespace_of(second.pid, f)}
            assert same == {kind, "time"}


@needs("time-namespace")
@host("time-namespace")
def test_time_namespace_is_joined_when_given_by_path(runtime: Runtime, bundle: Bundle) -> None:
    """A time namespace by path comes with its offsets."""
    add_namespace(bundle.spec, "time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 40000, "nanosecs": 0}}
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] += "b"
        del bundle.linux["timeOffsets"]
        add_namespace(bundle.spec, "time", f"/proc/{first.pid}/ns/time")
        with runtime.start(bundle) as second:
            assert namespace_of(first.pid, "time") == namespace_of(second.pid, "time")
            assert int(second.exec("/bin/probe", "clock", "boottime").stdout) >= 40000


@needs("time-namespace")
@host("time-namespace")
@pytest.mark.parametrize("clock", ["boottime", "monotonic"])
def test_time_offset_moves_the_clock(runtime: Runtime, bundle: Bundle, clock: str) -> None:
    """linux.timeOffsets is what the container's clock is ahead by."""
    add_namespace(bundle.spec, "time")
    bundle.linux["timeOffsets"] = {clock: {"secs": 100000, "nanosecs": 5}}
    now = int(runtime.run(bundle, f"probe clock {clock}").stdout)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= now - (uptime + 100000) + 60 <= 120


def test_init_is_pid_1_of_a_new_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """The program itself is the init: no other process is between."""
    assert runtime.run(bundle, "echo $$; ls -d /proc/[0-9]*").lines[:2] == ["1", "/proc/1"]


def test_init_has_the_hosts_pid_without_a_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """With the caller's pid namespace, the program sees its pid of the host."""
    drop_namespace(bundle.spec, "pid")
    with runtime.start(bundle, "echo pid $$; exec sleep 1000") as c:
        assert c.wait_output("pid").split() == ["pid", str(c.pid)]


def test_new_network_namespace_has_only_a_loopback_that_is_up(runtime: Runtime, bundle: Bundle) -> None:
    """The loopback device of a new namespace works at once, and there is no other."""
    add_namespace(bundle.spec, "network")
    done = runtime.run(bundle, "cut -d: -f1 /proc/net/dev | tail -n +3; ip addr show lo | grep -o 'inet [0-9.]*'")
    assert done.stdout.split() == ["lo", "inet", "127.0.0.1"]


def test_joined_network_namespace_is_not_reconfigured(runtime: Runtime, bundle: Bundle) -> None:
    """By path, the devices stay as their owner left them."""
    with hold("--net", setup="ip link show lo") as pid:
        add_namespace(bundle.spec, "network", f"/proc/{pid}/ns/net")
        assert "<LOOPBACK>" in runtime.run(bundle, "ip link show lo").stdout


def test_cgroup_namespace_is_rooted_at_the_containers_own_group(runtime: Runtime, bundle: Bundle) -> None:
    """The container sees its own cgroup as / in every hierarchy that it was given a group in."""
    inside = runtime.run(bundle, "cat /proc/self/cgroup").lines
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in inside}
    assert {paths[name] for name in paths if name in ("memory", "pids", "")} == {"/"}


def test_mount_namespace_keeps_mounts_from_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """No mount of the container shows in the caller's table."""
    with runtime.start(bundle) as c:
        assert str(bundle.rootfs) not in Path("/proc/self/mountinfo").read_text()
        assert " / / " not in c.proc("mountinfo")


def test_host_root_is_not_reachable_after_the_pivot(runtime: Runtime, bundle: Bundle) -> None:
    """The old root is gone: the container's table has mounts of the container only."""
    points = runtime.run(bundle, "cut -d' ' -f5 /proc/self/mountinfo").lines
    expected = {"/", "/proc", "/dev", "/dev/pts", "/dev/shm"}
    assert expected <= set(points) <= expected | {"/dev/console"}


@pytest.mark.parametrize("flag", [[], ["--no-pivot"]], ids=["pivot", "no-pivot"])
def test_root_is_the_bundles_rootfs(runtime: Runtime, bundle: Bundle, flag: list[str]) -> None:
    """With pivot_root, and with --no-pivot, / is the rootfs and nothing is above it."""
    (bundle.rootfs / "mark").write_text("x")
    assert runtime.run(bundle, "cat /mark /../mark", *flag).stdout == "xx"


def test_hostname_is_set(runtime: Runtime, bundle: Bundle) -> None:
    """hostname is the nodename of the container, and of it alone."""
    before = os.uname().nodename
    bundle.spec["hostname"] = "box-7"
    assert runtime.run(bundle, "hostname; cat /proc/sys/kernel/hostname").lines == ["box-7", "box-7"]
    assert os.uname().nodename == before


@needs("domainname")
def test_domainname_is_set(runtime: Runtime, bundle: Bundle) -> None:
    """domainname is the NIS domain name of the container."""
    bundle.spec["domainname"] = "example.org"
    assert runtime.run(bundle, "cat /proc/sys/kernel/domainname").stdout == "example.org\n"


def test_hostname_without_uts_namespace_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """The host's own name is never changed."""
    before = os.uname().nodename
    drop_namespace(bundle.spec, "uts")
    bundle.spec["hostname"] = "taken"
    runtime.refuse(bundle, "hostname")
    assert os.uname().nodename == before


SYSCTLS = [
    ("ipc", "kernel.shmmax", "67108864"),
    ("ipc", "kernel.msgmax", "4096"),
    ("ipc", "kernel.sem", "100\t32000\t100\t100"),
    ("ipc", "fs.mqueue.msg_max", "20"),
    ("uts", "kernel.domainname", "set.by.sysctl"),
    ("network", "net.ipv4.ip_forward", "1"),
    ("network", "net.ipv4.ping_group_range", "0\t100"),
    ("network", "net.ipv4.conf.lo.forwarding", "1"),
]


@pytest.mark.parametrize(("kind", "name", "value"), SYSCTLS, ids=[s[1] for s in SYSCTLS])
def test_sysctl_is_set_in_the_containers_namespace(
    runtime: Runtime, bundle: Bundle, kind: str, name: str, value: str
) -> None:
    """A namespaced sysctl has the value inside, and the host's is what it was."""
    path = Path("/proc/sys") / name.replace(".", "/")
    before = path.read_text()
    add_namespace(bundle.spec, kind)
    bundle.linux["sysctl"] = {name: value}
    assert runtime.run(bundle, f"cat {path}").stdout.strip() == value
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ipc", "kernel.shmmax"), ("network", "net.ipv4.ip_forward"), (None, "vm.swappiness"), (None, "kernel.pid_max")],
    ids=["ipc-shared", "network-shared", "vm", "kernel"],
)
def test_sysctl_of_the_host_is_refused(runtime: Runtime, bundle: Bundle, kind: str | None, name: str) -> None:
    """A sysctl that would change the host is an error, and is not written."""
    path = Path("/proc/sys") / name.replace(".", "/")
    before = path.read_text()
    if kind is not None:
        drop_namespace(bundle.spec, kind)
    bundle.linux["sysctl"] = {name: before.strip()}
    runtime.refuse(bundle, name)
    assert path.read_text() == before


def test_user_namespace_has_the_mappings(runtime: Runtime, bundle: Bundle) -> None:
    """uid_map and gid_map are those of the config, and the init has the mapped ids."""
    map_ids(bundle.spec, 200000, 1000)
    bundle.linux["gidMappings"] = [
        {"containerID": 0, "hostID": 300000, "size": 10},
        {"containerID": 10, "hostID": 310000, "size": 90},
    ]
    chown_tree(bundle.rootfs, 200000, 300000)
    with runtime.create(bundle, "true") as c:
        assert c.proc("uid_map").split() == ["0", "200000", "1000"]
        assert c.proc("gid_map").split() == ["0", "300000", "10", "10", "310000", "90"]
        status = status_of(c.pid)
        assert (status["Uid"].split()[0], status["Gid"].split()[0]) == ("200000", "300000")


def test_user_namespace_owns_the_others(runtime: Runtime, bundle: Bundle) -> None:
    """Root of the user namespace may set the hostname: the uts namespace is its own."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    bundle.process["capabilities"] = {
        kind: ["CAP_SYS_ADMIN", "CAP_CHOWN"] for kind in ("bounding", "effective", "permitted")
    }
    done = runtime.run(bundle, "hostname mine; hostname; id -u; > /f; chown 7:8 /f; stat -c %u:%g /f")
    assert done.lines == ["mine", "0", "7:8"]
    owner = (bundle.rootfs / "f").stat()
    assert (owner.st_uid, owner.st_gid) == (200007, 200008)


def test_user_namespace_has_sysfs_proc_and_devices(runtime: Runtime, bundle: Bundle) -> None:
    """Devices that cannot be made in a user namespace are bound from the host, and work."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    done = runtime.run(bundle, "head -c 3 /dev/zero | wc -c; echo x > /dev/null; stat -c %t:%T /dev/null /dev/urandom")
    assert done.lines == ["3", "1:3", "1:9"]


def test_user_of_the_process_is_mapped(runtime: Runtime, bundle: Bundle) -> None:
    """process.user is an id of the container: outside it is the mapped one."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    with runtime.start(bundle) as c:
        assert status_of(c.pid)["Uid"].split() == ["201000"] * 4


def test_user_namespace_by_path_is_joined(runtime: Runtime, bundle: Bundle) -> None:
    """A container may live in the user namespace of another one."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] += "b"
        add_namespace(bundle.spec, "user", f"/proc/{first.pid}/ns/user")
        with runtime.start(bundle) as second:
            assert namespace_of(first.pid, "user") == namespace_of(second.pid, "user")
            assert status_of(second.pid)["Uid"].split() == ["200000"] * 4


@needs("userns-path-without-mappings")
def test_user_namespace_by_path_needs_no_mappings(runtime: Runtime, bundle: Bundle) -> None:
    """The mappings of a joined user namespace are the kernel's to tell."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] += "b"
        add_namespace(bundle.spec, "user", f"/proc/{first.pid}/ns/user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
        with runtime.start(bundle) as second:
            assert namespace_of(first.pid, "user") == namespace_of(second.pid, "user")


@pytest.mark.parametrize("network", [True, False], ids=["own-network", "host-network"])
def test_sysfs_in_a_user_namespace(runtime: Runtime, bundle: Bundle, network: bool) -> None:
    """/sys shows the devices of the container's network namespace, or the host's by bind."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    if network:
        add_namespace(bundle.spec, "network")
        bundle.spec["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
        expected = ["lo"]
    else:
        add_bind(bundle.spec, "/sys", "/sys", "rbind", "ro")
        expected = sorted(os.listdir("/sys/class/net"))
    assert runtime.run(bundle, "ls /sys/class/net").stdout.split() == expected


REFUSED: dict[str, Callable[[Bundle], object]] = {
    "twice": lambda b: b.linux["namespaces"].append({"type": "ipc"}),
    "unknown": lambda b: b.linux["namespaces"].append({"type": "galaxy"}),
    "no-such-path": lambda b: add_namespace(b.spec, "network", "/proc/1/ns/no-such"),
    "wrong-kind": lambda b: add_namespace(b.spec, "network", "/proc/self/ns/ipc"),
    "not-a-namespace": lambda b: add_namespace(b.spec, "network", "/etc/passwd"),
    "user-without-mappings": lambda b: add_namespace(b.spec, "user"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_namespace_is_refused(runtime: Runtime, bundle: Bundle, case: str) -> None:
    """A namespace that cannot be had is an error, and nothing runs."""
    REFUSED[case](bundle)
    runtime.refuse(bundle)


def test_proc_of_a_joined_pid_namespace_shows_its_processes(runtime: Runtime, bundle: Bundle) -> None:
    """A new proc mount in a joined pid namespace is that namespace's."""
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] += "b"
        add_namespace(bundle.spec, "pid", f"/proc/{first.pid}/ns/pid")
        assert "sleep" in runtime.run(bundle, "cat /proc/1/cmdline").stdout


def test_mqueue_shows_the_containers_ipc_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """An mqueue mount is of the container's ipc namespace, not of the caller's."""
    drop_mount(bundle.spec, "/dev/shm")
    bundle.spec["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"})
    done = runtime.run(bundle, "touch /dev/mqueue/only-here; ls /dev/mqueue")
    assert done.stdout == "only-here\n"


def test_mount_namespace_by_path_is_joined(runtime: Runtime, bundle: Bundle) -> None:
    """With a mount namespace by path the container's process is in that one."""
    with hold("--mount", "--propagation", "private") as pid:
        add_namespace(bundle.spec, "mount", f"/proc/{pid}/ns/mnt")
        with runtime.start(bundle) as c:
            assert namespace_of(c.pid, "mnt") == namespace_of(pid, "mnt")
            assert namespace_of(c.pid, "mnt") != namespace_of("self", "mnt")
