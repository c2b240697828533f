"""What this runtime recognizes, as the ``features`` command prints it.

Pure: what depends on the host or the build comes as arguments. "Recognizes" is about the runtime, whatever the host can
do, so nearly all of it is constant; only ``supportedFlags`` speaks of the host.

Source: runtime-spec features.md, features-linux.md.
"""

from __future__ import annotations

from corral.oci.mount_options import MOUNT_OPTIONS
from corral.oci.names import (
    CAPABILITY_NAMES,
    HOOK_NAMES,
    MEMORY_POLICY_FLAGS,
    MEMORY_POLICY_MODES,
    NAMESPACES,
    SECCOMP_ACTIONS,
    SECCOMP_ARCHITECTURES,
    SECCOMP_FLAGS,
    SECCOMP_OPERATORS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.oci.spec import CgroupFeatures, Features, SeccompFeatures

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION_MAX = "1.3.0"

# Annotations through which whoever writes the config reaches beyond the container; a trailing dot means a prefix.
UNSAFE_ANNOTATIONS = (
    "run.oci.",
    "org.corral.",
)


def features(
    *,
    version: str,
    libseccomp_version: str = "",
    seccomp_architectures: Iterable[str] = SECCOMP_ARCHITECTURES,
    seccomp_supported_flags: Iterable[str] = (),
    has_systemd_driver: bool = False,
    commit: str = "",
) -> Features:
    """The features document.

    ``version`` and ``commit`` are this runtime's. ``libseccomp_version`` is empty where the library is missing: seccomp
    is then not enabled. ``seccomp_architectures`` are those the library knows, ``seccomp_supported_flags`` those the
    host's kernel takes. ``has_systemd_driver`` tells whether the build drives systemd's cgroups.
    """
    seccomp: SeccompFeatures = {"enabled": bool(libseccomp_version)}
    if libseccomp_version:
        known = sorted(SECCOMP_FLAGS)
        seccomp["actions"] = list(SECCOMP_ACTIONS)
        seccomp["operators"] = list(SECCOMP_OPERATORS)
        seccomp["archs"] = sorted(seccomp_architectures)
        seccomp["knownFlags"] = known
        seccomp["supportedFlags"] = [flag for flag in known if flag in set(seccomp_supported_flags)]
    cgroup: CgroupFeatures = {
        "v1": True,
        "v2": True,
        "systemd": has_systemd_driver,
        "systemdUser": has_systemd_driver,
        "rdma": True,
    }
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": list(HOOK_NAMES),
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(CAPABILITY_NAMES),
            "cgroup": cgroup,
            "seccomp": seccomp,
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": sorted(MEMORY_POLICY_MODES), "flags": sorted(MEMORY_POLICY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": _annotations(version, commit, libseccomp_version),
        "potentiallyUnsafeConfigAnnotations": list(UNSAFE_ANNOTATIONS),
    }


def _annotations(version: str, commit: str, libseccomp_version: str) -> dict[str, str]:
    known = {
        "io.github.seccomp.libseccomp.version": libseccomp_version,
        "org.corral.checkpoint.enabled": "false",
        "org.corral.commit": commit,
        "org.corral.version": version,
    }
    return {name: value for name, value in known.items() if value}
