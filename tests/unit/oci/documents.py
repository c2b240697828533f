"""Documents that the tests of ``corral.oci`` start from, and ways to change one member of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from corral.oci.shape import Problem

_MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def minimal_spec(**members: Any) -> dict[str, Any]:
    """The smallest document without problems, with ``members`` added or replaced at the top."""
    return {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, **members}


def minimal_process(**members: Any) -> dict[str, Any]:
    """The smallest process without problems, with ``members`` added or replaced."""
    return {"args": ["true"], "cwd": "/", **members}


def linux_spec(**members: Any) -> dict[str, Any]:
    """The smallest document with a ``linux`` section of ``members``."""
    return minimal_spec(linux=members)


def problems_as_pairs(problems: list[Problem]) -> list[tuple[str, str]]:
    """Pointer and message of each problem, which is what tables compare."""
    return [(problem.pointer, problem.message) for problem in problems]


def _full_process() -> dict[str, Any]:
    capabilities = ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 0o22, "additionalGids": [3, 4]},
        "args": ["/bin/sh", "-c", "true"],
        "env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b"],
        "cwd": "/tmp",
        "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}],
        "noNewPrivileges": True,
        "apparmorProfile": "profile",
        "oomScoreAdj": -500,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "selinuxLabel": "system_u:system_r:container_t:s0",
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        "execCPUAffinity": {"initial": "0-1", "final": "0,1"},
    }


def _full_resources() -> dict[str, Any]:
    throttle = [{"major": 8, "minor": 0, "rate": 1048576}]
    return {
        "devices": [{"allow": False}, {"allow": True, "type": "c", "major": 1, "minor": -1, "access": "rw"}],
        "memory": {
            "limit": 67108864,
            "reservation": 33554432,
            "swap": -1,
            "kernelTCP": -1,
            "swappiness": 60,
            "disableOOMKiller": False,
            "useHierarchy": True,
            "checkBeforeUpdate": True,
        },
        "cpu": {
            "shares": 1024,
            "quota": 50000,
            "burst": 1000,
            "period": 100000,
            "realtimeRuntime": 0,
            "realtimePeriod": 0,
            "cpus": "0-1",
            "mems": "0",
            "idle": 0,
        },
        "pids": {"limit": 100},
        "blockIO": {
            "weight": 10,
            "leafWeight": 1000,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            "throttleReadBpsDevice": throttle,
            "throttleWriteBpsDevice": throttle,
            "throttleReadIOPSDevice": throttle,
            "throttleWriteIOPSDevice": throttle,
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2**64 - 1}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "unified": {"memory.high": "33554432", "io.max": "8:0 rbps=1048576"},
    }


def _full_linux() -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount", "user", "cgroup", "time"]
    return {
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "4096", "fs.mqueue.msg_max": "20"},
        "resources": _full_resources(),
        "cgroupsPath": "/group/inner",
        "namespaces": [*({"type": kind} for kind in kinds), {"type": "network", "path": "/run/netns/blue"}],
        "devices": [
            {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
            {"type": "p", "path": "/dev/pipe"},
        ],
        "netDevices": {"eth1": {"name": "inner1"}, "eth2": {}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "any text",
            "syscalls": [
                {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 8, "valueTwo": 2**64 - 1, "op": "SCMP_CMP_MASKED_EQ"}],
                },
            ],
        },
        "rootfsPropagation": "rslave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:object_r:container_file_t:s0",
        "intelRdt": {
            "closID": "guaranteed",
            "schemata": ["L3:0=7f0;1=1f", "MB:0=20;1=70"],
            "l3CacheSchema": "L3:0=7f0;1=1f",
            "memBwSchema": "MB:0=20;1=70",
            "enableMonitoring": True,
            "enableCMT": False,
            "enableMBM": False,
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1,3", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32", "flags": []},
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}, "boottime": {"secs": -1}},
    }


def full_spec() -> dict[str, Any]:
    """A document that uses every member of the specification for Linux, and has no problem."""
    hook = {"path": "/bin/hook", "args": ["hook"], "env": ["A=b"], "timeout": 5}
    document = {
        "ociVersion": "1.3.0",
        "process": _full_process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "inside",
        "domainname": "example.org",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {
                "destination": "/data",
                "type": "bind",
                "source": "/srv/data",
                "options": ["rbind", "ro", "ridmap"],
                "uidMappings": _MAPPINGS,
                "gidMappings": _MAPPINGS,
            },
        ],
        "hooks": {
            name: [hook]
            for name in (
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            )
        },
        "annotations": {"org.example.key": "value\nwith a line break"},
        "linux": _full_linux(),
    }
    return deepcopy(document)
