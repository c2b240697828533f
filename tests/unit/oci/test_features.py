"""corral.oci.features: what the features command claims."""

from __future__ import annotations

from corral.oci.features import features
from corral.oci.json import dumps, loads
from corral.oci.mount_options import MOUNT_OPTIONS
from corral.oci.validate import validate
from unit.oci.documents import linux_spec, minimal_spec


def test_features_name_the_versions_of_the_specification() -> None:
    """From 1.0.0 to 1.3.0."""
    document = features(version="0.1.0")

    assert ("1.0.0", "1.3.0") == (document["ociVersionMin"], document["ociVersionMax"])


def test_features_tell_of_no_seccomp_when_the_library_is_missing() -> None:
    """Nothing is claimed beyond that."""
    document = features(version="0.1.0")

    assert {"enabled": False} == document["linux"]["seccomp"]
    assert {"org.corral.checkpoint.enabled": "false", "org.corral.version": "0.1.0"} == document["annotations"]


def test_features_tell_of_seccomp_when_the_library_is_there() -> None:
    """Its architectures, and of the flags those the kernel takes."""
    document = features(
        version="0.1.0",
        libseccomp_version="2.5.4",
        seccomp_architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        seccomp_supported_flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SOMETHING_ELSE"],
        commit="abc",
    )
    seccomp = document["linux"]["seccomp"]

    assert seccomp["enabled"]
    assert ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"] == seccomp["archs"]
    assert ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"] == seccomp["supportedFlags"]
    assert {
        "io.github.seccomp.libseccomp.version": "2.5.4",
        "org.corral.checkpoint.enabled": "false",
        "org.corral.commit": "abc",
        "org.corral.version": "0.1.0",
    } == document["annotations"]


def test_features_tell_of_the_systemd_driver_when_it_is_built_in() -> None:
    """Both of its kinds."""
    assert {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True} == features(version="1")[
        "linux"
    ]["cgroup"]
    assert features(version="1", has_systemd_driver=True)["linux"]["cgroup"]["systemdUser"]


def test_every_claim_is_one_that_validation_takes() -> None:
    """What is listed as recognized is recognized."""
    document = features(version="1", libseccomp_version="2.5.4")
    linux = document["linux"]
    mappings = [{"containerID": 0, "hostID": 0, "size": 1}]
    spec = linux_spec(
        namespaces=[{"type": kind} for kind in linux["namespaces"]],
        uidMappings=mappings,
        gidMappings=mappings,
        seccomp={
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": linux["seccomp"]["archs"],
            "flags": linux["seccomp"]["knownFlags"],
            "listenerPath": "/s",
            "syscalls": [
                {"names": ["a"], "action": action, "args": [{"index": 0, "value": 0, "op": operator}]}
                for action in linux["seccomp"]["actions"]
                for operator in linux["seccomp"]["operators"]
            ],
        },
    )
    spec["hooks"] = {name: [{"path": "/h"}] for name in document["hooks"]}
    capabilities = dict.fromkeys(
        ("bounding", "permitted", "inheritable", "effective", "ambient"), linux["capabilities"]
    )
    spec["process"] = {"args": ["a"], "cwd": "/", "capabilities": capabilities}

    assert [] == validate(spec)
    assert sorted(MOUNT_OPTIONS) == document["mountOptions"]
    for mode in linux["memoryPolicy"]["modes"]:
        nodes = "" if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else "0"
        assert [] == validate(minimal_spec(linux={"memoryPolicy": {"mode": mode, "nodes": nodes}}))


def test_features_are_json() -> None:
    """The document survives the way through text, and no list is shared with the tables."""
    document = features(version="1", libseccomp_version="2.5.4")

    assert document == loads(dumps(document, indent=2).encode())
    document["hooks"].clear()
    assert 6 == len(features(version="1")["hooks"])
