"""``gc``: finish what crashes left behind in a state root: interrupted creations, pending deletes, half-made records.

Nothing that a living front holds is touched, and no container that is complete, be it stopped or not. The work on a
record is the front's own ``delete``, which walks its intents and its journal.
"""

from __future__ import annotations

import os
import sys
import time

from corral.oci.json import dumps
from corral.runtime.commands.delete import run_delete
from corral.runtime.containers import absolute_root
from corral.runtime.record import J_DELETING, is_locked, is_stale, journal_has, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine

# A record is complete, and its owner's lock held, a moment after its directory was made.
_YOUNG_S = 60.0


class Leftover:
    """Something to clean up. ``kind``: ``interrupted`` or ``pending`` (a record), ``half-made`` (a directory)."""

    __slots__ = ("cause", "kind", "name")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.cause = ""

    def to_json(self) -> dict[str, object]:
        """Its members; ``removed`` says whether it is gone, ``cause`` why not."""
        shown: dict[str, object] = {"name": self.name, "kind": self.kind, "removed": not self.cause}
        if self.cause:
            shown["cause"] = self.cause
        return shown


def run(line: CommandLine) -> int:
    """Clean up and tell what was done. Exit code 1 if something stays."""
    root = absolute_root(line)
    leftovers = find_leftovers(root, now=time.time())
    for leftover in leftovers:
        _remove(root, leftover)
    if line.flag("json"):
        sys.stdout.write(dumps([leftover.to_json() for leftover in leftovers], indent=2) + "\n")
    else:
        sys.stdout.write(render(leftovers))
    return 1 if any(leftover.cause for leftover in leftovers) else 0


def render(leftovers: list[Leftover]) -> str:
    """One line each; "nothing to do" if there are none."""
    if not leftovers:
        return "nothing to do\n"
    lines = []
    for leftover in leftovers:
        end = f"stays: {leftover.cause}" if leftover.cause else "removed"
        lines.append(f"{leftover.kind} {leftover.name}: {end}")
    return "\n".join(lines) + "\n"


def find_leftovers(root: str, *, now: float) -> list[Leftover]:
    """What is left in ``root``, by name. ``now``: seconds since the epoch; directories just being made are spared."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        path = f"{root}/{name}"
        if name.startswith((".new-", ".dead-")):
            if _is_abandoned(path, now):
                found.append(Leftover(name, "half-made"))
        elif name.startswith("."):
            continue
        elif os.path.exists(f"{path}/pending") and not _is_owned(path):
            found.append(Leftover(name, "pending"))
        elif _is_interrupted(path):
            found.append(Leftover(name, "interrupted"))
    return found


def _is_interrupted(path: str) -> bool:
    try:
        return is_stale(path) or (journal_has(path, J_DELETING) and not _is_owned(path))
    except FileNotFoundError:
        # Deleted while we looked.
        return False


def _is_owned(path: str) -> bool:
    """Somebody holds the record's owner lock."""
    try:
        return bool(is_locked(f"{path}/owner.lock"))
    except OSError:
        return False


def _is_abandoned(path: str, now: float) -> bool:
    try:
        changed = os.stat(path, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return False
    return now - changed > _YOUNG_S and not _is_owned(path)


def _remove(root: str, leftover: Leftover) -> None:
    path = f"{root}/{leftover.name}"
    if leftover.kind != "half-made":
        code = run_delete(root, leftover.name, force=True)
        if code != 0:
            leftover.cause = f"delete ended with exit code {code}"
        return
    try:
        remove_tree(path)
    except OSError as exc:
        leftover.cause = f"{exc.filename or path}: {(exc.strerror or str(exc)).lower()}"
