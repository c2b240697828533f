"""What may stand in ``linux``, apart from resources and seccomp.

Source: runtime-spec config-linux.md; kernel sources as named at the checks.
"""

from __future__ import annotations

from corral.oci.mount_options import ROOTFS_PROPAGATION
from corral.oci.names import (
    IPC_SYSCTLS,
    MEMORY_POLICY_FLAGS,
    MEMORY_POLICY_MODES,
    NAMESPACES,
    PERSONALITY_DOMAINS,
    TIME_OFFSET_CLOCKS,
    parse_id_list,
    sysctl_name,
    sysctl_path,
)
from corral.oci.shape import (
    BOOLEAN,
    ID,
    INT64,
    LINE,
    STRING,
    UINT32,
    Problem,
    integer,
    list_of,
    map_of,
    member_of,
    object_of,
    quote,
    word,
)
from corral.oci.validate_mounts import MAPPINGS_RULE, check_mappings
from corral.oci.validate_resources import RESOURCES_SHAPE, check_resources
from corral.oci.validate_seccomp import SECCOMP_RULE, check_seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.oci.shape import Rule
    from corral.oci.spec import Device, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice

# The kernel's MINORBITS is 20 of 32 bits: include/linux/kdev_t.h
_MAX_MAJOR = 0xFFF
_MAX_MINOR = 0xFFFFF
# IFNAMSIZ - 1, include/uapi/linux/if.h
_MAX_INTERFACE_NAME = 15

LINUX_RULE: Rule = object_of(
    {
        "uidMappings": MAPPINGS_RULE,
        "gidMappings": MAPPINGS_RULE,
        "sysctl": map_of(STRING),
        "resources": object_of(RESOURCES_SHAPE),
        "cgroupsPath": LINE,
        "namespaces": list_of(object_of({"type": word(NAMESPACES), "path": STRING}, required=("type",))),
        "devices": list_of(
            object_of(
                {
                    "type": word(("b", "c", "u", "p")),
                    "path": STRING,
                    "major": INT64,
                    "minor": INT64,
                    "fileMode": UINT32,
                    "uid": ID,
                    "gid": ID,
                },
                required=("type", "path"),
            )
        ),
        "netDevices": map_of(object_of({"name": STRING})),
        "seccomp": SECCOMP_RULE,
        "rootfsPropagation": word((*ROOTFS_PROPAGATION, "")),
        "maskedPaths": list_of(STRING),
        "readonlyPaths": list_of(STRING),
        "mountLabel": LINE,
        "intelRdt": object_of(
            {
                "closID": LINE,
                "schemata": list_of(LINE),
                "l3CacheSchema": STRING,
                "memBwSchema": STRING,
                "enableMonitoring": BOOLEAN,
                "enableCMT": BOOLEAN,
                "enableMBM": BOOLEAN,
            }
        ),
        "memoryPolicy": object_of(
            {"mode": word(MEMORY_POLICY_MODES), "nodes": LINE, "flags": list_of(word(MEMORY_POLICY_FLAGS))},
            required=("mode",),
        ),
        "personality": object_of({"domain": word(PERSONALITY_DOMAINS), "flags": list_of(STRING)}, required=("domain",)),
        "timeOffsets": map_of(object_of({"secs": INT64, "nanosecs": integer(0, 999999999)})),
    }
)


def check_linux(linux: Linux, out: list[Problem]) -> None:
    """Add the problems of meaning of a ``linux`` whose types conform."""
    namespaces = linux.get("namespaces", [])
    present = _check_namespaces(namespaces, out)
    _check_user_namespace(linux, namespaces, out)
    _check_sysctl(linux.get("sysctl", {}), present, out)
    _check_time_offsets(linux, present, out)
    _check_devices(linux.get("devices", []), out)
    _check_net_devices(linux.get("netDevices", {}), present, out)
    _check_restricted_paths(linux, present, out)
    if "resources" in linux:
        check_resources(linux["resources"], "linux.resources", out)
    if "seccomp" in linux:
        check_seccomp(linux["seccomp"], "linux.seccomp", out)
    if "intelRdt" in linux:
        _check_intel_rdt(linux["intelRdt"], out)
    if "memoryPolicy" in linux:
        _check_memory_policy(linux["memoryPolicy"], out)
    if "personality" in linux and linux["personality"].get("flags", []):
        out.append(Problem("linux.personality.flags", "the runtime specification defines no flags"))


