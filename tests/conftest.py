"""Hooks for all tests: the ``requires`` marker, CORRAL_MUST, and the leak check of the privileged folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from conformance.orphans import adopting_orphans
from leaks import MARK_VARIABLE, find_leaks, new_mark, take_snapshot
from probes import missing
from reach import open_the_way

# The folders whose every test is followed by the leak check; the black-box suites have their own.
CHECKED_FOLDERS = tuple(Path(__file__).parent / name for name in ("docs", "root", "userns", "sweep"))
# Those whose keepers and monitors are nobody's when they end: as this process's zombies they would keep their groups.
INIT_FOLDERS = (*CHECKED_FOLDERS, *(Path(__file__).parent / name for name in ("soak", "engine_model")))

# A busy machine is no reason to fail, so no deadline per example. CI takes the same examples each time; people explore.
settings.register_profile(
    "corral", deadline=None, database=None, print_blob=True, derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("corral")


def pytest_configure() -> None:
    """Before anything is started: a clone below /root is one that the tests of ordinary users can use."""
    open_the_way(Path(__file__).resolve().parents[1])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose ``requires`` names something this host lacks; fail it where CORRAL_MUST names that thing."""
    names = [name for mark in item.iter_markers("requires") for name in mark.args]
    for name, reason in missing(names):
        if name in os.environ.get("CORRAL_MUST", "").split(","):
            pytest.fail(f"CORRAL_MUST names {name}, but {reason}", pytrace=False)
        pytest.skip(f"requires {name}: {reason}")


@pytest.fixture
def mark() -> str:
    """A name of this test's own, for cgroups, files and state: what still bears it afterwards is a leak."""
    return new_mark()


@pytest.fixture
def no_leaks(mark: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if it leaves descriptors, mounts, cgroups, state or processes behind."""
    monkeypatch.setenv(MARK_VARIABLE, mark)
    before = take_snapshot(mark)
    yield
    assert find_leaks(before) == []


@pytest.fixture(autouse=True)
def _orphans_go_to_init(request: pytest.FixtureRequest) -> Iterator[None]:
    """Orphans do not come here, whatever another suite wanted, but to a test that asks for them."""
    if any(folder in request.path.parents for folder in INIT_FOLDERS):
        with adopting_orphans(False):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> None:
    """Use ``no_leaks`` for every test in the privileged folders."""
    if any(folder in request.path.parents for folder in CHECKED_FOLDERS):
        request.getfixturevalue("no_leaks")
