"""Which runtime is under test, and what its version is too old for.

A case that needs a feature says so with `@needs("feature")`. A peer that lacks it is
skipped, with the reason from this table. For corral the table is empty, and stays so: a
case of corral can only be skipped for a reason of the host (see `host`).
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

needs = pytest.mark.needs

# Feature -> the first version of runc that has it, or None if no version has.
_RUNC_SINCE: dict[str, tuple[int, ...] | None] = {
    "absence-refused": None,
    "atomic-create": None,
    "blkio-weight-fallback": (1, 1),
    "corral": None,
    "corral-or-crun": None,
    "cpu-burst": (1, 2),
    "cpu-idle": (1, 2),
    "domainname": (1, 2),
    "exclusive-cgroup": (1, 2),
    "exec-cgroup-check": (1, 2),
    "exec-cpu-affinity": (1, 3),
    "exec-umask": None,
    "features-mount-options": None,
    "hostile-passwd": None,
    "hugetlb-on-hybrid": None,
    "idmap": (1, 2),
    "io-priority": (1, 2),
    "locked-mount-flags": (1, 2),
    "memory-policy": (1, 4),
    "missing-controller-refused": None,
    "net-devices": (1, 4),
    "oom-score-clamp": None,
    "no-cgroup-recorded": None,
    "option-defaults": (1, 2),
    "personality": (1, 2),
    "pidfd-socket": (1, 2),
    "poststart-after-start": (1, 4),
    "poststart-failure": (1, 4),
    "poststop-continues": None,
    "recursive-attributes": (1, 1),
    "rootfs-propagation-of-the-root": None,
    "seccomp-flags": (1, 1, 10),
    "rootless-additional-groups": None,
    "scheduler": (1, 2),
    "strict-config": None,
    "systemd-form-refused": None,
    "time-namespace": (1, 2),
    "tmpfs-mode-on-a-directory": (1, 2),
    "update-devices": None,
    "unified-on-hybrid": None,
    "xdg-for-nested-root": None,
    "userns-path-without-mappings": (1, 2),
}
_CRUN_SINCE: dict[str, tuple[int, ...] | None] = {"corral": None}


def identify(path: str) -> tuple[str, tuple[int, ...]]:
    """The runtime's name and version, from the first line of `--version`.

    A binary that does not answer is an error of the caller: it is reported, not skipped.
    """
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    first = shown.stdout.splitlines()[0]
    match = re.match(r"(\S+) version (\d+(?:\.\d+)*)", first)
    if match is None:
        raise ValueError(f"version of {path!r}: {first!r}")
    name = "corral" if match[1].startswith("corral") else match[1]
    return name, tuple(int(part) for part in match[2].split("."))


def missing(name: str, version: tuple[int, ...], features: Iterable[str]) -> str | None:
    """Why this runtime cannot be asked for these features, or None if it can."""
    table = {"runc": _RUNC_SINCE, "crun": _CRUN_SINCE}.get(name, {})
    for feature in features:
        if feature in table:
            since = table[feature]
            shown = ".".join(str(part) for part in version)
            if feature == "corral":
                return f"an extra of corral, not of {name}"
            if since is None:
                return f"{name} {shown} has no {feature}"
            if version < since:
                first = ".".join(str(part) for part in since)
                return f"{name} {shown} has no {feature} (since {first})"
        elif name == "runc" and feature not in table:
            raise ValueError(f"unknown feature {feature!r}")
    return None
