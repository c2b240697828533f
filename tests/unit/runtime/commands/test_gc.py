"""``gc``: what counts as left behind, and what is done about it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.runtime.commands import gc
from corral.runtime.commands.gc import find_leftovers
from corral.runtime.record import J_DELETING, remove_tree
from unit.runtime.commands.command_lines import Run, make_container
from unit.runtime.test_record import commit

HOUR_S = 3600.0


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """The names for which the front's delete was run; it removes their records, save those called "stuck"."""
    names: list[str] = []

    def run_delete(root: str, name: str, *, force: bool) -> int:
        assert force
        names.append(name)
        if name == "stuck":
            return 1
        remove_tree(f"{root}/{name}")
        return 0

    monkeypatch.setattr(gc, "run_delete", run_delete)
    return names


@pytest.fixture
def old(root: Path) -> Iterator[Path]:
    """A state root with one of everything, seen an hour later."""
    make_container(root, "stopped")
    make_container(root, "interrupted", committed=False)
    (make_container(root, "pending") / "pending").write_text("cgroup /x\n")
    commit(make_container(root, "deleting"), J_DELETING)
    (root / ".new-x-1").mkdir()
    (root / ".dead-y-2").mkdir()
    (root / ".seccomp").mkdir()
    (root / "folder").mkdir()
    owned = make_container(root, "being-made", committed=False)
    lock = os.open(owned / "owner.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield root
    os.close(lock)


def test_only_what_nobody_finishes_is_left_over(old: Path) -> None:
    """Not what is complete, and not what a living front holds."""
    assert [
        (".dead-y-2", "half-made"),
        (".new-x-1", "half-made"),
        ("deleting", "interrupted"),
        ("interrupted", "interrupted"),
        ("pending", "pending"),
    ] == [(leftover.name, leftover.kind) for leftover in find_leftovers(str(old), now=time.time() + HOUR_S)]


def test_directory_that_is_just_being_made_is_spared(old: Path) -> None:
    """Its owner's lock comes a moment later."""
    assert not [left for left in find_leftovers(str(old), now=time.time()) if left.kind == "half-made"]


def test_delete_that_is_at_work_is_spared(old: Path) -> None:
    """It holds the lock."""
    lock = os.open(old / "pending" / "owner.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    names = [leftover.name for leftover in find_leftovers(str(old), now=time.time())]
    os.close(lock)

    assert "pending" not in names


def test_leftovers_are_deleted_by_the_front_and_told(old: Path, run: Run, deleted: list[str]) -> None:
    """Exit code 0 when all are gone; a second run finds nothing."""
    for name in (".new-x-1", ".dead-y-2"):
        os.utime(old / name, (0, 0))
    code, out, err = run("gc")

    assert (0, "") == (code, err)
    assert [
        "half-made .dead-y-2: removed",
        "half-made .new-x-1: removed",
        "interrupted deleting: removed",
        "interrupted interrupted: removed",
        "pending pending: removed",
    ] == out.splitlines()
    assert ["deleting", "interrupted", "pending"] == deleted
    assert (0, "nothing to do\n", "") == run("gc")


def test_what_stays_is_told_with_its_cause(root: Path, run: Run, deleted: list[str]) -> None:
    """And an exit code."""
    make_container(root, "stuck", committed=False)
    assert (1, "interrupted stuck: stays: delete ended with exit code 1\n", "") == run("gc")
    code, out, _ = run("gc", "--json")

    assert 1 == code
    assert [
        {"name": "stuck", "kind": "interrupted", "removed": False, "cause": "delete ended with exit code 1"}
    ] == json.loads(out)


def test_root_that_was_never_made_is_clean(root: Path, run: Run) -> None:
    """And it is not made now."""
    root.rmdir()

    assert (0, "[]\n", "") == run("gc", "--json")
    assert not root.exists()
