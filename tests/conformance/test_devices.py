"""Device nodes: the default ones, those of the config, and who may use them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Runtime
from conformance.host import host
from conformance.rootfs import chown_tree
from conformance.spec import add_bind, drop_mount, map_ids, set_capabilities

DEFAULTS = {
    "null": "1:3",
    "zero": "1:5",
    "full": "1:7",
    "random": "1:8",
    "urandom": "1:9",
    "tty": "5:0",
}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def device(path: str, kind: str, major: int | None = None, minor: int | None = None, **more: Any) -> dict[str, Any]:
    """One entry of linux.devices."""
    numbers = {} if major is None else {"major": major, "minor": minor}
    return {"path": path, "type": kind, **numbers, **more}


def rule(allow: bool, kind: str, major: int, minor: int, access: str) -> dict[str, Any]:
    """One entry of linux.resources.devices."""
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


@pytest.mark.parametrize(("name", "numbers"), DEFAULTS.items())
def test_default_device_is_there(runtime: Runtime, bundle: Bundle, name: str, numbers: str) -> None:
    """Every container has this character device, readable and writable for all."""
    done = runtime.run(bundle, f"stat -c %F:%t:%T:%a:%u:%g /dev/{name}")
    assert done.stdout == f"character special file:{numbers}:666:0:0\n"


@pytest.mark.parametrize(("name", "target"), LINKS.items())
def test_default_link_is_there(runtime: Runtime, bundle: Bundle, name: str, target: str) -> None:
    """Every container has this link in /dev."""
    assert runtime.run(bundle, f"readlink /dev/{name}").stdout == f"{target}\n"


def test_default_devices_work(runtime: Runtime, bundle: Bundle) -> None:
    """The default devices are allowed by the device rules, though the config denies all."""
    script = "for d in null zero full random urandom; do probe open /dev/$d; done; "
    script += "echo x > /dev/full 2>/dev/null || echo full"
    assert runtime.run(bundle, script).lines == ["open"] * 5 + ["full"]


def test_dev_is_left_alone_when_it_is_a_bind_mount(runtime: Runtime, bundle: Bundle) -> None:
    """With /dev bound from the host, no node and no link is made in it."""
    source = bundle.host_dir("dev")
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    drop_mount(bundle.spec, "/dev/pts")
    drop_mount(bundle.spec, "/dev/shm")
    drop_mount(bundle.spec, "/dev")
    add_bind(bundle.spec, str(source), "/dev")
    assert runtime.run(bundle, "ls /dev").stdout == "null\n"
    assert os.listdir(source) == ["null"]


def test_device_of_the_config_has_mode_and_owner(runtime: Runtime, bundle: Bundle) -> None:
    """fileMode, uid and gid are those of the config, whatever the umask is."""
    bundle.linux["devices"] = [device("/dev/mine", "c", 1, 3, fileMode=0o640, uid=1000, gid=2000)]
    before = os.umask(0o077)
    try:
        done = runtime.run(bundle, "stat -c %F:%t:%T:%a:%u:%g /dev/mine")
    finally:
        os.umask(before)
    assert done.stdout == "character special file:1:3:640:1000:2000\n"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("c", "character special file"), ("u", "character special file"), ("b", "block special file"), ("p", "fifo")],
)
def test_device_of_each_type(runtime: Runtime, bundle: Bundle, kind: str, shown: str) -> None:
    """c, u, b and p make what they say."""
    numbers = () if kind == "p" else (10, 200)
    bundle.linux["devices"] = [device("/dev/mine", kind, *numbers, fileMode=0o600)]
    assert runtime.run(bundle, "stat -c %F /dev/mine").stdout == f"{shown}\n"


def test_device_in_a_directory_that_is_missing(runtime: Runtime, bundle: Bundle) -> None:
    """The directories of a device's path are made."""
    bundle.linux["devices"] = [device("/dev/net/tun", "c", 10, 200, fileMode=0o666)]
    assert runtime.run(bundle, "stat -c %t:%T /dev/net/tun").stdout == "a:c8\n"


def test_device_outside_of_dev(runtime: Runtime, bundle: Bundle) -> None:
    """A device may have any path."""
    bundle.linux["devices"] = [device("/run/null", "c", 1, 3, fileMode=0o666)]
    assert runtime.run(bundle, "echo x > /run/null; stat -c %t:%T /run/null").stdout == "1:3\n"


def test_device_of_the_config_replaces_a_default(runtime: Runtime, bundle: Bundle) -> None:
    """An entry with a default's path says how that node looks."""
    bundle.linux["devices"] = [device("/dev/null", "c", 1, 3, fileMode=0o600, uid=0, gid=0)]
    bundle.resources["devices"].append(rule(True, "c", 1, 3, "rwm"))
    assert runtime.run(bundle, "stat -c %a /dev/null").stdout == "600\n"


def test_large_minor_number(runtime: Runtime, bundle: Bundle) -> None:
    """Numbers beyond 8 bits are kept."""
    bundle.linux["devices"] = [device("/dev/big", "b", 259, 70000, fileMode=0o600)]
    assert runtime.run(bundle, "stat -c %t:%T /dev/big").stdout == "103:11170\n"


