"""Plans as golden files: a table of configs and hosts. ``CORRAL_UPDATE_GOLDEN=1`` writes them anew; read the diff."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral.linux.seccomp import SeccompProgram
from corral.runtime.job import Options
from corral.runtime.wire import decode, encode
from unit.runtime.jobs import HOSTS, Config, compiled, config, detailed, namespaces, with_subids

GOLDEN = Path(__file__).parent / "golden"
_ID_MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
_OWN_ID = [{"containerID": 0, "hostID": 1000, "size": 1}]
_ALL = ("pid", "network", "ipc", "uts", "mount")


def _limits() -> Config:
    return config(
        cgroupsPath="/pods/one",
        resources={
            "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1"},
            "pids": {"limit": 100},
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            ],
        },
    )


def _mounts() -> Config:
    document = config()
    document["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "ro"]},
        {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "rprivate", "rro"]},
        {"destination": "/conf", "source": "/etc/conf", "options": ["bind", "ro", "nodev"]},
        {"destination": "/cache", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]},
        {
            "destination": "/mapped",
            "type": "bind",
            "source": "/srv",
            "options": ["bind"],
            "uidMappings": _ID_MAP,
            "gidMappings": _ID_MAP,
        },
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"]},
    ]
    return document


def _process() -> Config:
    document = config(seccomp={"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/agent.sock"})
    document["process"] = {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
        "args": ["server", "--port", "80"],
        "env": ["PATH=/bin:/usr/bin"],
        "cwd": "/work",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
        "noNewPrivileges": False,
        "oomScoreAdj": 100,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    }
    return document


def _kernel() -> Config:
    document = config(
        namespaces=namespaces(*_ALL, "cgroup", "time"),
        timeOffsets={"boottime": {"secs": 100}, "monotonic": {"secs": -5, "nanosecs": 7}},
        sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536"},
        personality={"domain": "LINUX32"},
        memoryPolicy={"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        netDevices={"eth1": {"name": "inner"}},
        rootfsPropagation="shared",
        intelRdt={"closID": "group", "l3CacheSchema": "L3:0=f"},
    )
    document["domainname"] = "example"
    document["annotations"] = {"run.oci.pidfd_receiver": "/run/pidfd.sock"}
    return document


def _hooks() -> Config:
    document = config()
    document["hooks"] = {
        kind: [{"path": f"/hooks/{kind}", "args": [kind, "x"], "env": ["A=b"], "timeout": 5}]
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    }
    document["annotations"] = {"run.oci.hooks.stdout": "/log/out", "run.oci.hooks.stderr": "/log/err", "k": 'v"pid":0'}
    return document


def _userns(mapping: list[dict[str, int]]) -> Config:
    document = config(namespaces=namespaces(*_ALL, "user"), uidMappings=mapping, gidMappings=mapping)
    document["mounts"].append({"destination": "/data", "source": "/srv/data", "options": ["bind", "idmap"]})
    return document


def _joined() -> Config:
    return config(namespaces=namespaces("mount", "uts", network="/run/netns/a", pid="/proc/7/ns/pid", user="/u"))


def _without_mount_namespace() -> Config:
    document = config(namespaces=namespaces("pid"), maskedPaths=[], readonlyPaths=[])
    document["mounts"] = []
    document["root"] = {"path": "rootfs"}
    document.pop("hostname")
    return document


def _impossible() -> Config:
    document = config(
        namespaces=namespaces("pid"),
        mountLabel="system_u:object_r:x",
        intelRdt={},
        resources={"rdma": {"mlx": {"hcaHandles": 1}}, "unified": {"memory.high": "1"}},
    )
    document.pop("process")
    return document


def _run_in_foreground() -> Options:
    options = Options()
    options.keep = True
    options.notify_socket = "/run/notify.sock"
    options.listen_fds = 2
    options.pid_file = "/run/pid"
    return options


def _create_with_terminal() -> Options:
    options = Options(is_create=True)
    options.console_socket = "/run/console.sock"
    options.preserve_fds = 1
    options.no_new_keyring = True
    options.no_pivot = True
    return options


_SECCOMP = SeccompProgram(b"\0" * 64, 8, True, ())

CASES: dict[str, tuple[Config, str, dict[str, Any]]] = {
    "default-v1": (config(), "v1", {}),
    "default-v2": (config(), "v2", {}),
    "default-hybrid": (config(), "hybrid", {}),
    "default-bare": (config(), "bare", {}),
    "default-disabled": (config(), "v2", {"manager": "disabled"}),
    "limits-v1": (_limits(), "v1", {}),
    "limits-v2": (_limits(), "v2", {}),
    "limits-hybrid": (_limits(), "hybrid", {}),
    "limits-rootless": (_limits(), "rootless", {}),
    "limits-bare": (_limits(), "bare", {}),
    "mounts-v1": (_mounts(), "v1", {}),
    "mounts-v2": (_mounts(), "v2", {}),
    "mounts-hybrid": (_mounts(), "hybrid", {}),
    "process-v2": (_process(), "v2", {"options": _create_with_terminal(), "seccomp": _SECCOMP}),
    "kernel-v1": (_kernel(), "v1", {}),
    "hooks-v2": (_hooks(), "v2", {}),
    "run-v2": (config(), "v2", {"options": _run_in_foreground()}),
    "userns-v2": (_userns(_ID_MAP), "v2", {}),
    "userns-rootless": (_userns(_ID_MAP), "rootless", {}),
    "userns-rootless-single": (_userns(_OWN_ID), "rootless", {}),
    "userns-nested": (_userns(_ID_MAP), "nested", {}),
    "joined-v2": (_joined(), "v2", {}),
    "no-mount-namespace-v2": (_without_mount_namespace(), "v2", {}),
    "impossible-v1": (_impossible(), "v1", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_plan_is_the_golden_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each config compiles, on each host, to the plan that was reviewed: every step, argument and pointer."""
    with_subids(monkeypatch, (100000, 65536))
    document, host, how = CASES[name]
    text = detailed(compiled(document, HOSTS[host](), **how))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("CORRAL_UPDATE_GOLDEN"):
        path.write_text(text)

    assert path.read_text() == text


def test_every_golden_file_has_its_case() -> None:
    """No file is left of a case that was dropped."""
    assert sorted(CASES) == sorted(path.stem for path in GOLDEN.glob("*.txt"))


@pytest.mark.parametrize("name", CASES)
def test_plan_survives_the_wire(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the front decodes explains itself in the same words."""
    with_subids(monkeypatch, (100000, 65536))
    document, host, how = CASES[name]
    plan = compiled(document, HOSTS[host](), **how).plan
    again = decode(encode(plan))

    assert [(s.actor, s.op, s.pointer) for s in plan] == [(s.actor, s.op, s.pointer) for s in again]


@pytest.mark.parametrize("name", CASES)
def test_compilation_gives_the_same_bytes_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same config on the same host is the same plan, to the byte."""
    with_subids(monkeypatch, (100000, 65536))
    document, host, how = CASES[name]

    assert encode(compiled(document, HOSTS[host](), **how).plan) == encode(
        compiled(document, HOSTS[host](), **how).plan
    )


def test_init_does_nothing_before_its_first_rendezvous() -> None:
    """Before the SYNC that says it is in its cgroups init does nothing but move there (S0.10)."""
    for document, host, how in CASES.values():
        steps = [step for step in compiled(document, HOSTS[host](), **how).plan if step.actor == 2]
        first = next(step for step in steps if step.op != "CG_ATTACH")
        assert ("SYNC", ("its place in the cgroups",)) == (first.op, first.args)
