"""Real callers drive a runtime: options, the logging wrapper, one sandbox per caller."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

import pytest

from callers.buildah import Buildah
from callers.children import Children, command_of, descendants_of, wait_until
from callers.containerd import Containerd
from callers.docker import Docker
from callers.images import BUSYBOX, write_docker_archive, write_oci_archive, write_rootfs
from callers.podman import Podman
from callers.runtime import RuntimeUnderTest
from callers.sandbox import USER, Sandbox
from conformance import options
from conformance.orphans import adopting_orphans

NewSandbox = Callable[[str], tuple[Sandbox, RuntimeUnderTest]]
HERE = Path(__file__).parent
DEFAULT_RUNTIME = Path(__file__).parents[2] / "build" / "bin" / "corral-runtime"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the path of the runtime to prove."""
    options.add_runtime(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, object]:
    """Adopt and reap orphans from a caller test's setup to its end; those of other suites are theirs."""
    # Of all hooks of a test this one is called for those of other folders too.
    if HERE not in item.path.parents:
        return (yield)
    Children.reaping = True
    try:
        with adopting_orphans():
            return (yield)
    finally:
        Children.reaping = False


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> Path:
    """The runtime's binary: --runtime, else CORRAL_CONFORMANCE_RUNTIME, else the build's."""
    given = request.config.getoption("--runtime", default=None) or os.environ.get("CORRAL_CONFORMANCE_RUNTIME")
    return Path(given or DEFAULT_RUNTIME).absolute()


def lack(reason: str) -> None:
    """Skip with the reason; a failure where CORRAL_MUST contains "callers"."""
    if "callers" in os.environ.get("CORRAL_MUST", "").split(","):
        pytest.fail(f"CORRAL_MUST names callers, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require(runtime_path: Path) -> Callable[..., None]:
    """A function that skips (or fails, see `lack`) unless all the given programs exist."""

    def check(*programs: str) -> None:
        if os.geteuid() != 0:
            lack("root is needed to make private namespaces")
        if not os.access(runtime_path, os.X_OK):
            lack(f"the runtime {runtime_path} does not exist")
        for program in (str(BUSYBOX), "nsenter", "setpriv", *programs):
            if shutil.which(program) is None:
                lack(f"{program} is not installed")

    return check


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    """The starter and reaper of all processes of the session."""
    started = Children()
    yield started
    started.close()


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A scratch directory that an unprivileged user may enter; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="corral-callers-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def rootfs_tar(base: Path) -> Path:
    """The busybox root filesystem as a tar file."""
    return write_rootfs(base / "rootfs.tar")


@pytest.fixture(scope="session")
def new_sandbox(children: Children, base: Path, runtime_path: Path) -> Iterator[NewSandbox]:
    """A function (name) -> (Sandbox, RuntimeUnderTest); everything is closed at the end."""
    opened: list[Sandbox] = []

    def make(name: str) -> tuple[Sandbox, RuntimeUnderTest]:
        sandbox = Sandbox(children, base / name, name)
        opened.append(sandbox)
        return sandbox, RuntimeUnderTest(sandbox, runtime_path)

    yield make
    Children.reaping = True
    with adopting_orphans():
        complaints = [complaint for sandbox in opened for complaint in sandbox.close()]
        stop_helpers()
    Children.reaping = False
    assert complaints == []


def stop_helpers() -> None:
    """End what callers keep for good: rootless podman's pause process, buildah's likewise."""
    for pid in descendants_of(os.getpid()):
        if command_of(pid) in ("podman", "buildah", "catatonit -P"):
            os.kill(pid, signal.SIGKILL)
            proc = Path(f"/proc/{pid}")
            wait_until(partial(_is_gone, proc), f"process {pid} is reaped")


def _is_gone(path: Path) -> bool:
    return not path.exists()


@pytest.fixture(scope="session")
def podman_root(require: Callable[..., None], new_sandbox: NewSandbox, rootfs_tar: Path) -> Podman:
    """podman as root."""
    require("podman", "conmon")
    sandbox, runtime = new_sandbox("podman")
    os.link(rootfs_tar, sandbox.path("rootfs.tar"))
    podman = Podman(sandbox, runtime)
    podman.prepare()
    return podman


@pytest.fixture(scope="session")
def podman_rootless(require: Callable[..., None], new_sandbox: NewSandbox, rootfs_tar: Path) -> Podman:
    """podman as an unprivileged user."""
    require("podman", "conmon", "newuidmap", "newgidmap")
    sandbox, runtime = new_sandbox("rootless")
    os.link(rootfs_tar, sandbox.path("rootfs.tar"))
    podman = Podman(sandbox, runtime, user=USER)
    podman.prepare()
    return podman


@pytest.fixture(scope="session")
def containerd(require: Callable[..., None], new_sandbox: NewSandbox, rootfs_tar: Path) -> Containerd:
    """containerd with its own root, state and sockets."""
    require("containerd", "ctr", "containerd-shim-runc-v2")
    sandbox, runtime = new_sandbox("containerd")
    write_oci_archive(sandbox.path("image.tar"), rootfs_tar)
    started = Containerd(sandbox, runtime)
    started.prepare()
    return started


@pytest.fixture(scope="session")
def docker(require: Callable[..., None], new_sandbox: NewSandbox, rootfs_tar: Path) -> Docker:
    """dockerd with its own roots and socket."""
    require("/usr/sbin/dockerd", "/usr/bin/docker", "containerd", "containerd-shim-runc-v2")
    sandbox, runtime = new_sandbox("docker")
    write_docker_archive(sandbox.path("image.tar"), rootfs_tar)
    os.link(rootfs_tar, sandbox.path("rootfs.tar"))
    started = Docker(sandbox, runtime)
    started.prepare()
    return started


@pytest.fixture(scope="session", params=["root", USER])
def buildah(
    request: pytest.FixtureRequest, require: Callable[..., None], new_sandbox: NewSandbox, rootfs_tar: Path
) -> Buildah:
    """buildah, once as root and once as an unprivileged user."""
    require("buildah", "newuidmap", "newgidmap")
    sandbox, runtime = new_sandbox(f"buildah-{request.param}")
    sandbox.path("context").mkdir()
    os.link(rootfs_tar, sandbox.path("context/rootfs.tar"))
    return Buildah(sandbox, runtime, request.param)
