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
from callers.children import Children, wait_until
from callers.conftest import NewSandbox
from callers.conftest import base as base
from callers.conftest import children as children
from callers.conftest import containerd as containerd
from callers.conftest import new_sandbox as new_sandbox
from callers.conftest import require as require
from callers.conftest import rootfs_tar as rootfs_tar
from callers.containerd import Containerd
from callers.podman import Podman
from callers.sandbox import USER
from conformance import cgroups
from conformance.harness import Bundle, Runtime
from conformance.orphans import adopting_orphans

pytestmark = applies("root")
POD_SLICE = "kubepods-besteffort-podreplay.slice"


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> Path:
    """As the callers' fixtures want it."""
    given = request.config.getoption("--runtime", default=None) or os.environ.get("CORRAL_CONFORMANCE_RUNTIME")
    return Path(given or Path(__file__).parents[2] / "build/bin/corral-runtime").absolute()


@pytest.fixture
def reaping() -> Iterator[None]:
    """Orphans of the callers are reaped while a test with one of them runs."""
    Children.reaping = True
    with adopting_orphans():
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
def root_podman(require: object, new_sandbox: NewSandbox, rootfs_tar: Path) -> Podman:
    """podman as root, with the driver of this run."""
    assert callable(require)
    require("podman", "conmon")
    sandbox, runtime = new_sandbox("behaviours-podman")
    os.link(rootfs_tar, sandbox.path("rootfs.tar"))
    podman = Podman(sandbox, runtime)
    podman.cgroup_manager = facts.driver()
    if facts.driver() == "systemd":
        podman.cgroup_parent = POD_SLICE
    podman.prepare(with_network=False)
    return podman


@pytest.fixture
def podman(reaping: None, root_podman: Podman) -> Iterator[Podman]:
    """One test's podman."""
    yield from root_podman.one_test()


@applies("podman")
@pytest.mark.parametrize("options", [[], ["--uidmap", "0:700000:65536"]], ids=["plain", "userns"])
def test_s0_1_containerd_11589_podman_places_both_kinds_alike(podman: Podman, options: list[str]) -> None:
    """As podman hands it over: init and an exec'd process are below the parent that was asked for, by the driver in
    force, whether with a user namespace or not; the limit stands there; nothing with a ':' is made.
    """
    before = places.walk()
    name = podman.start_sleeper("--pids-limit", "77", *options)
    pid = podman.inspect(name, "{{.State.Pid}}")
    is_mapped = Path(f"/proc/{pid}/uid_map").read_text().split()[1] == "700000"
    assert is_mapped == bool(options)
    if facts.driver() == "systemd":
        path = f"{places.slice_path(POD_SLICE)}/libpod-{name}.scope"
    else:
        path = f"{podman.cgroup_parent}/libpod-{name}"
    # crun and podman themselves may use a group below it, Corral never does unasked.
    assert places.is_at(pid, path)
    podman("exec", "-d", name, "sleep", "2000")
    (second,) = [other for other in processes_at(path) if other != pid]
    assert places.is_at(second, path)
    assert cgroups.read_for(pid, "pids.max") == "77"
    assert places.names_with_colon(places.walk() - before) == []
    # podman's rm may run into the cleanup that conmon has started.
    wait_until(lambda: podman("rm", "-f", "-t", "0", name, code=None).code == 0, "the container is removed")
    assert places.directories(path) == []


def processes_at(path: str) -> list[str]:
    """The processes right in a group, as the hierarchy of pids tells it."""
    directory = next(top for top in places.directories(path) if (top / "pids.max").exists())
    return (directory / "cgroup.procs").read_text().split()


@applies("containerd", "systemd-driver")
def test_s0_2_containerd_11589_scope_is_below_the_pods_slice(ctr: Containerd) -> None:
    """ctr with --runc-systemd-cgroup: the task is in its scope; with a user namespace, for which ctr forgets the
    driver, it is refused, where the original ended in a literal directory.
    """
    path = f"{POD_SLICE}:cri-containerd:replay"
    ctr(*ctr.run_words("replay", "-d", "--runc-systemd-cgroup", "--cgroup", path, command=["sleep", "1000"]))
    row = next(line.split() for line in ctr("task", "ls").out.splitlines() if line.startswith("replay"))
    assert places.is_at(row[1], f"{places.slice_path(POD_SLICE)}/cri-containerd-replay.scope")
    before = places.walk()
    maps = ["--uidmap", "0:700000:65536", "--gidmap", "0:700000:65536"]
    words = ctr.run_words("mapped", "--runc-systemd-cgroup", "--cgroup", path, *maps, command=["true"])
    done = ctr(*words, code=None)
    assert (done.code != 0, path in done.err, "cgroupfs" in done.err) == (True, True, True)
    ctr("container", "delete", "mapped", code=None)
    assert places.names_with_colon(places.walk() - before) == []


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


def told_of_cgroups(text: str) -> list[str]:
    """What anybody said about control groups, but for the parts that differ from run to run."""
    return [line.partition(": /")[0] for line in text.splitlines() if "cgroup" in line.lower()]


@applies("buildah")
def test_s2_1_runc_4518_rootless_build_with_read_only_cgroups(build: Buildah) -> None:
    """Two steps: each is created with one warning, started and deleted; nobody complains of a group that never was."""
    done = build.build("RUN echo one > /one\nRUN test -s /one && echo seen\n", "--layers=false")
    assert "seen" in done.out
    assert build.runtime.verbs() == ["create", "start", "state", "delete"] * 2
    assert told_of_cgroups(done.err) == ["warning: the container has no cgroup of its own"] * 2


@applies("buildah")
def test_s2_6_runc_4518_failing_step_is_deleted_as_well(build: Buildah) -> None:
    """The exit code is the step's, not that of a clean-up which stopped half-way; the fixture finds nothing left."""
    done = build.build("RUN echo loud && exit 3\n", code=None)
    assert "exit status 3" in done.err
    assert build.runtime.verbs()[-1] == "delete"
    assert told_of_cgroups(done.err) == ["warning: the container has no cgroup of its own"]


@applies("buildah")
def test_s2_4_runc_4518_limit_without_a_group_is_refused(build: Buildah) -> None:
    """`buildah bud --memory` where no group can be made: an error that names the limit, never a step without it."""
    done = build.build("RUN echo ran > /one\n", "--memory", "50m", code=None)
    assert done.code != 0
    assert "start" not in build.runtime.verbs()
    assert "read-only" in done.err or "linux.resources.memory" in done.err


def test_s0_3_containerd_11589_no_literal_directory_is_left(runtime: Runtime, bundle: Bundle) -> None:
    """The form of the bug report, with a user namespace, given to the runtime itself."""
    if facts.driver() == "systemd":
        runtime.global_args = ["--cgroup-manager", "cgroupfs"]
    before = places.walk()
    places.give_user(bundle, with_userns=True)
    bundle.linux["cgroupsPath"] = "kubepods-podX.slice:cri-containerd:replay"
    runtime.refuse(bundle, "cgroupfs")
    assert places.names_with_colon(places.walk() - before) == []
