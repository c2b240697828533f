"""corral.oci.default_spec: what the spec command writes."""

from __future__ import annotations

import pytest

from corral.oci.default_spec import default_spec
from corral.oci.json import dumps, loads
from corral.oci.validate import validate


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
@pytest.mark.parametrize("has_cgroup_namespace", [False, True], ids=["host cgroups", "own cgroups"])
def test_the_default_has_no_problems(rootless: bool, has_cgroup_namespace: bool) -> None:
    """Not even a warning, and it is JSON."""
    spec = default_spec(rootless=rootless, uid=1000, gid=100, has_cgroup_namespace=has_cgroup_namespace)

    assert [] == validate(spec)
    assert spec == loads(dumps(spec, indent=4).encode())


def test_the_default_is_a_confined_shell() -> None:
    """The values that users of other runtimes know."""
    spec = default_spec(rootless=False, uid=0, gid=0)
    process, linux = spec["process"], spec["linux"]

    assert (["sh"], "/", True, True) == (
        process["args"],
        process["cwd"],
        process["terminal"],
        process["noNewPrivileges"],
    )
    assert ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"] == process["capabilities"]["bounding"]
    assert [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}] == process["rlimits"]
    assert {"path": "rootfs", "readonly": True} == spec["root"]
    assert ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"] == [
        mount["destination"] for mount in spec["mounts"]
    ]
    assert ["pid", "network", "ipc", "uts", "mount"] == [namespace["type"] for namespace in linux["namespaces"]]
    assert {"devices": [{"allow": False, "access": "rwm"}]} == linux["resources"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])


def test_the_rootless_default_maps_root_to_the_caller() -> None:
    """And asks for nothing that an unprivileged user may not do."""
    spec = default_spec(rootless=True, uid=1000, gid=100)
    linux = spec["linux"]
    options = {mount["destination"]: mount.get("options", []) for mount in spec["mounts"]}

    assert [{"containerID": 0, "hostID": 1000, "size": 1}] == linux["uidMappings"]
    assert [{"containerID": 0, "hostID": 100, "size": 1}] == linux["gidMappings"]
    assert ["pid", "ipc", "uts", "mount", "user"] == [namespace["type"] for namespace in linux["namespaces"]]
    assert "resources" not in linux
    assert "gid=5" not in options["/dev/pts"]
    assert "rbind" in options["/sys"]


def test_two_defaults_share_nothing() -> None:
    """A caller may change its own."""
    first = default_spec(rootless=False, uid=0, gid=0)
    first["process"]["capabilities"]["bounding"].clear()

    assert 3 == len(default_spec(rootless=False, uid=0, gid=0)["process"]["capabilities"]["bounding"])
    assert 3 == len(first["process"]["capabilities"]["effective"])
