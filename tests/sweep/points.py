"""The crash points: every step and every moment of a planner, with what is done to whom there. Pure data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FRONT, STAGE, INIT = 0, 1, 2
ACTORS = ("front", "stage", "init")
# The front stands at these steps too, though they carry the other party's name.
MEETINGS = frozenset(("SYNC", "PASS_FD", "TAKE_FD", "FORK", "CG_ATTACH"))
OPTIONAL = 1
# Steps and messages that only their process keeps in mind: naming a cgroup, the planner's note of what became of it.
SILENT = frozenset(("CG_DEFINE", "message 33"))
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
    is_before_plan: bool = False
    is_resident: bool = False

    @property
    def kills_front(self) -> bool:
        """Whether the command itself has to die of SIGKILL."""
        return self.action == "kill" and self.victim == "front"

    @property
    def must_be_refused(self) -> bool:
        """Whether the command has to fail, in words. Init does not come back from EXEC, nor the stage from FORK."""
        if self.action != "errno" or self.victim == "planner" or self.is_optional or self.op == "WARN":
            return False
        return self.victim == "front" or "after:" not in self.failpoint

    @property
    def is_first_planner(self) -> bool:
        """Whether one planner dies before it has answered: nothing was done yet, and another one is asked."""
        return self.planner.endswith(" once") and self.is_before_plan


NONE = Point("none", "none", "")


def step_points(
    steps: Sequence[tuple[int, str, int, str]], *, actors: Iterable[int] = (FRONT, STAGE, INIT)
) -> list[Point]:
    """A SIGKILL before each step and an EIO in its place, for each actor that stands at it.

    After a step is the same as before the actor's next one, so only its last step has points behind it.
    """
    points = []
    for who in actors:
        mine = [index for index, step in enumerate(steps) if _stands_at(who, step[0], step[1])]
        for index in _without_repetition(mine, [step[1] for step in steps]):
            _, op, flags, _ = steps[index]
            behind = ("after:kill", f"after:errno={EIO}") if index == mine[-1] else ()
            for what in ("kill", f"errno={EIO}", *behind):
                action = what.removeprefix("after:").partition("=")[0]
                text = f"{ACTORS[who]}:{index}:{what}"
                resident = (index + len(what)) % 2 == 0
                name = f"{text} ({op}, {'resident' if resident else 'cold'})"
                points.append(
                    Point(
                        name,
                        action,
                        ACTORS[who],
                        op,
                        index,
                        bool(flags & OPTIONAL),
                        failpoint=text,
                        is_resident=resident,
                    )
                )
    return points


def _without_repetition(indexes: list[int], names: list[str]) -> list[int]:
    """Of several steps in a row that change nothing outside their process, the first and the last will do."""
    return [
        index
        for place, index in enumerate(indexes)
        if names[index] not in SILENT
        or place in (0, len(indexes) - 1)
        or not names[indexes[place - 1]] == names[index] == names[indexes[place + 1]]
    ]


def _stands_at(who: int, actor: int, op: str) -> bool:
    return who == actor or (who == FRONT and op in MEETINGS)


def program_points(steps: Sequence[tuple[int, str, int, str]], first: str, also: str = "") -> list[Point]:
    """The same for the steps of an undo, which runs after the failure of ``first``; named by op and number."""
    points = []
    met: dict[str, int] = {}
    for index, (_, op, flags, _) in enumerate(steps):
        if op == "CG_DEFINE" or op == also:
            continue
        met[op] = met.get(op, 0) + 1
        behind = ("after:kill",) if index == len(steps) - 1 else ()
        for what in ("kill", f"errno={EIO}", *behind):
            action = what.removeprefix("after:").partition("=")[0]
            text = f"front:{op}:{met[op]}:{what}"
            both = f"{first},{text}" if first else text
            points.append(
                Point(f"{text} in the undo", action, "front", op, index, bool(flags & OPTIONAL), failpoint=both)
            )
    return points


def planner_points(moments: Sequence[str]) -> list[Point]:
    """At each moment: SIGKILL of every planner, of the first, of a resident one, of the front; EIO of the call."""
    points = []
    answered = moments.index("socket.sendmsg") + 1
    # After a message is before the next moment, so only the last one has a point of its own.
    told = [at for at, moment in enumerate(moments) if not moment.startswith("after") or at == len(moments) - 1]
    for at in _without_repetition(told, list(moments)):
        number, moment = at + 1, moments[at]
        early = number <= answered
        for times in ("", " once"):
            fault = f"kill {number}{times}"
            points.append(
                Point(f"planner {fault} ({moment})", "kill", "planner", moment, planner=fault, is_before_plan=early)
            )
        points.append(
            Point(
                f"resident planner kill {number} ({moment})",
                "kill",
                "planner",
                moment,
                planner=f"kill {number} once",
                is_before_plan=early,
                is_resident=True,
            )
        )
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