def _check_namespaces(namespaces: list[Namespace], out: list[Problem]) -> set[str]:
    present: set[str] = set()
    for index, namespace in enumerate(namespaces):
        if "type" in namespace:
            kind = namespace["type"]
            if kind in present:
                out.append(Problem(f"linux.namespaces[{index}].type", f"{kind} is given twice"))
            present.add(kind)
        path = namespace.get("path", "")
        if path and path[0] != "/":
            out.append(Problem(f"linux.namespaces[{index}].path", f"{quote(path)} is not an absolute path"))
    return present


def _check_user_namespace(linux: Linux, namespaces: list[Namespace], out: list[Problem]) -> None:
    is_present = is_new = False
    for namespace in namespaces:
        if namespace.get("type", "") == "user":
            is_present = True
            is_new = not namespace.get("path", "")
    for name, mappings in (
        ("uidMappings", linux.get("uidMappings", [])),
        ("gidMappings", linux.get("gidMappings", [])),
    ):
        pointer = f"linux.{name}"
        if mappings and not is_present:
            out.append(Problem(pointer, "set without a user namespace", 'add {"type": "user"} to linux.namespaces'))
        elif is_new and not linux.get(name):
            hint = "a new user namespace without mappings could run nothing"
            out.append(Problem(pointer, "missing, but linux.namespaces asks for a new user namespace", hint))
        check_mappings(mappings, pointer, out)


def _check_sysctl(sysctl: dict[str, str], present: set[str], out: list[Problem]) -> None:
    for key in sysctl:
        name = sysctl_name(key)
        cause = hint = ""
        if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
            needed = "ipc"
        elif name.startswith("net."):
            needed = "network"
        elif name == "kernel.domainname":
            needed = "uts"
        elif name == "kernel.hostname":
            needed = ""
            cause, hint = "the host name has a member of its own", "set hostname instead"
        else:
            needed = ""
            cause, hint = "not namespaced: it would change the host", "set it on the host"
        # Read as the path it will be: net/../kernel/core_pattern would start with the right word and climb out.
        components = sysctl_path(key).split("/")
        if "" in components or "." in components or ".." in components or "\n" in name:
            cause, hint = "not the name of a sysctl", ""
        elif needed and needed not in present:
            cause = f"it belongs to the {needed} namespace, and the container has none of its own"
            hint = f'add {{"type": "{needed}"}} to linux.namespaces'
        if cause:
            out.append(Problem(member_of("linux.sysctl", key), cause, hint))


def _check_time_offsets(linux: Linux, present: set[str], out: list[Problem]) -> None:
    offsets = linux.get("timeOffsets", {})
    if offsets and "time" not in present:
        hint = 'add {"type": "time"} to linux.namespaces'
        out.append(Problem("linux.timeOffsets", "set without a time namespace", hint))
    out.extend(
        Problem(member_of("linux.timeOffsets", clock), f"{quote(clock)} is none of boottime, monotonic")
        for clock in offsets
        if clock not in TIME_OFFSET_CLOCKS
    )


def _check_devices(devices: list[Device], out: list[Problem]) -> None:
    for index, device in enumerate(devices):
        pointer = f"linux.devices[{index}]"
        if "path" in device and device["path"][:1] != "/":
            out.append(Problem(f"{pointer}.path", f"{quote(device['path'])} is not an absolute path"))
        if "type" not in device or device["type"] == "p":
            continue
        for name, number, highest in (
            ("major", device.get("major"), _MAX_MAJOR),
            ("minor", device.get("minor"), _MAX_MINOR),
        ):
            if number is None:
                out.append(Problem(f"{pointer}.{name}", f"missing, but type {device['type']!r} needs it"))
            elif not 0 <= number <= highest:
                out.append(Problem(f"{pointer}.{name}", f"{number} is not between 0 and {highest}"))


