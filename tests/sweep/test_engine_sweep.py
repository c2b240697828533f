"""The engine's crash sweep: who dies at any moment of any verb, and the promises that hold all the same.

By default a subset, drawn by ``CORRAL_SWEEP_SEED`` (default: the commit). ``CORRAL_SWEEP=all`` sweeps everything, any
other value the points whose names contain it.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.engine.places import Places
from corral.errors import CorralError
from root.engine.conftest import Engine, remove_groups
from sweep import engine_images, engine_networks, tally
from sweep.engine_files import OPERATIONS
from sweep.engine_networks import NetworkStage, OnNetwork
from sweep.engine_operations import Operation, Stage
from sweep.engine_points import choose
from sweep.own_host import do_there

# Points of each operation in the subset.
SHARE = int(os.environ.get("CORRAL_SWEEP_SHARE", "9"))


@pytest.fixture
def stage(tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A store, a keeper and a cgroup parent of the test's own."""
    monkeypatch.setenv("CORRAL_CGROUP_PARENT", f"/{mark}")
    places = Places(str(tmp_path / "store"))
    places.prepare()
    (tmp_path / "shared").mkdir()
    engine = Engine(places)
    yield Stage(engine, tmp_path, mark)
    engine.close()
    remove_groups(mark)


def sweep(stage: Stage, operation: Operation) -> list[str]:
    """Play the chosen points of an operation; the broken promises of each, in words."""
    faults = list(operation.points(stage))
    broken = [f"{operation.name} without a fault: {problem}" for problem in stage.problems]
    tally.KNOWN_OPS.update(fault.op for fault in faults)
    chosen = choose(faults, tally.wanted(), SHARE, f"{tally.seed()} engine {operation.name}")
    tally.ENGINE[operation.name] = (len(chosen), len(faults))
    for fault in chosen:
        stage.problems = []
        said: object = ""
        try:
            said = operation.play(stage, fault)
        except (AssertionError, CorralError, OSError, ValueError, KeyError, RuntimeError) as error:
            stage.problems.append(f"{type(error).__name__}: {error} ({where(error)})")
        if stage.problems:
            listed = "\n    ".join(stage.problems)
            broken.append(f"{operation.name} at {fault.name}:\n    {listed}\n    outcome: {said}")
            print(broken[-1], flush=True)
            stage.recover()
    return broken


def where(error: BaseException) -> str:
    """The line of the operation that met it, and what it called."""
    frames = traceback.extract_tb(error.__traceback__)
    last = max((at for at, frame in enumerate(frames) if "/sweep/" in frame.filename), default=0)
    return ", ".join(f"{frame.name} line {frame.lineno}" for frame in frames[last - 1 : last + 1])


@pytest.mark.requires("root")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.name for operation in OPERATIONS])
def test_s4_4_nothing_is_lost_when_anybody_dies_at_any_moment(operation: Operation, stage: Stage) -> None:
    """No name, process, cgroup or file is left; codes are true or unknown; the same request works at once."""
    broken = sweep(stage, operation)
    assert broken == [], f"{len(broken)} points, CORRAL_SWEEP_SEED={tally.seed()}\n" + "\n".join(broken)


@pytest.mark.requires("root", "busybox")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "operation", engine_images.OPERATIONS, ids=[operation.name for operation in engine_images.OPERATIONS]
)
def test_s4_4_no_image_is_half_there_whatever_fails_at_any_moment(
    operation: Operation, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, without room or with a bad disk: there is all of it or none, and asked again it is there."""
    conf = stage.path / "registries.conf"
    conf.write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    monkeypatch.setenv("HOME", str(stage.path))
    broken = sweep(stage, operation)
    assert broken == [], f"{len(broken)} points, CORRAL_SWEEP_SEED={tally.seed()}\n" + "\n".join(broken)


@pytest.mark.requires("root", "cni")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "operation", engine_networks.OPERATIONS, ids=[operation.name for operation in engine_networks.OPERATIONS]
)
def test_s4_4_nothing_of_a_network_is_lost_when_anybody_dies_at_any_moment(operation: OnNetwork, stage: Stage) -> None:
    """No interface, rule, address, name or file of a plugin is left; the same request works at once."""

    def there() -> tuple[list[str], tuple[int, int]]:
        networked = NetworkStage(stage.engine, stage.path, stage.prefix)
        networked.prepare()
        try:
            return sweep(networked, operation), tally.ENGINE[operation.name]
        finally:
            networked.engine.close()

    broken, counts = do_there(there, stage.path / "broken.json")
    tally.ENGINE[operation.name] = (counts[0], counts[1])
    assert broken == [], f"{len(broken)} points, CORRAL_SWEEP_SEED={tally.seed()}\n" + "\n".join(broken)
