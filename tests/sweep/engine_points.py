"""The crash points of an engine's verb: who dies, or what fails, at which moment and at which step. Pure data."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence

from sweep.engine_victim import VICTIMS, Fault
from sweep.points import step_points

# What the disk and the process table may say to a call; which of them, the number of the moment decides.
ERRORS: dict[str, tuple[int, ...]] = {
    "open": (errno.ENOSPC, errno.EMFILE, errno.EIO, errno.EROFS),
    "os.mkdir": (errno.ENOSPC, errno.EROFS),
    "os.rename": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "os.symlink": (errno.ENOSPC, errno.EROFS),
    "os.link": (errno.ENOSPC, errno.EROFS),
    "os.truncate": (errno.EIO,),
    "os.remove": (errno.EIO, errno.EROFS),
    "os.rmdir": (errno.EIO, errno.EBUSY),
    "os.posix_spawn": (errno.ENOMEM, errno.EAGAIN),
    "subprocess.Popen": (errno.ENOMEM, errno.EAGAIN),
    "mount": (errno.ENOMEM,),
    "unmount": (errno.EBUSY,),
    "netlink": (errno.ENOBUFS, errno.EBUSY),
    "disk.write": (errno.ENOSPC, errno.EIO),
    "disk.pwrite": (errno.ENOSPC, errno.EIO),
    "disk.fsync": (errno.EIO,),
    "disk.ftruncate": (errno.EIO,),
    "disk.fchmod": (errno.EIO, errno.EROFS),
    "fcntl.flock": (errno.EIO,),
}


def moment_faults(moments: Sequence[str], who: Sequence[str], only: frozenset[int] | None = None) -> Iterator[Fault]:
    """At each moment, or those of ``only``: SIGKILL of each of ``who`` (names of ``VICTIMS``), an error of the call."""
    for at, moment in enumerate(moments, 1):
        if only is not None and at not in only:
            continue
        yield from (Fault(f"{name} killed at {at} ({moment})", at, VICTIMS[name]) for name in who)
        numbers = ERRORS.get(moment, ())
        if numbers and at < len(moments):
            number = numbers[at % len(numbers)]
            yield Fault(f"{errno.errorcode[number]} at {at} ({moment})", at, errno=number)


def step_faults(steps: Sequence[tuple[int, str, int, str]]) -> Iterator[Fault]:
    """A SIGKILL before each step of the plan and an EIO in its place, for each process that stands at it."""
    for point in step_points(steps):
        yield Fault(point.name.partition(", ")[0] + ")", failpoint=point.failpoint, op=point.op)


def choose(faults: list[Fault], wanted: str, share: int, seed: str) -> list[Fault]:
    """All faults, those whose name contains ``wanted``, or ``share`` of them, drawn by ``seed``."""
    if wanted == "all":
        return faults
    if wanted:
        return [fault for fault in faults if wanted in fault.name]
    drawn = random.Random(seed).sample(range(len(faults)), min(share, len(faults)))
    return [faults[number] for number in sorted(drawn)]
