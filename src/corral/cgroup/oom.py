"""Whose memory limit it was: OOM kills attributed to a group, from counters taken before and after.

On v2 ``memory.events`` counts a group with all below it, ``memory.events.local`` the group alone: an ``oom`` there
means that this very group's limit was hit, an ``oom_kill`` that the victim was in this very group. On v1 there are
``failcnt`` and ``oom_kill``, both of the group alone; ``failcnt`` also counts hits that reclaim could mend, and not
every kernel counts those of memory+swap, so there a limit above is named with less certainty, and one below not at all.

Descriptors are opened before the workload starts and stay open: a counter can still be read when the last process
is gone, as long as the group is there. Knows nothing of exit codes: whether *init* was the victim is the caller's.

Source: cgroup-v2.rst "memory.events", "memory.events.local", "memory.oom.group"; cgroup-v1/memory.rst 10.
"""

from __future__ import annotations

import os

from corral.cgroup.handles import from_os_error, open_beneath
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cgroup.member import Member

__all__ = ["OomCounters", "OomSample", "OomVerdict", "attribute_oom"]


class OomSample:
    """The counters of one group, from the group itself (first in a list) up to the top of the mount.

    ``limit_hits`` and ``kills`` are the group's own; ``tree_hits`` and ``tree_kills`` count it with all below (not
    known on v1: 0). ``is_gone``: the group had been removed, and the numbers are the last ones read. ``is_exact``: a
    limit that was hit is sure to be counted.
    """

    __slots__ = ("directory", "is_exact", "is_gone", "kills", "limit_hits", "tree_hits", "tree_kills")

    def __init__(
        self,
        directory: str,
        limit_hits: int,
        kills: int,
        *,
        tree_hits: int = 0,
        tree_kills: int = 0,
        is_gone: bool = False,
        is_exact: bool = True,
    ) -> None:
        self.directory = directory
        self.is_exact = is_exact
        self.limit_hits = limit_hits
        self.kills = kills
        self.tree_hits = tree_hits
        self.tree_kills = tree_kills
        self.is_gone = is_gone

    def __repr__(self) -> str:
        return f"OomSample({self.directory!r}: limit hit {self.limit_hits}, killed {self.kills})"


class OomVerdict:
    """What happened between two samples.

    ``kills`` processes of the group or below it were killed for want of memory. ``limit_of`` is the directory of the
    group whose limit was hit, and ``whose`` is ``own``, ``below`` (a group that the workload made), ``ancestor``,
    ``host`` (no limit was hit: the machine ran out), ``unknown`` (this kernel does not tell) or ``none`` (no kill).
    """

    __slots__ = ("kills", "limit_of", "whose")

    def __init__(self, kills: int, whose: str, limit_of: str = "") -> None:
        self.kills = kills
        self.whose = whose
        self.limit_of = limit_of

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OomVerdict):
            return NotImplemented
        return (self.kills, self.whose, self.limit_of) == (other.kills, other.whose, other.limit_of)

    def __hash__(self) -> int:
        return hash((self.kills, self.whose, self.limit_of))

    def __repr__(self) -> str:
        return f"OomVerdict({self.kills} killed, limit: {self.whose} {self.limit_of!r})"

    def __str__(self) -> str:
        if self.whose == "none":
            return "no process was killed for want of memory"
        by = {
            "own": "the group's own limit",
            "below": "a limit of a group below",
            "ancestor": f"the limit of {self.limit_of!r} above",
            "host": "the host, which ran out of memory",
            "unknown": "a limit that this kernel does not tell",
        }[self.whose]
        return f"{self.kills} process(es) killed by {by}"


