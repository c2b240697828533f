"""S0 below a group with processes of its own: on v2 such a group can give no controllers, and must not be bent to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import places
from behaviours.facts import applies
from conformance.harness import Bundle, Runtime, unique_id

pytestmark = applies("v2", "root", "cgroupfs-driver")


@pytest.fixture
def occupied(cgroup_parent: str) -> Iterator[str]:
    """The path of a group with a process; all controllers are available in it, none is given to its children."""
    path = f"{cgroup_parent}/{unique_id()}"
    directory = Path("/sys/fs/cgroup" + path)
    directory.mkdir(parents=True)
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+cpu +memory +pids")
    (directory.parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    with subprocess.Popen(["sleep", "1000"]) as process:
        (directory / "cgroup.procs").write_text(str(process.pid))
        yield path
        process.kill()
        process.wait()
    directory.rmdir()


def test_s0_1_container_below_an_occupied_group_is_in_its_place(
    runtime: Runtime, bundle: Bundle, occupied: str
) -> None:
    """Without limits it needs no controllers: it runs there, and the group above stays an ordinary one."""
    bundle.linux["cgroupsPath"] = f"{occupied}/{unique_id()}"
    with runtime.start(bundle) as c:
        assert places.is_at(c.pid, bundle.linux["cgroupsPath"])
        kinds = [Path(f"/sys/fs/cgroup{path}/cgroup.type") for path in (occupied, bundle.linux["cgroupsPath"])]
        assert [path.read_text() for path in kinds] == ["domain\n", "domain\n"]


@pytest.mark.parametrize(("name", "limits"), [("memory", {"limit": 64 << 20}), ("pids", {"limit": 40})])
def test_s0_8_limit_below_an_occupied_group_is_refused(
    runtime: Runtime, bundle: Bundle, occupied: str, name: str, limits: dict[str, int]
) -> None:
    """Whichever controller it needs: an error that names it, also where the kernel would bend the group above."""
    bundle.linux["cgroupsPath"] = f"{occupied}/{unique_id()}"
    bundle.resources[name] = limits
    done = runtime.refuse(bundle, f"'+{name}'", "another process lives in it")
    assert occupied in done.stderr
    assert Path(f"/sys/fs/cgroup{occupied}/cgroup.type").read_text() == "domain\n"
    assert list(Path(f"/sys/fs/cgroup{occupied}").glob("*/")) == []
