"""Requested against effective: for each limit what was asked, what stands in the kernel, and which group binds.

A group never gets more than any group above it allows, so the limit that counts may be an ancestor's. The walk goes
up to the root of what the mount shows: what lies above a cgroup namespace is not seen, and may bind too.

Source: cgroup-v2.rst "Top-down Constraint", "Limits", cpuset.cpus.effective; cgroup-v1/memory.rst 6, cpusets.rst 1.5.
"""

from __future__ import annotations

import errno
import os

from corral.cgroup.handles import from_os_error, open_beneath, read_at
from corral.cgroup.writes import judge, parse_number_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corral.cgroup.group import Group
    from corral.cgroup.member import Member
    from corral.cgroup.writes import LimitWrite

    # What a limit is at one level: a number to take the least of, or None for "no limit here".
    Amount = float | None
    Amounts = Callable[[int], Amount]

__all__ = ["EffectiveLimit", "effective", "render_effective"]

# v1 counters without a limit show LONG_MAX in whole pages.
_UNLIMITED_FROM = 1 << 62


class EffectiveLimit:
    """One limit of a group.

    ``name`` is the v2 file's, whatever the host; ``unit`` is ``bytes``, ``processes``, ``cpus`` (a number of CPUs'
    time), ``set`` (a list of numbers) or "" (``effective`` then is the file's text). ``requested`` is what was
    written, "" if nothing; ``standing`` what the group's own file says, "" if there is none; ``effective`` what
    counts, "max" for no limit. ``bound_by`` is the directory of the group whose limit that is ("" if nobody's),
    ``problem`` why the standing value is not the requested one, "" if it is.
    """

    __slots__ = (
        "bound_by",
        "effective",
        "file",
        "is_own",
        "name",
        "pointer",
        "problem",
        "requested",
        "standing",
        "unit",
    )

    def __init__(self, name: str, file: str, unit: str) -> None:
        self.name = name
        self.file = file
        self.unit = unit
        self.requested = self.standing = self.bound_by = self.problem = self.pointer = ""
        self.effective = "max"
        self.is_own = True

    def __repr__(self) -> str:
        return f"EffectiveLimit({self.name}: {self.requested!r} -> {self.effective!r} by {self.bound_by!r})"

    def to_record(self) -> dict[str, object]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


class _Level:
    """One group of the way up, open: its directory and a reader of its files."""

    __slots__ = ("directory", "fd")

    def __init__(self, directory: str, fd: int) -> None:
        self.directory = directory
        self.fd = fd

    def text(self, file: str) -> str | None:
        try:
            return read_at(self.fd, file).strip()
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return None
            raise from_os_error("read", f"{self.directory}/{file}", exc) from exc


def effective(group: Group, writes: Sequence[LimitWrite] = ()) -> list[EffectiveLimit]:
    """The limits of an open ``group``; ``writes`` are those that were asked for, as compiled for this host.

    Those that exist on this host and are asked for, or bind, come; a limit nobody set is left out.
    Raises: PermissionDenied when a file that is there may not be read.
    """
    asked = {write.file: write for write in writes}
    found: list[EffectiveLimit] = []
    told: set[str] = set()
    for member in group.members:
        levels = list(_levels(member))
        try:
            for limit, files in _limits_of(member, levels):
                told.update(files)
                _add_request(limit, [asked[file] for file in files if file in asked], levels)
                if limit.requested or limit.bound_by:
                    found.append(limit)
        finally:
            for level in levels:
                os.close(level.fd)
    found += [_own_only(group, write) for write in asked.values() if write.file not in told]
    return found


def render_effective(limits: Sequence[EffectiveLimit]) -> str:
    """A table for people, one limit a line, with a heading."""
    rows = [("LIMIT", "REQUESTED", "IN KERNEL", "EFFECTIVE", "BOUND BY")]
    for limit in limits:
        by = "itself" if limit.is_own and limit.bound_by else limit.bound_by or "-"
        mark = " (!)" if limit.problem else ""
        rows.append(
            (
                limit.name,
                limit.requested or "-",
                (limit.standing or "-") + mark,
                f"{limit.effective} {limit.unit}".rstrip() if limit.unit not in ("", "set") else limit.effective,
                by,
            )
        )
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _levels(member: Member) -> Iterator[_Level]:
    """The group itself first, then those above it up to the mount's root; the caller closes the fds."""
    parts = [part for part in member.path.split("/") if part]
    for depth in range(len(parts), -1, -1):
        path = "/" + "/".join(parts[:depth])
        try:
            fd = open_beneath(member.mount_point, path)
        except OSError as exc:
            raise from_os_error("open group", member.mount_point.rstrip("/") + path, exc) from exc
        yield _Level(member.mount_point.rstrip("/") + path.rstrip("/"), fd)


