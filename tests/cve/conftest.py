"""Replays of security flaws against a copy of any runtime's binary.

`pytest tests/cve --runtime PATH` (or CORRAL_CONFORMANCE_RUNTIME, or the build's own). A test
names its flaws with `@pytest.mark.cve(...)`, a variant of one as NAME/variant; where the runtime
under test is known to have one of them, the test must fail, which shows that it can.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import harness, options, rootfs, runtimes
from conformance.conftest import _demands as _demands
from conformance.conftest import _leak_check as _leak_check
from conformance.conftest import bundle as bundle
from conformance.conftest import cgroup_parent as cgroup_parent
from conformance.conftest import directory as directory
from conformance.conftest import runtime_path as runtime_path
from conformance.conftest import template as template
from conformance.conftest import workspace as workspace
from cve.attacks import Sentinel, digest

# Runtime -> flaw -> first version without it. A test of such a flaw is expected to fail on older ones.
KNOWN_VULNERABLE: dict[str, dict[str, tuple[int, ...]]] = {
    "runc": {
        "CVE-2024-45310": (1, 1, 14),
        "CVE-2025-31133": (1, 2, 8),
        "CVE-2025-52565": (1, 2, 8),
        "CVE-2025-52881": (1, 2, 8),
        "CVE-2026-41579": (1, 3, 6),
        # Found in crun; runc 1.1 has it too, and verifies /dev/null since its fix of CVE-2025-31133.
        "CVE-2026-88265": (1, 2, 8),
        # Found in containerd, about an image's USER; runc's exec --user has the like of it.
        "CVE-2026-46680/wrap": (2,),
    },
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--runtime`."""
    options.add_runtime(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "cve(*names): the flaws that a test replays")
    options.mark_demands(config)


@pytest.fixture(scope="session")
def binary(workspace: Path, runtime_path: str) -> Path:
    """A copy of the runtime's binary, with the launcher that lies beside corral's."""
    folder = workspace / "bin"
    folder.mkdir(mode=0o755)
    original = Path(runtime_path).resolve()
    for source in (original, original.with_name("corral-planner")):
        if source.exists():
            shutil.copy2(source, folder / source.name)
    return folder / original.name


@pytest.fixture(scope="session")
def identity(binary: Path) -> tuple[str, tuple[int, ...]]:
    """Name and version of the runtime under test."""
    return runtimes.identify(str(binary))


@pytest.fixture
def runtime(directory: Path, binary: Path, identity: tuple[str, tuple[int, ...]]) -> Iterator[harness.Runtime]:
    """The copied runtime with a state root of its own; its binary has to stay as it is."""
    before = {path: digest(path) for path in binary.parent.iterdir()}
    yield harness.Runtime(str(binary), directory / "state", identity[0], identity[1])
    assert {path: digest(path) for path in binary.parent.iterdir()} == before


@pytest.fixture
def sentinel(workspace: Path) -> Iterator[Sentinel]:
    """What an escape would reach; checked after every test that asks for it."""
    path = workspace / "sentinel"
    shutil.rmtree(path, ignore_errors=True)
    watched = Sentinel(path)
    yield watched
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def attacker(workspace: Path) -> Path:
    """The compiled attacker of CVE-2019-5736."""
    folder = workspace / "attacker"
    folder.mkdir(mode=0o755)
    return rootfs.compile_static(Path(__file__).with_name("attacker.c"), folder)


@pytest.fixture(autouse=True)
def _expectation(request: pytest.FixtureRequest, identity: tuple[str, tuple[int, ...]]) -> None:
    """Expect failure of what the runtime under test is known to be open to."""
    if os.geteuid() != 0:
        pytest.skip("root is needed: the replays are of privileged runtimes")
    name, version = identity
    for mark in request.node.iter_markers("cve"):
        for flaw in mark.args:
            fixed = KNOWN_VULNERABLE.get(name, {}).get(flaw)
            if fixed is not None and version < fixed:
                reason = f"{name} {'.'.join(map(str, version))} has {flaw}"
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))
