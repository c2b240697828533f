"""Hosts and configs to compile for: what the golden plans are made of. Nothing of the real host gets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corral.cgroup.layout import Hierarchy, Layout
from corral.linux.seccomp import SeccompProgram
from corral.oci.default_spec import default_spec
from corral.oci.validate import normalize
from corral.runtime import births
from corral.runtime.commands.explain import render
from corral.runtime.create import compile_create
from corral.runtime.groups import place_groups
from corral.runtime.host import Host
from corral.runtime.job import Job, Options
from corral.runtime.plan import ACTOR_NAMES, Plan

Config = dict[str, Any]

_V1 = ("memory", "cpu,cpuacct", "pids", "freezer", "devices", "cpuset", "blkio")
_V2 = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def _v1_hierarchies() -> list[Hierarchy]:
    return [
        Hierarchy(index, 1, tuple(names.split(",")), mount_point=f"/sys/fs/cgroup/{names}")
        for index, names in enumerate(_V1)
    ]


def layout_v1() -> Layout:
    """All controllers on v1."""
    return Layout(tuple(_v1_hierarchies()))


def layout_v2() -> Layout:
    """cgroup v2 alone, the caller in /caller/leaf."""
    return Layout((Hierarchy(0, 2, _V2, mount_point="/sys/fs/cgroup", own_path="/caller/leaf"),))


def layout_hybrid() -> Layout:
    """v1, and beside it a v2 hierarchy that carries hugetlb."""
    hierarchies = _v1_hierarchies()
    unified = Hierarchy(len(hierarchies), 2, ("hugetlb",), mount_point="/sys/fs/cgroup/unified")
    return Layout((*hierarchies, unified))


def layout_nested() -> Layout:
    """Inside a container with a cgroup namespace and a read-only mount."""
    return Layout((Hierarchy(0, 2, _V2, mount_point="/sys/fs/cgroup", own_path="/", is_read_only=True),))


_SETFCAP = 1 << 31
HOSTS: dict[str, Callable[[], Host]] = {
    "v1": lambda: Host(layout_v1()),
    "v2": lambda: Host(layout_v2()),
    "hybrid": lambda: Host(layout_hybrid()),
    "rootless": lambda: Host(
        layout_v2(),
        euid=1000,
        egid=1000,
        permitted=0,
        effective=0,
        newuidmap="/usr/bin/newuidmap",
        newgidmap="/usr/bin/newgidmap",
    ),
    "nested": lambda: Host(layout_nested(), in_userns=True),
    "bare": lambda: Host(Layout(())),
}


def config(**linux: Any) -> Config:
    """The default config with members of ``linux`` replaced."""
    document: Config = dict(default_spec(rootless=False, uid=0, gid=0))
    document["process"] = {**document["process"], "terminal": False}
    document["linux"] = {**document["linux"], **linux}
    return document


def namespaces(*names: str, **paths: str) -> list[dict[str, str]]:
    """``linux.namespaces`` from names of new ones and name=path of joined ones."""
    return [{"type": name} for name in names] + [{"type": name, "path": path} for name, path in paths.items()]


def make_job(
    document: Config,
    host: Host,
    *,
    options: Options | None = None,
    seccomp: SeccompProgram | None = None,
    manager: str = "cgroupfs",
) -> Job:
    """A job as ``prepare`` would make it, not yet compiled."""
    job = Job(
        normalize(document),
        host,
        container_id="c1",
        bundle="/bundle",
        rootfs="/bundle/rootfs",
        record="/run/corral/c1",
        options=options or Options(is_create=True),
    )
    job.groups = place_groups(job, manager=manager, environ={})
    job.seccomp = seccomp
    return job


def compiled(document: Config, host: Host, **how: Any) -> Job:
    """The job with its plan."""
    job = make_job(document, host, **how)
    compile_create(job)
    return job


def ops(plan: Plan) -> list[str]:
    """Actor and name of each step."""
    return [f"{ACTOR_NAMES[step.actor]} {step.op}" for step in plan]


def detailed(job: Job) -> str:
    """What golden files hold: what ``explain`` prints, under each step its arguments, then problems and warnings."""
    lines = []
    for text, step in zip(render(job.plan).splitlines(), job.plan, strict=True):
        lines.append(text)
        shown = [f"<{len(a)} bytes>" if isinstance(a, bytes) else repr(a) for a in step.args]
        lines.append(f"            {step.op}({', '.join(shown)})")
    lines += [f"problem: {problem}" for problem in job.problems]
    lines += [f"warning: {text}" for text in job.warnings]
    return "\n".join(lines) + "\n"


def with_subids(monkeypatch: pytest.MonkeyPatch, *ranges: tuple[int, int]) -> None:
    """Let the unprivileged caller own these ranges, whatever /etc/subuid says."""
    monkeypatch.setattr(births, "read_subids", lambda kind, uid: list(ranges))
