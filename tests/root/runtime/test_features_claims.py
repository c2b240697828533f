"""``features`` is true in every line: each claim is put to a container, and the kernel says whether it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conformance.harness import Bundle, Runtime
from corral.linux.caps import last_cap
from corral.oci.features import features

pytestmark = pytest.mark.requires("root", "busybox", "cc")

CLAIMS = features(version="x", libseccomp_version="x", has_systemd_driver=True)
_MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
# Options that mean something only for a bind mount.
_OF_BINDS = ("bind", "rbind", "idmap", "ridmap", "copy-symlink")


@pytest.fixture
def document(runtime: Runtime) -> dict[str, Any]:
    """What the runtime claims."""
    claims: dict[str, Any] = runtime("features").json()
    return claims


def test_claims_are_those_of_this_table(document: dict[str, Any]) -> None:
    """What the tests below go through is what the command prints."""
    assert CLAIMS["mountOptions"] == document["mountOptions"]
    for name in ("namespaces", "capabilities", "memoryPolicy", "cgroup", "netDevices", "mountExtensions"):
        assert CLAIMS["linux"][name] == document["linux"][name]
    assert (CLAIMS["hooks"], "1.0.0", "1.3.0") == (
        document["hooks"],
        document["ociVersionMin"],
        document["ociVersionMax"],
    )


def mount_with(option: str, number: int, bundle: Bundle) -> dict[str, Any]:
    """A mount with the option, of a kind for which it means something."""
    target = f"/m{number}"
    if option == "remount":
        return {"destination": "/dev/shm", "type": "tmpfs", "options": ["remount", "ro"]}
    if option not in _OF_BINDS:
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": [option]}
    mount: dict[str, Any] = {"destination": target, "source": str(bundle.path / "source"), "options": ["rbind", option]}
    if option in ("idmap", "ridmap"):
        mount.update(uidMappings=_MAP, gidMappings=_MAP)
    return mount


def test_every_mount_option_is_taken_by_the_kernel(runtime: Runtime, bundle: Bundle) -> None:
    """In one container. A word that was merely passed through as data would be refused by tmpfs."""
    (bundle.path / "source").mkdir()
    for number, option in enumerate(CLAIMS["mountOptions"]):
        if option not in ("acl", "noacl", "mand", "nomand", "iversion", "noiversion"):
            bundle.spec["mounts"].append(mount_with(option, number, bundle))
    runtime.run(bundle, "true")


@pytest.mark.parametrize("option", ["acl", "noacl", "mand", "nomand", "iversion", "noiversion"])
def test_option_of_some_filesystems_is_understood(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """Not every kernel and filesystem has these; the runtime must know them, so a bind takes or drops them."""
    (bundle.path / "source").mkdir()
    mount = {"destination": "/m", "source": str(bundle.path / "source"), "options": ["bind", option]}
    bundle.spec["mounts"].append(mount)
    runtime.run(bundle, "true")


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2", "1.1.0", "1.2.1", "1.3.0"])
def test_versions_in_the_claimed_range_are_taken(runtime: Runtime, bundle: Bundle, version: str) -> None:
    """From min to max."""
    bundle.spec["ociVersion"] = version
    runtime.run(bundle, "true")


def test_every_namespace_is_made(runtime: Runtime, bundle: Bundle) -> None:
    """All of them new, each with an identity of its own."""
    kinds = {"mount": "mnt", "network": "net"}
    names = [kinds.get(name, name) for name in CLAIMS["linux"]["namespaces"]]
    bundle.linux["namespaces"] = [{"type": name} for name in CLAIMS["linux"]["namespaces"]]
    same = [{"containerID": 0, "hostID": 0, "size": 65536}]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = same
    inside = runtime.run(bundle, f"cd /proc/self/ns && for n in {' '.join(names)}; do readlink $n; done").lines

    assert [] == [name for name, identity in zip(names, inside, strict=True) if identity == _own_namespace(name)]


def _own_namespace(name: str) -> str:
    return str(Path(f"/proc/self/ns/{name}").readlink())


def test_every_hook_is_run(runtime: Runtime, bundle: Bundle) -> None:
    """All six kinds leave their mark."""
    log = bundle.path / "log"
    inside = bundle.rootfs / "log"
    bundle.spec["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {'/log' if kind[:2] == 'st' else log}"]}]
        for kind in CLAIMS["hooks"]
    }
    runtime.run(bundle, "true")
    seen = log.read_text().split() + inside.read_text().split()

    assert sorted(CLAIMS["hooks"]) == sorted(seen)


def test_every_capability_of_this_kernel_is_given(runtime: Runtime, bundle: Bundle) -> None:
    """The bounding set is the claimed list, as far as kernel and caller have them; no name is unknown."""
    bundle.process["capabilities"] = {"bounding": CLAIMS["linux"]["capabilities"]}
    status = runtime.run(bundle, "grep CapBnd /proc/self/status")
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapPrm"))

    assert int(own.split()[1], 16) == int(status.stdout.split()[1], 16)
    assert "unknown capability" not in status.stderr
    assert len(CLAIMS["linux"]["capabilities"]) > last_cap()


def seccomp_with(document: dict[str, Any], action: str, operator: str) -> dict[str, Any]:
    """A profile with this action and operator, for a call that nobody makes with these arguments."""
    rule: dict[str, Any] = {"names": ["getcpu"], "action": action}
    rule["args"] = [{"index": 0, "value": 12345, "valueTwo": 12345, "op": operator}]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": document["linux"]["seccomp"]["archs"],
        "flags": [],
        "syscalls": [rule],
    }


def test_every_seccomp_claim_is_loaded(runtime: Runtime, bundle: Bundle, document: dict[str, Any]) -> None:
    """Each action, each operator, each supported flag, with all architectures at once."""
    seccomp = document["linux"]["seccomp"]
    native = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    actions = [name for name in seccomp["actions"] if name != "SCMP_ACT_NOTIFY"]
    for number, action in enumerate(actions):
        operator = seccomp["operators"][number % len(seccomp["operators"])]
        bundle.linux["seccomp"] = seccomp_with(document, action, operator)
        bundle.linux["seccomp"]["architectures"] = native
        assert "2\n" == runtime.run(bundle, "grep Seccomp: /proc/self/status | cut -f2").stdout
    bundle.linux["seccomp"]["flags"] = [name for name in seccomp["supportedFlags"] if "KILLABLE" not in name]
    runtime.run(bundle, "true")


def test_every_seccomp_architecture_is_compiled(runtime: Runtime, bundle: Bundle, document: dict[str, Any]) -> None:
    """Byte orders do not mix in one filter, so one at a time; none is unknown to the library."""
    for name in document["linux"]["seccomp"]["archs"]:
        bundle.linux["seccomp"] = seccomp_with(document, "SCMP_ACT_ERRNO", "SCMP_CMP_EQ")
        bundle.linux["seccomp"]["architectures"] = [name]
        bundle.write()
        result = runtime("check", bundle.path, check=False)
        assert "does not know it" not in result.stdout


@pytest.mark.requires("memory-policy")
@pytest.mark.parametrize("mode", CLAIMS["linux"]["memoryPolicy"]["modes"])
def test_every_memory_policy_is_set_or_refused_by_the_kernel(runtime: Runtime, bundle: Bundle, mode: str) -> None:
    """The runtime knows each; an older kernel may lack a mode, and then says so itself."""
    nodes = "" if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else "0"
    bundle.linux["memoryPolicy"] = {"mode": mode, "nodes": nodes, "flags": []}
    result = runtime.run(bundle, "true", check=False)

    assert result.returncode == 0 or "(config linux.memoryPolicy): invalid argument" in result.stderr


def test_annotations_claim_no_checkpoint(runtime: Runtime, document: dict[str, Any]) -> None:
    """And there is none."""
    assert "false" == document["annotations"]["org.corral.checkpoint.enabled"]
    assert 1 == runtime("checkpoint", "c1", check=False).returncode


def test_systemd_driver_is_claimed_and_needs_systemd(
    runtime: Runtime, bundle: Bundle, document: dict[str, Any]
) -> None:
    """Where systemd is not the init, a scope is refused by name; where it is, the statements S0.2 and S0.9 prove it."""
    assert document["linux"]["cgroup"]["systemd"]
    bundle.linux["cgroupsPath"] = "corral.slice:corral:c1"
    bundle.write()
    result = runtime("--systemd-cgroup", "run", "--bundle", bundle.path, "c1", check=False)

    assert Path("/run/systemd/system").is_dir() or "this host is not run by systemd" in result.stderr


@pytest.mark.parametrize("name", ["apparmor", "selinux", "intelRdt"])
def test_claimed_security_modules_are_refused_clearly_where_they_are_missing(
    runtime: Runtime, bundle: Bundle, name: str
) -> None:
    """Claimed is that the runtime knows them, whatever the host has."""
    fields: dict[str, tuple[dict[str, Any], str, Any, Path]] = {
        "apparmor": (bundle.process, "apparmorProfile", "none-such", Path("/sys/module/apparmor")),
        "selinux": (bundle.process, "selinuxLabel", "a:b:c", Path("/sys/fs/selinux/enforce")),
        "intelRdt": (bundle.linux, "intelRdt", {}, Path("/sys/fs/resctrl/schemata")),
    }
    owner, field, value, there = fields[name]
    if there.exists():
        pytest.skip(f"this host has {name}")
    owner[field] = value
    result = runtime.refuse(bundle, field)

    assert "on this host" in result.stderr


def test_features_are_one_json_document(runtime: Runtime) -> None:
    """Nothing else is printed."""
    result = runtime("features")

    assert ("", True) == (result.stderr, isinstance(json.loads(result.stdout), dict))
