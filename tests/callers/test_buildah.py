"""buildah runs build steps through the runtime, as root and rootless (each test twice)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from callers.buildah import Buildah


@pytest.fixture
def build(buildah: Buildah) -> Iterator[Buildah]:
    """buildah; its containers and images are removed and leaks looked for afterwards."""
    yield from buildah.one_test()


def test_bud_runs_each_step_through_the_runtime(build: Buildah) -> None:
    """Every RUN is one container of our runtime, and its changes are in the next."""
    build.build("RUN echo one > /one\nRUN test -s /one\n", "--layers=false")
    verbs = build.runtime.verbs()
    assert verbs.count("create") == 2
    assert verbs.count("start") == 2
    assert verbs.count("delete") == 2


def test_bud_shows_output_and_the_failing_code(build: Buildah) -> None:
    """A step's output is shown, and its exit code ends the build."""
    result = build.build("RUN echo loud && exit 3\n", code=None)
    assert "loud" in result.out
    assert result.code != 0
    assert "exit status 3" in result.err


def test_bud_passes_env_user_and_workdir(build: Buildah) -> None:
    """ENV, USER and WORKDIR reach the process."""
    steps = "ENV MARK=m\nWORKDIR /data\nUSER 1000:1000\nRUN echo seen=$MARK:$(pwd):$(id -u):$(id -g)\n"
    assert "seen=m:/data:1000:1000" in build.build(steps).out


def test_bud_mounts_a_volume_when_given(build: Buildah) -> None:
    """`-v` binds a directory for the steps."""
    shared = build.sandbox.path("home/shared")
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    build.build("RUN touch /shared/mark\n", "-v", "/run/c/home/shared:/shared")
    assert (shared / "mark").exists()
    (shared / "mark").unlink()


def test_bud_has_loopback_whatever_the_network(build: Buildah) -> None:
    """A step sees loopback up: the caller's as root, its own new one when rootless (networks need a tun there)."""
    build.build("RUN ip addr show lo | grep -q LOOPBACK,UP\n", "--network", "host" if build.user == "root" else "none")


def test_run_enters_a_working_container(build: Buildah) -> None:
    """`buildah from` and `buildah run`."""
    build.build("RUN true\n")
    name = build("from", "--pull-never", "localhost/built:1").out.strip()
    options = ["--isolation", "oci", "--runtime", str(build.runtime.path), "--network", "none"]
    assert build("run", *options, name, "--", "echo", "hello").out == "hello\n"
    assert build("run", *options, name, "--", "sh", "-c", "exit 9", code=9).code == 9
