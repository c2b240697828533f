"""corral.oci.validate_linux: namespaces and all that needs one, devices, memory policy."""

from __future__ import annotations

import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.oci.mount_options import ROOTFS_PROPAGATION
from corral.oci.names import IPC_SYSCTLS, NAMESPACES, sysctl_path
from corral.oci.shape import member_of
from corral.oci.validate import validate
from unit.oci.documents import linux_spec, problems_as_pairs

ONE = [{"containerID": 0, "hostID": 1000, "size": 1}]
USER = {"type": "user"}


def _check(members: dict[str, Any], *expected: tuple[str, str]) -> None:
    pairs = [(f"linux.{pointer}", message) for pointer, message in expected]
    assert pairs == problems_as_pairs(validate(linux_spec(**members)))


def _namespaces(*kinds: str) -> list[dict[str, Any]]:
    return [{"type": kind} for kind in kinds]


@pytest.mark.parametrize(
    ("members", "pointer", "message"),
    [
        pytest.param({"namespaces": [{}]}, "namespaces[0].type", "missing", id="no type"),
        pytest.param(
            {"namespaces": _namespaces("pid", "net")},
            "namespaces[1].type",
            "'net' is none of cgroup, ipc, mount, network, pid, time, user, uts",
            id="unknown type",
        ),
        pytest.param(
            {"namespaces": _namespaces("pid", "ipc", "pid")}, "namespaces[2].type", "pid is given twice", id="twice"
        ),
        pytest.param(
            {"namespaces": [{"type": "pid", "path": "proc/1/ns/pid"}]},
            "namespaces[0].path",
            "'proc/1/ns/pid' is not an absolute path",
            id="relative path",
        ),
        pytest.param(
            {"namespaces": [{"type": "pid", "path": "/\0"}]},
            "namespaces[0].path",
            "NUL character in '/\\x00'",
            id="NUL in path",
        ),
        pytest.param({"namespaces": {}}, "namespaces", "want an array, got an object", id="no array"),
        pytest.param({"cgroupsPath": "/a\n"}, "cgroupsPath", "line break in '/a\\n'", id="cgroupsPath"),
        pytest.param(
            {"rootfsPropagation": "Shared"},
            "rootfsPropagation",
            "'Shared' is none of private, rprivate, rshared, rslave, runbindable, shared, slave, unbindable",
            id="rootfsPropagation",
        ),
        pytest.param(
            {"maskedPaths": ["/a"]},
            "maskedPaths",
            "set without a mount namespace: it would hide the host's files",
            id="maskedPaths without mount namespace",
        ),
        pytest.param(
            {"readonlyPaths": ["proc"], "namespaces": _namespaces("mount")},
            "readonlyPaths[0]",
            "'proc' is not an absolute path",
            id="relative readonlyPaths",
        ),
        pytest.param(
            {"maskedPaths": ["/a", ""], "namespaces": _namespaces("mount")},
            "maskedPaths[1]",
            "'' is not an absolute path",
            id="empty maskedPaths",
        ),
        pytest.param({"mountLabel": "a\nb"}, "mountLabel", "line break in 'a\\nb'", id="mountLabel"),
        pytest.param({"personality": {}}, "personality.domain", "missing", id="no personality domain"),
        pytest.param(
            {"personality": {"domain": "LINUX64"}},
            "personality.domain",
            "'LINUX64' is none of LINUX, LINUX32",
            id="personality domain",
        ),
        pytest.param(
            {"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}},
            "personality.flags",
            "the runtime specification defines no flags",
            id="personality flags",
        ),
        pytest.param(
            {"intelRdt": {"closID": "../x"}}, "intelRdt.closID", "'../x' is not the name of a directory", id="closID"
        ),
        pytest.param(
            {"intelRdt": {"closID": ".."}}, "intelRdt.closID", "'..' is not the name of a directory", id="closID .."
        ),
        pytest.param(
            {"intelRdt": {"schemata": ["L3:0=f\nMB:0=20"]}},
            "intelRdt.schemata[0]",
            "line break in 'L3:0=f\\nMB:0=20'",
            id="two schemata in one",
        ),
        pytest.param(
            {"timeOffsets": {"boottime": {"secs": 1}}},
            "timeOffsets",
            "set without a time namespace",
            id="offsets without time namespace",
        ),
        pytest.param(
            {"timeOffsets": {"realtime": {}}, "namespaces": _namespaces("time")},
            'timeOffsets["realtime"]',
            "'realtime' is none of boottime, monotonic",
            id="unknown clock",
        ),
        pytest.param(
            {"timeOffsets": {"monotonic": {"nanosecs": 10**9}}, "namespaces": _namespaces("time")},
            'timeOffsets["monotonic"].nanosecs',
            "1000000000 is not between 0 and 999999999",
            id="nanosecs",
        ),
        pytest.param({"resources": []}, "resources", "want an object, got an array", id="resources"),
        pytest.param({"seccomp": "none"}, "seccomp", "want an object, got the string 'none'", id="seccomp"),
    ],
)
def test_linux_members_are_checked(members: dict[str, Any], pointer: str, message: str) -> None:
    """One mistake, one problem, at its place."""
    _check(members, (pointer, message))


@pytest.mark.parametrize("kind", sorted(set(NAMESPACES) - {"user"}))
@pytest.mark.parametrize("path", [None, "", "/proc/1/ns/x"], ids=["null", "new", "joined"])
def test_every_kind_of_namespace_is_taken(kind: str, path: str | None) -> None:
    """New, or joined by its path."""
    _check({"namespaces": [{"type": kind, "path": path}]})


@pytest.mark.parametrize("value", ["", *ROOTFS_PROPAGATION])
def test_every_propagation_is_taken(value: str) -> None:
    """The specification's words, and the recursive ones that callers use."""
    _check({"rootfsPropagation": value})


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(
            {"namespaces": [USER]},
            [
                ("uidMappings", "missing, but linux.namespaces asks for a new user namespace"),
                ("gidMappings", "missing, but linux.namespaces asks for a new user namespace"),
            ],
            id="new without mappings",
        ),
        pytest.param(
            {"namespaces": [USER], "uidMappings": ONE, "gidMappings": []},
            [("gidMappings", "missing, but linux.namespaces asks for a new user namespace")],
            id="new without gid mappings",
        ),
        pytest.param(
            {"uidMappings": ONE, "gidMappings": ONE},
            [
                ("uidMappings", "set without a user namespace"),
                ("gidMappings", "set without a user namespace"),
            ],
            id="mappings without namespace",
        ),
        pytest.param(
            {"namespaces": [USER], "uidMappings": [*ONE, *ONE], "gidMappings": ONE},
            [
                ("uidMappings[1].containerID", "overlaps with linux.uidMappings[0]"),
                ("uidMappings[1].hostID", "overlaps with linux.uidMappings[0]"),
            ],
            id="overlap",
        ),
        pytest.param({"namespaces": [USER], "uidMappings": ONE, "gidMappings": ONE}, [], id="new with mappings"),
        pytest.param({"namespaces": [{**USER, "path": "/proc/1/ns/user"}]}, [], id="joined without mappings"),
        pytest.param(
            {"namespaces": [{**USER, "path": "/proc/1/ns/user"}], "uidMappings": ONE, "gidMappings": ONE},
            [],
            id="joined with mappings",
        ),
        pytest.param({"uidMappings": [], "gidMappings": None}, [], id="empty"),
    ],
)
def test_user_namespace_and_mappings_go_together(members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Neither makes sense alone."""
    _check(members, *expected)


@pytest.mark.parametrize(
    ("key", "namespace"),
    [
        *((key, "ipc") for key in IPC_SYSCTLS),
        ("fs.mqueue.msg_max", "ipc"),
        ("fs/mqueue/msg_max", "ipc"),
        ("net.ipv4.ip_forward", "network"),
        ("net/ipv4/conf/eno2.100/rp_filter", "network"),
        ("kernel.domainname", "uts"),
    ],
)
def test_namespaced_sysctls_need_their_namespace(key: str, namespace: str) -> None:
    """Taken with it, refused without, lest the host change."""
    others = sorted(set(NAMESPACES) - {namespace, "user"})
    cause = f"it belongs to the {namespace} namespace, and the container has none of its own"

    _check({"sysctl": {key: "1"}, "namespaces": _namespaces(namespace)})
    _check({"sysctl": {key: "1"}, "namespaces": _namespaces(*others)}, (member_of("sysctl", key), cause))


@pytest.mark.parametrize(
    ("key", "cause"),
    [
        ("kernel.hostname", "the host name has a member of its own"),
        ("kernel.core_pattern", "not namespaced: it would change the host"),
        ("kernel.shmmaxx", "not namespaced: it would change the host"),
        ("vm.swappiness", "not namespaced: it would change the host"),
        ("netx.ipv4", "not namespaced: it would change the host"),
        ("", "not the name of a sysctl"),
        ("net.", "not the name of a sysctl"),
        ("net..x", "not the name of a sysctl"),
        ("net/../kernel/core_pattern", "not the name of a sysctl"),
        ("net./.kernel", "not the name of a sysctl"),
        ("net.ipv4/../../kernel.core_pattern", "not the name of a sysctl"),
        ("net.ipv4.//.//.kernel.core_pattern", "not the name of a sysctl"),
        ("/net/x", "not the name of a sysctl"),
        ("net.x\ny", "not the name of a sysctl"),
    ],
)
def test_other_sysctls_are_refused(key: str, cause: str) -> None:
    """Whatever would reach the host's own, or climb out of its directory."""
    namespaces = _namespaces("ipc", "network", "uts", "mount", "pid")

    _check({"sysctl": {key: "1"}, "namespaces": namespaces}, (member_of("sysctl", key), cause))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param({}, [("type", "missing"), ("path", "missing")], id="empty"),
        pytest.param({"type": "x", "path": "/dev/x"}, [("type", "'x' is none of b, c, u, p")], id="type"),
        pytest.param(
            {"type": "c", "path": "dev/x", "major": 1, "minor": 1},
            [("path", "'dev/x' is not an absolute path")],
            id="path",
        ),
        pytest.param(
            {"type": "c", "path": "/dev/x"},
            [("major", "missing, but type 'c' needs it"), ("minor", "missing, but type 'c' needs it")],
            id="no numbers",
        ),
        pytest.param(
            {"type": "b", "path": "/dev/x", "major": 4096, "minor": -1},
            [("major", "4096 is not between 0 and 4095"), ("minor", "-1 is not between 0 and 1048575")],
            id="numbers beyond the kernel's",
        ),
        pytest.param(
            {"type": "p", "path": "/dev/x", "fileMode": "0666"},
            [("fileMode", "want an integer, got the string '0666'")],
            id="file mode as a string",
        ),
        pytest.param({"type": "p", "path": "/dev/x"}, [], id="a pipe has no numbers"),
        pytest.param({"type": "u", "path": "/dev/x", "major": 0, "minor": 1048575, "uid": None}, [], id="unbuffered"),
    ],
)
def test_devices_are_checked(device: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """mknod(2) would answer EINVAL, or make another device."""
    _check({"devices": [device]}, *((f"devices[0].{member}", message) for member, message in expected))


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        pytest.param({"eth0": {}}, [], id="same name"),
        pytest.param({"eth0": None}, [], id="null"),
        pytest.param({"eth0": {"name": "x" * 15}}, [], id="longest name"),
        pytest.param(
            {"eth0": {"name": "x" * 16}},
            [('netDevices["eth0"].name', f"'{'x' * 16}' is not the name of a network interface")],
            id="long name",
        ),
        pytest.param(
            {"eth0": {"name": "a b"}},
            [('netDevices["eth0"].name', "'a b' is not the name of a network interface")],
            id="white space",
        ),
        pytest.param(
            {"eth0": {"name": ".."}},
            [('netDevices["eth0"].name', "'..' is not the name of a network interface")],
            id="dots",
        ),
        pytest.param(
            {"eth0": {"name": "eth%d"}},
            [('netDevices["eth0"].name', "'eth%d' is not the name of a network interface")],
            id="pattern",
        ),
        pytest.param({"a/b": {}}, [('netDevices["a/b"]', "'a/b' is not the name of a network interface")], id="host"),
        pytest.param(
            {"eth0": {"name": "in0"}, "eth1": {"name": "in0"}},
            [('netDevices["eth1"].name', "'in0' is given to two interfaces")],
            id="twice",
        ),
    ],
)
def test_net_devices_are_checked(devices: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """net/core/dev.c dev_valid_name"""
    _check({"netDevices": devices, "namespaces": _namespaces("network")}, *expected)


def test_net_devices_need_a_network_namespace() -> None:
    """There is nowhere else to move them."""
    _check({"netDevices": {"eth0": {}}}, ("netDevices", "set without a network namespace"))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param({"mode": "MPOL_DEFAULT"}, [], id="default"),
        pytest.param({"mode": "MPOL_LOCAL", "nodes": ""}, [], id="local"),
        pytest.param({"mode": "MPOL_PREFERRED"}, [], id="preferred, local"),
        pytest.param({"mode": "MPOL_PREFERRED_MANY", "nodes": "0,2"}, [], id="preferred many"),
        pytest.param({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0-1"}, [], id="weighted interleave"),
        pytest.param({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, [], id="balancing"),
        pytest.param({}, [("mode", "missing")], id="no mode"),
        pytest.param(
            {"mode": "bind"},
            [
                (
                    "mode",
                    "'bind' is none of MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, "
                    "MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE",
                )
            ],
            id="unknown mode",
        ),
        pytest.param(
            {"mode": "MPOL_DEFAULT", "nodes": "0"}, [("nodes", "MPOL_DEFAULT takes no nodes")], id="default with nodes"
        ),
        pytest.param(
            {"mode": "MPOL_LOCAL", "nodes": "0"}, [("nodes", "MPOL_LOCAL takes no nodes")], id="local with nodes"
        ),
        pytest.param({"mode": "MPOL_BIND"}, [("nodes", "missing, but MPOL_BIND needs them")], id="bind without nodes"),
        pytest.param(
            {"mode": "MPOL_INTERLEAVE", "nodes": "x"},
            [("nodes", "'x' is not a list of nodes: 'x' is neither a number nor a range")],
            id="nodes",
        ),
        pytest.param(
            {"mode": "MPOL_BIND", "nodes": "1024"},
            [("nodes", "'1024' is not a list of nodes: 1024 is above 1023")],
            id="node 1024",
        ),
        pytest.param(
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
            [("flags", "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other")],
            id="static and relative",
        ),
        pytest.param(
            {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"]},
            [("flags", "MPOL_PREFERRED without nodes takes no flags about nodes")],
            id="preferred static without nodes",
        ),
        pytest.param(
            {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
            [("flags", "MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY, not with MPOL_INTERLEAVE")],
            id="balancing with interleave",
        ),
        pytest.param(
            {"mode": "MPOL_DEFAULT", "flags": ["STATIC"]},
            [
                (
                    "flags[0]",
                    "'STATIC' is none of MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES",
                )
            ],
            id="unknown flag",
        ),
    ],
)
def test_memory_policy_is_checked(policy: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """set_mempolicy(2) would answer EINVAL."""
    _check({"memoryPolicy": policy}, *((f"memoryPolicy.{member}", message) for member, message in expected))


@given(st.lists(st.sampled_from([".", "/", "net", "kernel", "core_pattern", "fs", "mqueue"]), max_size=9).map("".join))
def test_no_sysctl_that_is_taken_leaves_its_directory(key: str) -> None:
    """The path that would be written stays below net or fs/mqueue, whatever the separators."""
    namespaces = _namespaces("ipc", "network", "uts")
    if not validate(linux_spec(sysctl={key: "1"}, namespaces=namespaces)):
        path = posixpath.normpath(sysctl_path(key))
        assert path.startswith(("net/", "fs/mqueue/"))
