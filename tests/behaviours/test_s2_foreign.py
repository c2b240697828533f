"""S2.3 with systemd on v1: in a hierarchy that systemd leaves alone, a group of the scope's name is not ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import places
from behaviours.facts import applies
from conformance import cgroups
from conformance.harness import Bundle, Runtime

pytestmark = applies("not-v2", "root", "systemd-driver")


@pytest.fixture
def foreign(bundle: Bundle, cgroup_parent: str) -> Iterator[Path]:
    """A directory at the place of the bundle's scope, in the hierarchy of the freezer."""
    path = places.give_place(bundle, cgroup_parent)
    directory = cgroups.hierarchies()["freezer"] / path.lstrip("/")
    directory.mkdir(parents=True)
    yield directory
    for made in (directory, *directory.parents[: len(Path(path).parts) - 2]):
        if made.is_dir():
            made.rmdir()


def test_s2_3_populated_group_of_the_scopes_name_is_refused(runtime: Runtime, bundle: Bundle, foreign: Path) -> None:
    """Somebody's process is in it: the container does not start, and the process stays where it is."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        (foreign / "cgroup.procs").write_text(str(process.pid))
        runtime.refuse(bundle, "container's cgroup is not empty", str(foreign))
        assert (foreign / "cgroup.procs").read_text() == f"{process.pid}\n"
        process.kill()


def test_s2_3_empty_group_of_the_scopes_name_is_joined_and_stays(
    runtime: Runtime, bundle: Bundle, foreign: Path
) -> None:
    """Used like one of ours, recorded as joined, and there after the container's delete."""
    with runtime.start(bundle) as c:
        assert str(c.pid) in (foreign / "cgroup.procs").read_text().split()
        c.delete("--force")
        assert foreign.is_dir()