def test_unlisted_device_cannot_be_used(runtime: Runtime, bundle: Bundle) -> None:
    """A node that no rule allows cannot be opened, even by a root who may make it."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    assert runtime.run(bundle, "probe mknod /d 1 1; probe open /d").lines == ["made", "Operation not permitted"]


@host("fuse")
def test_device_rule_allows(runtime: Runtime, bundle: Bundle) -> None:
    """A rule opens exactly the device it names."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"].append(rule(True, "c", 10, 229, "rwm"))
    script = "probe mknod /d 10 229; probe open /d; probe mknod /e 10 228; probe open /e"
    allowed = runtime.run(bundle, script).lines
    assert allowed[1] == "open"
    assert allowed[3] == "Operation not permitted"


@host("fuse")
@pytest.mark.parametrize(("access", "read", "write"), [("r", True, False), ("w", False, True), ("rw", True, True)])
def test_device_rule_has_its_access(runtime: Runtime, bundle: Bundle, access: str, read: bool, write: bool) -> None:
    """r and w are separate rights."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"].append(rule(True, "c", 10, 229, access + "m"))
    script = "mknod /d c 10 229; (: < /d) 2>/dev/null && echo r; (: >> /d) 2>/dev/null && echo w; true"
    assert runtime.run(bundle, script).lines == ["r"] * read + ["w"] * write


@host("fuse")
def test_later_device_rule_wins(runtime: Runtime, bundle: Bundle) -> None:
    """Rules count in their order: a later `deny` takes back what an earlier one gave."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"] += [rule(True, "c", 10, 229, "rwm"), rule(False, "c", 10, 229, "rw")]
    assert runtime.run(bundle, "mknod /d c 10 229; probe open /d").lines == ["Operation not permitted"]


@host("fuse")
def test_mknod_right_of_a_rule(runtime: Runtime, bundle: Bundle) -> None:
    """Without `m` the node cannot be made, though it may be used."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.linux["devices"] = [device("/dev/mine", "c", 10, 229, fileMode=0o666)]
    # The default rule `c *:* m` lets every container make nodes: only opening is guarded.
    bundle.resources["devices"].append(rule(True, "c", 10, 229, "rw"))
    assert runtime.run(bundle, "probe mknod /d 10 229; probe open /dev/mine").lines == ["made", "open"]


@host("fuse")
def test_wildcard_rule_allows_all_of_a_major(runtime: Runtime, bundle: Bundle) -> None:
    """A rule without minor is for every minor."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"].append({"allow": True, "type": "c", "major": 10, "access": "rwm"})
    assert runtime.run(bundle, "probe mknod /d 10 229; probe open /d").lines == ["made", "open"]


@host("fuse")
def test_allow_all_rule(runtime: Runtime, bundle: Bundle) -> None:
    """`allow` without a type is what privileged containers get."""
    set_capabilities(bundle.spec, "CAP_MKNOD")
    bundle.resources["devices"] = [{"allow": True, "access": "rwm"}]
    assert runtime.run(bundle, "probe mknod /d 10 229; probe open /d").lines == ["made", "open"]


@host("cgroup-v1")
def test_device_rules_are_in_the_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    """devices.list of the container's group has the defaults and the config's rule, and no wildcard."""
    bundle.resources["devices"].append(rule(True, "b", 8, 0, "r"))
    with runtime.create(bundle, "true") as c:
        listed = c.cgroup_read("devices.list").splitlines()
        assert set(listed) >= {"c 1:3 rwm", "c 5:2 rwm", "c 136:* rwm", "c *:* m", "b *:* m"}
        # `m` is everybody's: some runtimes write it into the rule, too.
        assert {"b 8:0 r", "b 8:0 rm"} & set(listed)
        assert "a *:* rwm" not in listed
        assert cgroups.processes(cgroups.directory(c.pid, "devices")) == [c.pid]


def test_devices_in_a_user_namespace_are_bound(runtime: Runtime, bundle: Bundle) -> None:
    """A user namespace cannot mknod: the host's node is bound, and works."""
    map_ids(bundle.spec, 200000)
    chown_tree(bundle.rootfs, 200000, 200000)
    done = runtime.run(bundle, "head -c 4 /dev/zero | wc -c; grep -c ' /dev/zero ' /proc/self/mountinfo")
    assert done.lines == ["4", "1"]


def test_dev_console_is_only_there_with_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """Without a terminal there is no /dev/console."""
    assert runtime.run(bundle, "ls /dev/console || echo none").stdout == "none\n"


@pytest.mark.parametrize("kind", ["x", ""])
def test_device_of_an_unknown_type_is_refused(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Only the four types of the specification exist."""
    bundle.linux["devices"] = [device("/dev/mine", kind, 1, 3)]
    runtime.refuse(bundle)
    assert not Path(bundle.rootfs / "dev/mine").exists()
