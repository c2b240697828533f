"""Failpoints of the engine: a named place in a verb where a test makes this process die, stop or see an error.

``CORRAL_FAILPOINT="engine:NAME[:N]:ACTION"``, several joined by commas, those of other actors left to them
(docs/design/plan.md "Failpoints"). N is the Nth time in this process (1); ACTION is ``kill``, ``stop`` (SIGKILL,
SIGSTOP of this process) or ``errno=NUMBER``.
"""

from __future__ import annotations

import posix

from corral.errors import InvalidArgument

__all__ = ["failpoint", "without_own"]

VARIABLE = "CORRAL_FAILPOINT"
_SIGKILL, _SIGSTOP = 9, 19


class _Point:
    __slots__ = ("action", "left", "name")

    def __init__(self, name: str, left: int, action: str) -> None:
        self.name = name
        self.left = left
        self.action = action


def parse(text: str) -> list[_Point]:
    """The points of the engine in a value of the variable. Raises: InvalidArgument."""
    points = []
    for item in text.split(","):
        words = item.split(":")
        if words[0] != "engine":
            continue
        count = words[2] if len(words) == 4 else "1"
        action = words[-1]
        is_errno = action.startswith("errno=") and action[6:].isdecimal()
        if len(words) not in (3, 4) or not count.isdecimal() or not (action in ("kill", "stop") or is_errno):
            raise InvalidArgument(
                f"read {VARIABLE}: {item!r} is not a failpoint",
                hint="write it as engine:NAME[:N]:kill, :stop or :errno=NUMBER",
            )
        points.append(_Point(words[1], int(count), action))
    return points


_points: list[_Point] | None = None


def failpoint(name: str) -> None:
    """Do what the environment asks for at this place; nearly always nothing. Raises: OSError on ``errno=``."""
    global _points
    if _points is None:
        _points = parse(posix.environ.get(VARIABLE.encode(), b"").decode("utf-8", "replace"))
    if not _points:
        return
    for point in _points:
        if point.name != name:
            continue
        point.left -= 1
        if point.left:
            continue
        if point.action == "kill":
            posix.kill(posix.getpid(), _SIGKILL)
        elif point.action == "stop":
            posix.kill(posix.getpid(), _SIGSTOP)
        else:
            number = int(point.action[6:])
            raise OSError(number, posix.strerror(number), f"failpoint {name}")


def without_own(text: str) -> str:
    """A value of the variable for a child: the points of the other actors."""
    return ",".join(item for item in text.split(",") if item and not item.startswith("engine:"))
