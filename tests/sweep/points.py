"""The crash points: every step and every moment of a planner, with what is done to whom there. Pure data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FRONT, STAGE, INIT = 0, 1, 2
ACTORS = ("front", "stage", "init")
# The front stands at these steps too, though they carry the other party's name.
MEETINGS = frozenset(("SYNC", "PASS_FD", "TAKE_FD", "FORK"))
OPTIONAL = 1
EIO = 5


@dataclass(frozen=True, slots=True)
class Point:
    """One crash point. ``failpoint`` is for the executor, ``planner`` for the faulty planner."""

    name: str
    action: str  # none, kill, errno
    victim: str  # front, stage, init, planner
    op: str = ""
    index: int = -1
    is_optional: bool = False
    failpoint: str = ""
    planner: str = ""

    @property
    def kills_front(self) -> bool:
        """Whether the command itself has to die of SIGKILL."""
        return self.action == "kill" and self.victim == "front"


NONE = Point("none", "none", "")


def step_points(
    steps: Sequence[tuple[int, str, int, str]], *, actors: Iterable[int] = (FRONT, STAGE, INIT)
) -> list[Point]:
    """A SIGKILL before and after, and an EIO, at each step, for each actor that stands at it."""
    points = []
    for index, (actor, op, flags, _) in enumerate(steps):
        present = (actor, FRONT) if op in MEETINGS and actor != FRONT else (actor,)
        for who in present:
            if who not in actors:
                continue
            for what in ("kill", "after:kill", f"errno={EIO}", f"after:errno={EIO}"):
                action = what.removeprefix("after:").partition("=")[0]
                text = f"{ACTORS[who]}:{index}:{what}"
                points.append(
                    Point(f"{text} ({op})", action, ACTORS[who], op, index, bool(flags & OPTIONAL), failpoint=text)
                )
    return points


def program_points(steps: Sequence[tuple[int, str, int, str]], first: str, also: str = "") -> list[Point]:
    """The same for the steps of an undo, which runs after the failure of ``first``; named by op and number."""
    points = []
    met: dict[str, int] = {}
    for index, (_, op, flags, _) in enumerate(steps):
        if op == "CG_DEFINE" or op == also:
            continue
        met[op] = met.get(op, 0) + 1
        for what in ("kill", "after:kill", f"errno={EIO}"):
            action = what.removeprefix("after:").partition("=")[0]
            text = f"front:{op}:{met[op]}:{what}"
            both = f"{first},{text}" if first else text
            points.append(
                Point(f"{text} in the undo", action, "front", op, index, bool(flags & OPTIONAL), failpoint=both)
            )
    return points


def planner_points(moments: Sequence[str]) -> list[Point]:
    """SIGKILL of the planner, SIGKILL of the front by it, and EIO of each call, at each moment."""
    points = []
    for number, moment in enumerate(moments, 1):
        points.append(Point(f"planner kill {number} ({moment})", "kill", "planner", moment, planner=f"kill {number}"))
        points.append(Point(f"front kill {number} ({moment})", "kill", "front", moment, planner=f"kill-front {number}"))
        if "message" not in moment:
            points.append(
                Point(f"planner errno {number} ({moment})", "errno", "planner", moment, planner=f"errno {number}")
            )
    return points


def choose(points: list[Point], wanted: str, share: int, seed: str) -> list[Point]:
    """All points, those whose name contains ``wanted``, or ``share`` of them, drawn by ``seed``."""
    if wanted == "all":
        return points
    if wanted:
        return [point for point in points if wanted in point.name]
    drawn = random.Random(seed).sample(range(len(points)), min(share, len(points)))
    return [points[number] for number in sorted(drawn)]


def read_steps(traced: list[list[Any]]) -> list[tuple[int, str, int, str]]:
    """The steps of a trace, as tuples."""
    return [(int(actor), str(op), int(flags), str(pointer)) for actor, op, flags, pointer in traced]