class OomCounters(Closing):
    """The open counters of a group and the groups above. A context manager; ``close`` is idempotent.

    ``member`` is the group in the hierarchy that has the memory controller, and has it enabled: without, its memory
    is counted in the group above. Files that this host lacks count as 0.
    Raises: NotFound, PermissionDenied.
    """

    __slots__ = ("_files", "_last", "_version")

    def __init__(self, member: Member) -> None:
        self._version = member.version
        self._files: list[tuple[str, dict[str, int]]] = []
        self._last: dict[tuple[int, str], dict[str, int]] = {}
        try:
            parts = [part for part in member.path.split("/") if part]
            for depth in range(len(parts), -1, -1):
                path = "/" + "/".join(parts[:depth])
                directory = member.mount_point.rstrip("/") + path.rstrip("/")
                self._files.append((directory, _open_files(member, path, directory)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all descriptors."""
        files, self._files = self._files, []
        for _, opened in files:
            for fd in opened.values():
                os.close(fd)

    def sample(self) -> list[OomSample]:
        """The counters of now; those of a removed group are the last that were read."""
        samples = []
        for at, (directory, opened) in enumerate(self._files):
            is_gone = False
            for name, fd in opened.items():
                try:
                    self._last[at, name] = _numbers(fd)
                except OSError:
                    is_gone = True
            values = {name: self._last.get((at, name), {}) for name in opened}
            samples.append(self._sample(directory, values, is_gone=is_gone))
        return samples

    def _sample(self, directory: str, values: dict[str, dict[str, int]], *, is_gone: bool) -> OomSample:
        if self._version == 1:
            kills = values.get("memory.oom_control", {}).get("oom_kill", 0)
            # Memory+swap is charged first: with equal limits it is that counter which hits.
            hits = sum(values.get(name, {}).get("", 0) for name in _FILES_V1[1:])
            return OomSample(directory, hits, kills, is_gone=is_gone, is_exact=False)
        tree = values.get("memory.events", {})
        local = values.get("memory.events.local", {})
        return OomSample(
            directory,
            local.get("oom", 0),
            local.get("oom_kill", 0),
            tree_hits=tree.get("oom", 0),
            tree_kills=tree.get("oom_kill", 0),
            is_gone=is_gone,
            # The root has no events, and never needs any.
            is_exact=bool(local) or not tree,
        )


def attribute_oom(before: Sequence[OomSample], after: Sequence[OomSample]) -> OomVerdict:
    """Whose limit killed processes between two samples of the same counters. Pure.

    The group's own limit first, then one below, then the nearest above. A limit that was hit while nothing of this
    group was killed is none of its business.
    """
    if not before or not after:
        return OomVerdict(0, "none")
    own, then = after[0], before[0]
    kills = max(own.tree_kills - then.tree_kills, own.kills - then.kills)
    if kills <= 0:
        return OomVerdict(0, "none")
    if own.limit_hits > then.limit_hits:
        return OomVerdict(kills, "own", own.directory)
    if own.tree_hits > then.tree_hits:
        return OomVerdict(kills, "below")
    for late, early in zip(after[1:], before[1:], strict=False):
        if late.limit_hits > early.limit_hits:
            return OomVerdict(kills, "ancestor", late.directory)
    return OomVerdict(kills, "host" if all(sample.is_exact for sample in after) else "unknown")


_FILES_V1 = ("memory.oom_control", "memory.failcnt", "memory.memsw.failcnt")
_FILES_V2 = ("memory.events", "memory.events.local")


def _open_files(member: Member, path: str, directory: str) -> dict[str, int]:
    try:
        directory_fd = open_beneath(member.mount_point, path)
    except OSError as exc:
        raise from_os_error("open group", directory, exc) from exc
    opened: dict[str, int] = {}
    try:
        for name in _FILES_V1 if member.version == 1 else _FILES_V2:
            try:
                opened[name] = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
            except FileNotFoundError:
                continue  # the root group, or a kernel before 5.2 (no .local)
    except OSError as exc:
        for fd in opened.values():
            os.close(fd)
        raise from_os_error("open counters in", directory, exc) from exc
    finally:
        os.close(directory_fd)
    return opened


def _numbers(fd: int) -> dict[str, int]:
    """``key number`` lines, or one number under the key "". Raises: OSError when the group was removed."""
    values = {}
    for line in os.pread(fd, 4096, 0).decode("ascii", "replace").splitlines():
        name, _, number = line.rpartition(" ")
        if number.isdecimal():
            values[name] = int(number)
    return values
