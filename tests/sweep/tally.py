"""What this session swept: points by operation, of how many."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

COUNTS: dict[str, tuple[int, int]] = {}
# OOM rounds of each scene: right, of how many, and how often each victim was told.
OOM: dict[str, tuple[int, int, dict[str, int]]] = {}
# As COUNTS, of the engine's verbs.
ENGINE: dict[str, tuple[int, int]] = {}
# Kinds of step that were hit by the runtime's points, and that could be hit by all that are known.
OPS: set[str] = set()
KNOWN_OPS: set[str] = set()


def wanted() -> str:
    """``CORRAL_SWEEP``: "all", a part of the names of points, or "" for a seeded subset."""
    return os.environ.get("CORRAL_SWEEP", "")


@cache
def seed() -> str:
    """``CORRAL_SWEEP_SEED``, else the commit: another subset each time something changes, the same one for a rerun."""
    given = os.environ.get("CORRAL_SWEEP_SEED", "")
    if given:
        return given
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "0"


def engine_summary() -> str:
    """As ``summary``, of the engine's verbs."""
    done, known = (sum(column) for column in zip(*ENGINE.values(), strict=True))
    rows = [f"crash sweep: engine: {name}: {some} of {all_}\n" for name, (some, all_) in ENGINE.items() if wanted()]
    return "".join(rows) + (
        f"crash sweep: engine: {done} of {known} points in {len(ENGINE)} verbs, CORRAL_SWEEP_SEED={seed()}"
    )


def oom_summary() -> str:
    """One line on the OOM rounds."""
    right, played = (sum(row[at] for row in OOM.values()) for at in (0, 1))  # type: ignore[misc]
    unknown = sum(row[2].get("unknown", 0) for row in OOM.values())
    return f"oom: {right} of {played} rounds right in {len(OOM)} scenes, the victim unknown in {unknown}"


def summary() -> str:
    """The points of each operation where it is asked for all of them, and one line for the end of the session."""
    done, known = (sum(column) for column in zip(*COUNTS.values(), strict=True))
    rows = [f"crash sweep: {name}: {some} of {all_}\n" for name, (some, all_) in COUNTS.items() if wanted()]
    return "".join(rows) + (
        f"crash sweep: {done} of {known} points in {len(COUNTS)} operations, {len(OPS)} kinds of step, "
        f"CORRAL_SWEEP_SEED={seed()}"
    )