def _limits_of(member: Member, levels: list[_Level]) -> Iterator[tuple[EffectiveLimit, tuple[str, ...]]]:
    """Each limit that the member's controllers have, with the files that make it."""
    is_v1 = member.version == 1
    for name, v2_file, v1_file, unit in _LEAST:
        file = v1_file if is_v1 else v2_file
        if file and name.partition(".")[0] in member.controllers:
            yield _least(EffectiveLimit(name, file, unit), levels), (file,)
    if "cpu" in member.controllers:
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if is_v1 else ("cpu.max",)
        yield _bandwidth(EffectiveLimit("cpu.max", files[0], "cpus"), levels, files), files
    if "hugetlb" in member.controllers:
        last = "limit_in_bytes" if is_v1 else "max"
        for size in _page_sizes(levels[0], last):
            file = f"hugetlb.{size}.{last}"
            yield _least(EffectiveLimit(f"hugetlb.{size}.max", file, "bytes"), levels), (file,)
    if "cpuset" in member.controllers:
        for word in ("cpus", "mems"):
            effective_file = f"cpuset.effective_{word}" if is_v1 else f"cpuset.{word}.effective"
            limit = EffectiveLimit(f"cpuset.{word}", f"cpuset.{word}", "set")
            yield _set(limit, levels, effective_file), (f"cpuset.{word}",)


# v2 name, v2 file, v1 file, unit: limits where the least of the way up counts.
_LEAST = (
    ("memory.max", "memory.max", "memory.limit_in_bytes", "bytes"),
    ("memory.high", "memory.high", "", "bytes"),
    ("memory.swap.max", "memory.swap.max", "", "bytes"),
    ("memory.memsw", "", "memory.memsw.limit_in_bytes", "bytes"),
    ("pids.max", "pids.max", "pids.max", "processes"),
)


def _least(limit: EffectiveLimit, levels: list[_Level]) -> EffectiveLimit:
    texts = [level.text(limit.file) for level in levels]
    limit.standing = texts[0] or ""
    binding = _binding([_number(text) for text in texts[: _reach(limit.file, levels)]])
    if binding is not None:
        at, amount = binding
        limit.effective, limit.bound_by, limit.is_own = str(int(amount)), levels[at].directory, at == 0
    return limit


def _reach(file: str, levels: list[_Level]) -> int:
    """How many levels count: v1 memory groups may stand alone (``memory.use_hierarchy`` 0, before Linux 5.11)."""
    if not file.endswith("_in_bytes") or not file.startswith("memory."):
        return len(levels)
    for at, level in enumerate(levels[1:], start=1):
        if level.text("memory.use_hierarchy") == "0":
            return at
    return len(levels)


def _bandwidth(limit: EffectiveLimit, levels: list[_Level], files: tuple[str, ...]) -> EffectiveLimit:
    texts = [" ".join(filter(None, (level.text(file) for file in files))) for level in levels]
    limit.standing = texts[0]
    binding = _binding([_ratio(text) for text in texts])
    if binding is not None:
        at, ratio = binding
        limit.effective, limit.bound_by, limit.is_own = f"{ratio:.6g}", levels[at].directory, at == 0
    return limit


def _set(limit: EffectiveLimit, levels: list[_Level], effective_file: str) -> EffectiveLimit:
    """The kernel works the set out itself; it is narrowed at the topmost group that has what ours has."""
    limit.standing = levels[0].text(limit.file) or ""
    sets = [_members(level.text(effective_file) or level.text(limit.file)) for level in levels]
    own = sets[0]
    limit.effective = levels[0].text(effective_file) or limit.standing or "max"
    if own is None:
        return limit
    at = 0
    while at + 1 < len(sets) and sets[at + 1] == own:
        at += 1
    # Nobody narrows what the root of all has.
    if at + 1 < len(sets):
        limit.bound_by, limit.is_own = levels[at].directory, at == 0
    return limit


def _binding(amounts: list[Amount]) -> tuple[int, float] | None:
    """The least amount and where it stands, of equal ones the nearest; None when there is no limit at all."""
    best: tuple[int, float] | None = None
    for at, amount in enumerate(amounts):
        if amount is not None and (best is None or amount < best[1]):
            best = (at, amount)
    return best


def _number(text: str | None) -> Amount:
    """Exact up to 2^53, and beyond that nobody has so much."""
    if text is None or not text.isdecimal():
        return None
    return None if int(text) >= _UNLIMITED_FROM else int(text)


def _ratio(text: str) -> Amount:
    words = text.split()
    if len(words) < 2 or not words[0].isdecimal() or not words[1].isdecimal() or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _members(text: str | None) -> frozenset[int] | None:
    if not text:
        return None
    try:
        return parse_number_set(text)
    except ValueError:
        return None


def _page_sizes(level: _Level, last: str) -> list[str]:
    names = [name.split(".") for name in os.listdir(level.fd)]
    return sorted(parts[1] for parts in names if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == last)


def _add_request(limit: EffectiveLimit, writes: list[LimitWrite], levels: list[_Level]) -> None:
    if not writes:
        return
    limit.requested = " ".join(write.value for write in writes)
    limit.pointer = writes[0].pointer
    for write in writes:
        if write.read_file:
            limit.problem = limit.problem or judge(write, levels[0].text(write.read_file) or "") or ""


def _own_only(group: Group, write: LimitWrite) -> EffectiveLimit:
    """A limit that means something among siblings only (weights), or for which nothing above counts."""
    limit = EffectiveLimit(write.file, write.file, "")
    limit.requested, limit.pointer = write.value, write.pointer
    text = group.read_or_none(write.controller, write.file)
    limit.standing = " ".join((text or "").split())
    if text is None and not write.is_optional:
        limit.problem = f"no file {write.file!r}"
    elif text is not None and write.read_file == write.file:
        limit.problem = judge(write, text) or ""
    limit.effective = limit.standing or "max"
    limit.bound_by = group.directory_for(write.controller) if limit.standing else ""
    return limit
