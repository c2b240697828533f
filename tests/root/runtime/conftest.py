"""Containers for the tests of the Python commands: made by the real front, in places that bear the test's mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import harness, rootfs
from leaks import MARK_VARIABLE

ROOT = Path(__file__).resolve().parents[3]
FRONT = ROOT / "build" / "bin" / "corral-runtime"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> rootfs.Template:
    """Busybox and the probe, built once."""
    return rootfs.build_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def runtime(tmp_path: Path, mark: str) -> harness.Runtime:
    """corral-runtime with a state root of its own, and this run's driver."""
    if not FRONT.exists():
        pytest.fail(f"no {FRONT}: run `make native`")
    own, driver = {MARK_VARIABLE: mark}, harness.driver_args()
    return harness.Runtime(str(FRONT), tmp_path / "state", "corral", env=own, driver_args=driver)


@pytest.fixture
def bundle(tmp_path: Path, mark: str, template: rootfs.Template) -> harness.Bundle:
    """A bundle whose container gets a cgroup of its own."""
    return harness.make_bundle(tmp_path / "bundle", template, f"/{mark}")
