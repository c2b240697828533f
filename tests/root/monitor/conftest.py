"""A bench of containers under keeper and monitors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import rootfs
from corral.engine import programs
from root.monitor.bench import Bench

ROOT = Path(__file__).resolve().parents[3]
# CORRAL_PROGRAMS names programs built elsewhere.
PROGRAMS = Path(os.environ.get("CORRAL_PROGRAMS", str(ROOT / "build" / "bin")))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> rootfs.Template:
    """Busybox and the probe, built once."""
    return rootfs.build_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def bench(
    no_leaks: None, tmp_path: Path, mark: str, template: rootfs.Template, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A store of its own, whose processes are all gone afterwards."""
    if not (PROGRAMS / "corral-keeper").exists():
        pytest.fail(f"no corral-keeper in {PROGRAMS}: run `make native`")
    monkeypatch.setattr(programs, "find_program", lambda name: str(PROGRAMS / name))
    made = Bench(tmp_path, mark, PROGRAMS, template)
    yield made
    made.close()
