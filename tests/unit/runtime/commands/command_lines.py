"""Runs Python commands in this process, as ``main`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.main import main
from unit.runtime.test_record import make_record

GROUP: dict[str, Any] = {
    "version": 2,
    "controllers": ["memory", "pids"],
    "mount_point": "/nowhere",
    "path": "/c1",
    "inode": 0,
    "hierarchy": "cgroup2",
    "fate": "created",
}
FIELDS: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "bundle": "/bundle",
    "rootfs": "/bundle/rootfs",
    "created": "2026-01-02T03:04:05.000000006Z",
    "owner": "root",
    "annotations": {},
    "cgroups": [],
    "cgroupAbsences": [],
}

Run = Callable[..., tuple[int, str, str]]


def make_container(root: Path, name: str = "c1", **members: Any) -> Path:
    """The record of a container that has stopped."""
    return make_record(root, name, **{**FIELDS, **members})


def runner(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs one command line and returns exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["--root", str(root), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run
