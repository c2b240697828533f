"""Options and fixtures of the conformance suite.

`pytest tests/conformance --runtime PATH` (or CORRAL_CONFORMANCE_RUNTIME, or the project's
own build/bin/corral-runtime).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups, harness, host, leaks, options, residents, rootfs, runtimes
from conformance.orphans import adopting_orphans

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import pluggy

_OWN = Path(__file__).parents[2] / "build/bin/corral-runtime"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--runtime`."""
    options.add_runtime(parser)
    options.add_resident(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    options.mark_cold(config)
    options.mark_demands(config)


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> str:
    """The binary under test."""
    chosen = request.config.getoption("runtime", default=None)
    chosen = chosen or os.environ.get("CORRAL_CONFORMANCE_RUNTIME")
    if chosen is None:
        if not _OWN.exists():
            pytest.fail(f"no {_OWN}: run `make native`, or give --runtime")
        return str(_OWN)
    found = shutil.which(chosen)
    if found is None:
        pytest.fail(f"no such runtime: {chosen}")
    return os.path.abspath(found)


@pytest.fixture(scope="session")
def identity(runtime_path: str) -> tuple[str, tuple[int, ...]]:
    """Name and version of the runtime under test."""
    return runtimes.identify(runtime_path)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """For corral, a skip for any reason but the host's is a failure."""
    report = (yield).get_result()
    own = getattr(item, "funcargs", {}).get("identity", ("corral", ()))[0] == "corral"
    if report.skipped and own and "conformance" in str(item.path):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "host: " not in reason:
            report.outcome, report.longrepr = "failed", f"corral may not skip: {reason}"


def _refused_by(name: str) -> str | None:
    """Why a peer cannot be tested on this host at all."""
    if name == "crun" and not cgroups.is_v2_only() and "" in cgroups.hierarchies():
        return "crun refuses a hybrid cgroup layout"
    return None


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """One directory for the whole session, which an unprivileged user may enter."""
    path = Path(tempfile.mkdtemp(prefix="corral-conformance-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def template(workspace: Path) -> rootfs.Template:
    """Busybox and the probe, built once."""
    directory = workspace / "template"
    directory.mkdir(mode=0o755)
    return rootfs.build_template(directory)


@pytest.fixture(scope="session")
def cgroup_parent() -> Iterator[str]:
    """The cgroup below which every container of this session lives."""
    parent = f"/corral-test-{os.getpid()}"
    yield parent
    cgroups.remove(parent)


@pytest.fixture(autouse=True)
def _demands(request: pytest.FixtureRequest) -> None:
    """Skip what this host cannot do (fail, where CORRAL_MUST names it), or what a peer is too old for."""
    for marker in request.node.iter_markers("host"):
        for name in marker.args:
            reason = host.lacking(name)
            if reason is not None and name in os.environ.get("CORRAL_MUST", "").split(","):
                pytest.fail(f"CORRAL_MUST names {name}, but the host: {reason}", pytrace=False)
            if reason is not None:
                pytest.skip(f"host: {reason}")
    name, version = request.getfixturevalue("identity")
    refusal = _refused_by(name)
    if refusal is not None:
        pytest.skip(f"runtime: {refusal}")
    features = [f for m in request.node.iter_markers("needs") for f in m.args]
    if features:
        reason = runtimes.missing(name, version, features)
        if reason is not None:
            pytest.skip(f"runtime: {reason}")


@pytest.fixture
def directory(workspace: Path, template: rootfs.Template) -> Iterator[Path]:
    """A directory for one test."""
    path = workspace / harness.unique_id()
    path.mkdir(mode=0o755)
    yield path
    # After the leak check, which looks for what is mounted in them.
    for tree in path.glob("*/rootfs"):
        template.take_back(tree)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def _leak_check(directory: Path, _demands: None) -> Iterator[None]:
    """After each test: no new cgroup, mount, process, state or descriptor."""
    before = leaks.take_snapshot(harness.id_prefix())
    with adopting_orphans():
        yield
    found = leaks.find_leaks(before, harness.id_prefix(), directory)
    assert found == [], "\n".join(["left behind:", *found])


@pytest.fixture(scope="session")
def shared_planner(
    request: pytest.FixtureRequest, workspace: Path, runtime_path: str, identity: tuple[str, tuple[int, ...]]
) -> Iterator[residents.SharedPlanner | None]:
    """With `--resident`, the planner that serves corral's tests, one after the other and some at once."""
    if identity[0] != "corral" or not request.config.getoption("resident", default=False):
        yield None
        return
    planner = residents.SharedPlanner(harness.Runtime(runtime_path, workspace / "planner", *identity))
    yield planner
    planner.close()


@pytest.fixture
def runtime(
    request: pytest.FixtureRequest,
    directory: Path,
    runtime_path: str,
    identity: tuple[str, tuple[int, ...]],
    shared_planner: residents.SharedPlanner | None,
) -> Iterator[harness.Runtime]:
    """The runtime under test, with a state root of its own; with `--resident`, a planner beside it."""
    made = harness.Runtime(runtime_path, directory / "state", *identity, driver_args=harness.driver_args())
    with residents.served(shared_planner, request.node, made.root):
        yield made


@pytest.fixture
def bundle(directory: Path, template: rootfs.Template, cgroup_parent: str) -> harness.Bundle:
    """A bundle to edit and run."""
    return harness.make_bundle(directory / "bundle", template, cgroup_parent)