def _check_net_devices(devices: dict[str, NetDevice], present: set[str], out: list[Problem]) -> None:
    if devices and "network" not in present:
        hint = 'add {"type": "network"} to linux.namespaces'
        out.append(Problem("linux.netDevices", "set without a network namespace", hint))
    seen: set[str] = set()
    for host_name, device in devices.items():
        pointer = member_of("linux.netDevices", host_name)
        name = device.get("name", "") or host_name
        if not _is_interface_name(host_name):
            out.append(Problem(pointer, f"{quote(host_name)} is not the name of a network interface"))
        elif not _is_interface_name(name):
            out.append(Problem(f"{pointer}.name", f"{quote(name)} is not the name of a network interface"))
        elif name in seen:
            out.append(Problem(f"{pointer}.name", f"{quote(name)} is given to two interfaces"))
        seen.add(name)


def _is_interface_name(name: str) -> bool:
    # net/core/dev.c dev_valid_name; a % would be taken for a pattern.
    return (
        0 < len(name.encode("utf-8", "surrogateescape")) <= _MAX_INTERFACE_NAME
        and name not in (".", "..")
        and not any(char in "/:%\0" or char.isspace() for char in name)
    )


def _check_restricted_paths(linux: Linux, present: set[str], out: list[Problem]) -> None:
    for name, paths in (
        ("maskedPaths", linux.get("maskedPaths", [])),
        ("readonlyPaths", linux.get("readonlyPaths", [])),
    ):
        if paths and "mount" not in present:
            hint = 'add {"type": "mount"} to linux.namespaces'
            out.append(Problem(f"linux.{name}", "set without a mount namespace: it would hide the host's files", hint))
        for index, path in enumerate(paths):
            if path[:1] != "/":
                out.append(Problem(f"linux.{name}[{index}]", f"{quote(path)} is not an absolute path"))


def _check_intel_rdt(rdt: IntelRdt, out: list[Problem]) -> None:
    group = rdt.get("closID", "")
    if group in (".", "..") or "/" in group:
        out.append(Problem("linux.intelRdt.closID", f"{quote(group)} is not the name of a directory"))


def _check_memory_policy(policy: MemoryPolicy, out: list[Problem]) -> None:
    # mm/mempolicy.c mpol_new and sanitize_mpol_flags
    mode = policy.get("mode", "")
    nodes = policy.get("nodes", "")
    flags = policy.get("flags", [])
    try:
        count = len(parse_id_list(nodes, highest=1023))
    except ValueError as exc:
        out.append(Problem("linux.memoryPolicy.nodes", f"{quote(nodes)} is not a list of nodes: {exc}"))
        return
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") and count:
        out.append(Problem("linux.memoryPolicy.nodes", f"{mode} takes no nodes"))
    if mode and mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not count:
        out.append(Problem("linux.memoryPolicy.nodes", f"missing, but {mode} needs them"))
    has_static = "MPOL_F_STATIC_NODES" in flags
    has_relative = "MPOL_F_RELATIVE_NODES" in flags
    if has_static and has_relative:
        message = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"
        out.append(Problem("linux.memoryPolicy.flags", message))
    if (has_static or has_relative) and (mode == "MPOL_LOCAL" or (mode == "MPOL_PREFERRED" and not count)):
        out.append(Problem("linux.memoryPolicy.flags", f"{mode} without nodes takes no flags about nodes"))
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in ("", "MPOL_BIND", "MPOL_PREFERRED_MANY"):
        message = f"MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY, not with {mode}"
        out.append(Problem("linux.memoryPolicy.flags", message))
