"""The failures of the field, replayed by name with the callers in which they were met."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import facts, places
from behaviours.facts import applies
from behaviours.groupless import READ_ONLY
from callers.buildah import Buildah
from callers.children import Children
from callers.conftest import NewSandbox
from callers.conftest import base as base
from callers.conftest import children as children
from callers.conftest import containerd as containerd
from callers.conftest import new_sandbox as new_sandbox
from callers.conftest import require as require
from callers.conftest import rootfs_tar as rootfs_tar
from callers.containerd import Containerd
from callers.sandbox import USER
from conformance.harness import Bundle, Runtime

pytestmark = applies("root")


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> Path:
    """As the callers' fixtures want it."""
    given = request.config.getoption("--runtime", default=None) or os.environ.get("CORRAL_CONFORMANCE_RUNTIME")
    return Path(given or Path(__file__).parents[2] / "build/bin/corral-runtime").absolute()


@pytest.fixture
def reaping() -> Iterator[None]:
    """Orphans of the callers are reaped while a test with one of them runs."""
    Children.reaping = True
    yield
    Children.reaping = False


@pytest.fixture
def _leak_check() -> None:
    """The callers' sandboxes look for leaks themselves."""


@pytest.fixture
def ctr(reaping: None, containerd: Containerd) -> Iterator[Containerd]:
    """containerd with the runtime under test; leaks are looked for afterwards."""
    yield from containerd.one_test()


@applies("containerd", "own-speed")
@pytest.mark.parametrize("userns", [False, True], ids=["plain", "userns"])
def test_s0_4_containerd_11589_systemd_form_without_the_systemd_driver(ctr: Containerd, userns: bool) -> None:
    """containerd hands over `slice:prefix:name` and has lost the driver: refused, and no group is made of it."""
    before = places.walk()
    path = "kubepods-besteffort-podX.slice:cri-containerd:replay"
    maps = ["--uidmap", "0:700000:65536", "--gidmap", "0:700000:65536"] if userns else []
    done = ctr(*ctr.run_words("replay", "--cgroup", path, *maps, command=["true"]), code=None)
    assert done.code != 0
    assert path in done.err
    assert "cgroupfs" in done.err
    ctr("container", "delete", "replay", code=None)
    assert [group for group in places.walk() - before if "podX" in str(group)] == []


@applies("containerd", "own-speed")
def test_s0_1_containerd_11589_workload_is_beside_its_sandbox(ctr: Containerd) -> None:
    """A container with a user namespace is in the group that containerd asked for, and nowhere else."""
    name = "replay-userns"
    path = f"{ctr.sandbox.cgroup_parent}/{name}"
    maps = ["--uidmap", "0:700000:65536", "--gidmap", "0:700000:65536"]
    ctr(*ctr.run_words(name, "-d", "--cgroup", path, *maps, command=["sleep", "1000"]))
    row = next(line.split() for line in ctr("task", "ls").out.splitlines() if line.startswith(name))
    assert set(places.groups_of(row[1]).values()) == {path}


@pytest.fixture(scope="session")
def read_only_buildah(require: object, new_sandbox: NewSandbox, rootfs_tar: Path) -> Buildah:
    """buildah as an unprivileged user, in a place where every cgroup mount is read-only, as BuildKit's is."""
    assert callable(require)
    require("buildah", "newuidmap", "newgidmap")
    sandbox, runtime = new_sandbox("behaviours-readonly")
    sandbox.path("context").mkdir()
    os.link(rootfs_tar, sandbox.path("context/rootfs.tar"))
    sandbox.run(["sh", "-c", READ_ONLY])
    return Buildah(sandbox, runtime, USER)


@pytest.fixture
def build(reaping: None, read_only_buildah: Buildah) -> Iterator[Buildah]:
    """One test's buildah."""
    yield from read_only_buildah.one_test()


@applies("buildah", "own-speed")
def test_s2_1_runc_4518_rootless_build_with_read_only_cgroups(build: Buildah) -> None:
    """Two steps: each is created, started and deleted; no delete complains of a group that never was."""
    done = build.build("RUN echo one > /one\nRUN test -s /one && echo seen\n", "--layers=false")
    assert "seen" in done.out
    assert build.runtime.verbs().count("delete") == 2
    complaints = [line for line in done.err.splitlines() if "cgroup" in line and "warning" not in line.lower()]
    assert [line for line in complaints if "remove" in line or "delete" in line or "rmdir" in line] == []


def test_s0_3_containerd_11589_no_literal_directory_is_left(runtime: Runtime, bundle: Bundle) -> None:
    """The form of the bug report, with a user namespace, given to the runtime itself."""
    if facts.driver() == "systemd":
        runtime.global_args = ["--cgroup-manager", "cgroupfs"]
    before = places.walk()
    places.give_user(bundle, with_userns=True)
    bundle.linux["cgroupsPath"] = "kubepods-podX.slice:cri-containerd:replay"
    runtime.refuse(bundle, "cgroupfs")
    assert places.names_with_colon(places.walk() - before) == []
