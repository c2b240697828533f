"""Writes a change of limits to a container's groups, reads it back, and undoes all of it when a part is refused."""

from __future__ import annotations

from corral.cgroup.devices import compile_devices
from corral.cgroup.limits import compile_limits, order_for_update
from corral.cgroup.writes import judge_all
from corral.errors import CorralError, FailedPrecondition, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.cgroup.group import Group
    from corral.cgroup.layout import Layout
    from corral.cgroup.writes import LimitWrite

    Resources = dict[str, Any]

# Files with a line for each device, and what takes such a line back.
_BY_DEVICE = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "rdma.max": "hca_handle=max hca_object=max",
}
_BY_DEVICE_V1 = "0"


class Change:
    """From ``current`` to ``wanted`` resources. ``given``: pointers (prefixes) that were asked for explicitly."""

    __slots__ = ("current", "given", "layout", "pids_zero_is_limit", "wanted")

    def __init__(
        self,
        current: Resources,
        wanted: Resources,
        given: frozenset[str],
        layout: Layout,
        *,
        pids_zero_is_limit: bool,
    ) -> None:
        self.current = current
        self.wanted = wanted
        self.given = given
        self.layout = layout
        self.pids_zero_is_limit = pids_zero_is_limit

    def old_writes(self) -> list[LimitWrite]:
        """The writes that led to what the container has."""
        return compile_limits(self.current, self.layout, pids_zero_is_limit=self.pids_zero_is_limit).writes

    def writes(self) -> list[LimitWrite]:
        """The writes that differ from those before, or were asked for. Raises: CorralError, the first problem."""
        compiled = compile_limits(self.wanted, self.layout, pids_zero_is_limit=self.pids_zero_is_limit)
        compiled.raise_problems()
        old = {write.key for write in self.old_writes()}
        return [write for write in compiled.writes if write.key not in old or self._is_given(write.pointer)]

    def _is_given(self, pointer: str) -> bool:
        return any(pointer == place or pointer.startswith((f"{place}[", f"{place}.")) for place in self.given)

    @property
    def has_new_devices(self) -> bool:
        """The device rules are among what changes."""
        return self.wanted.get("devices") != self.current.get("devices")


def apply_change(group: Group, change: Change) -> None:
    """Bring ``group`` to the wanted limits.

    Raises: CorralError that names the value refused; the group then has the limits that it had before.
    """
    writes = change.writes()
    _check_usage(group, change)
    if change.has_new_devices:
        writes += _device_writes(group, change, "wanted")
    texts = {key_of(write): _read(group, write) for write in writes}
    known = {key: text for key, text in texts.items() if text is not None}
    ordered = order_for_update(known, writes)
    done: list[LimitWrite] = []
    try:
        _write_all(group, ordered, done)
        _judge(group, ordered)
        if change.has_new_devices:
            _replace_program(group, change)
    except CorralError:
        _roll_back(group, change, done, texts)
        raise


def key_of(write: LimitWrite) -> tuple[int, str]:
    """Which file a write is for."""
    return (write.hierarchy_index, write.file)


def _read(group: Group, write: LimitWrite) -> str | None:
    if write.controller == "devices":
        return None
    return group.read_or_none(write.controller, write.file)


def _check_usage(group: Group, change: Change) -> None:
    memory = change.wanted.get("memory", {})
    limit = memory.get("limit", 0)
    if not memory.get("checkBeforeUpdate") or limit <= 0:
        return
    text = group.read_or_none("memory", "memory.current") or group.read_or_none("memory", "memory.usage_in_bytes")
    usage = int(text or 0)
    if usage > limit:
        raise FailedPrecondition(
            f"update limits: the container uses {usage} bytes, more than the new limit {limit}",
            hint="drop checkBeforeUpdate to have the kernel reclaim, and kill if it must",
            pointer="linux.resources.memory.limit",
            phase="cgroup",
        )


def _device_writes(group: Group, change: Change, which: str) -> list[LimitWrite]:
    """The v1 writes from what the group's device list is now to the rules of one side of the change."""
    rules = (change.wanted if which == "wanted" else change.current).get("devices", [])
    compiled = compile_devices(rules, change.layout, current=group.read_or_none("devices", "devices.list"))
    if compiled.problems:
        raise compiled.problems[0]
    return compiled.writes


def _replace_program(group: Group, change: Change) -> None:
    """v2: the device rules are a program on the group."""
    compiled = compile_devices(change.wanted.get("devices", []), change.layout)
    directory = group.fd_for("")
    if compiled.bpf_hierarchy is None or directory is None:
        return
    from corral.linux.bpf_devices import assemble_device_program, replace_device_program

    try:
        replace_device_program(directory, assemble_device_program(compiled.bpf_rules))
    except OSError as exc:
        raise FailedPrecondition(
            f"replace the device rules: {(exc.strerror or str(exc)).lower()}",
            pointer="linux.resources.devices",
            phase="cgroup",
        ) from exc


def _write_all(group: Group, writes: list[LimitWrite], done: list[LimitWrite]) -> None:
    for write in writes:
        try:
            group.write(write.controller, write.file, write.value)
        except NotFound as exc:
            if write.is_optional:
                continue
            exc.pointer = write.pointer
            exc.hint = exc.hint or "the container's group lacks this controller: it was made without such a limit"
            raise
        except CorralError as exc:
            exc.pointer = write.pointer
            raise
        done.append(write)


def _judge(group: Group, writes: list[LimitWrite]) -> None:
    texts = [group.read_or_none(write.controller, write.read_file or write.file) for write in writes]
    refused = judge_all(writes, texts)
    if refused:
        write, reason = refused[0]
        raise FailedPrecondition(
            f"check {write.file} of the container's cgroup: {reason}",
            hint="nothing was changed: the limits are those from before",
            pointer=write.pointer,
            phase="cgroup",
        )


def _roll_back(group: Group, change: Change, done: list[LimitWrite], texts: dict[tuple[int, str], str | None]) -> None:
    """Undo ``done``, latest first. What cannot be undone stays: the error to come tells of the change anyway."""
    before: dict[tuple[int, str], list[str]] = {}
    for write in change.old_writes():
        before.setdefault(key_of(write), []).append(write.value)
    undone = set()
    for write in reversed(done):
        if write.controller == "devices":
            continue
        for value in undo_values(write, texts.get(key_of(write)), before.get(key_of(write), [])):
            if (write.file, value) in undone:
                continue
            undone.add((write.file, value))
            try:
                group.write(write.controller, write.file, value)
            except CorralError:
                continue
    if any(write.controller == "devices" for write in done):
        try:
            _write_all(group, _device_writes(group, change, "current"), [])
        except CorralError:
            return


def undo_values(write: LimitWrite, text: str | None, before: list[str]) -> list[str]:
    """The values that bring ``write``'s file back to ``text``; ``before`` are those once written to it."""
    words = write.value.split()
    by_device = write.file in _BY_DEVICE or (write.controller in ("blkio", "rdma") and len(words) > 1)
    if by_device and len(words) > 1:
        old = [value for value in before if value.split()[:1] == words[:1]]
        return [f"{words[0]} {_BY_DEVICE.get(write.file, _BY_DEVICE_V1)}", *old]
    if write.file == "memory.oom_control":
        return ["0"]
    if text is None:
        return []
    lines = text.strip().splitlines()
    return [lines[0]] if lines else []
