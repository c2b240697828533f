"""The plan: an ordered list of steps, each with its actor and the place in config.json that asked for it.

Pure data; what the steps mean is in docs/design/plan.md, what they are called in ``steps`` (generated).
"""

from __future__ import annotations

from corral.errors import Internal
from corral.runtime.steps import STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Argument = int | str | bytes | Sequence[str]

FRONT = 0
STAGE = 1
INIT = 2
ACTOR_NAMES = ("front", "stage", "init")

OPTIONAL = 1

# Slots of descriptors. Those from SHARED on are inherited by stage and init.
SHARED = 64
SLOT_CONSOLE_SOCKET = 1
SLOT_START = SHARED
SLOT_INIT_LOCK = SHARED + 1
SLOT_CONSOLE_MASTER = SHARED + 2
SLOT_SECCOMP = SHARED + 3
FIRST_TREE_SLOT = SHARED + 8
LAST_SLOT = 511


class Step:
    """One step. ``args`` follow the signature of ``STEPS[op]``: int, str, bytes or a sequence of str."""

    __slots__ = ("actor", "args", "flags", "op", "pointer")

    def __init__(self, actor: int, op: str, args: tuple[Argument, ...], pointer: str, flags: int) -> None:
        self.actor = actor
        self.op = op
        self.args = args
        self.pointer = pointer
        self.flags = flags

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Step.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Step({ACTOR_NAMES[self.actor]}, {self.op}, {self.args!r}, {self.pointer!r}, {self.flags})"

    def describe(self) -> str:
        """The step in words, as errors and ``explain`` print it."""
        text = STEPS[self.op][2]
        for number, argument in enumerate(self.args):
            hole = f"{{{number}}}"
            if hole in text:
                text = text.replace(hole, show_argument(argument))
        return text


def show_argument(argument: Argument) -> str:
    """An argument as text: numbers in decimal, vectors joined by spaces, blobs by their size."""
    if isinstance(argument, bytes):
        return f"<{len(argument)} bytes>"
    if isinstance(argument, (int, str)):
        return str(argument)
    return " ".join(argument)


class Plan:
    """A growing list of steps. ``add`` checks each against its signature, so that no malformed plan is ever sent."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, actor: int, op: str, *args: Argument, pointer: str = "", flags: int = 0) -> int:
        """Append a step and return its index."""
        signature = STEPS[op][1]
        if len(signature) != len(args):
            raise Internal(f"add step {op}: {len(args)} arguments for the signature {signature!r}")
        self.steps.append(Step(actor, op, args, pointer, flags))
        return len(self.steps) - 1

    def front(self, op: str, *args: Argument, pointer: str = "", flags: int = 0) -> int:
        """Append a step of the front."""
        return self.add(FRONT, op, *args, pointer=pointer, flags=flags)

    def stage(self, op: str, *args: Argument, pointer: str = "", flags: int = 0) -> int:
        """Append a step of the stage process."""
        return self.add(STAGE, op, *args, pointer=pointer, flags=flags)

    def init(self, op: str, *args: Argument, pointer: str = "", flags: int = 0) -> int:
        """Append a step of the container's process."""
        return self.add(INIT, op, *args, pointer=pointer, flags=flags)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)
