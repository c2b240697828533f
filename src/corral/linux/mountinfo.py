"""The mount table: /proc/PID/mountinfo as values. Parses only; mounting is the executor's.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Mount:
    """One line of mountinfo. ``shared``, ``master`` and ``propagate_from`` are peer group ids, 0 if absent.

    Paths are decoded with the file system encoding (surrogates stand for bytes that are not text).
    """

    __slots__ = (
        "fstype",
        "major",
        "master",
        "minor",
        "mount_id",
        "mount_point",
        "options",
        "parent_id",
        "propagate_from",
        "root",
        "shared",
        "source",
        "super_options",
        "unbindable",
    )

    def __init__(self, head: Sequence[str], tail: Sequence[str]) -> None:
        """``head`` is the fields before the lone dash, ``tail`` those after; a short line raises ValueError."""
        if len(head) < 6 or not tail:
            raise ValueError("mountinfo line has too few fields")
        major, _, minor = head[2].partition(":")
        self.mount_id = int(head[0])
        self.parent_id = int(head[1])
        self.major = int(major)
        self.minor = int(minor)
        self.root = unescape(head[3])
        self.mount_point = unescape(head[4])
        self.options = tuple(head[5].split(","))
        self.shared = self.master = self.propagate_from = 0
        self.unbindable = False
        for field in head[6:]:
            self._set_propagation(field)
        self.fstype = unescape(tail[0])
        # An empty source leaves two blanks in a row, so the field is there but empty.
        self.source = unescape(tail[1]) if len(tail) > 1 else ""
        self.super_options = tuple(unescape(o) for o in tail[2].split(",")) if len(tail) > 2 else ()

    def _set_propagation(self, field: str) -> None:
        tag, _, group = field.partition(":")
        if tag == "shared":
            self.shared = int(group)
        elif tag == "master":
            self.master = int(group)
        elif tag == "propagate_from":
            self.propagate_from = int(group)
        elif tag == "unbindable":
            self.unbindable = True

    def __repr__(self) -> str:
        return f"Mount({self.mount_id} {self.source!r} on {self.mount_point!r} type {self.fstype})"

    @property
    def propagation(self) -> str:
        """The type in words of mount(8): ``private shared slave unbindable``, or ``shared,slave`` for both."""
        if self.shared:
            return "shared,slave" if self.master else "shared"
        if self.master:
            return "slave"
        return "unbindable" if self.unbindable else "private"


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes (``\040`` for a blank); a backslash without three octal digits stays."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    parts = [first]
    for part in rest:
        digits = part[:3]
        if len(digits) == 3 and digits[0] in "0123" and digits[1] in "01234567" and digits[2] in "01234567":
            parts.append(chr(int(digits, 8)))
            parts.append(part[3:])
        else:
            parts.append("\\")
            parts.append(part)
    return "".join(parts)


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in the kernel's order. Lines that are no mountinfo lines are skipped (a newer kernel may add some)."""
    mounts = []
    # Not splitlines(): it would also cut at form feeds and the like, which the kernel does not escape.
    for line in text.split("\n"):
        fields = line.split(" ")
        try:
            dash = fields.index("-", 6)
            mounts.append(Mount(fields[:dash], fields[dash + 1 :]))
        except ValueError:
            continue
    return mounts


def mount_at(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that one sees at exactly ``path``: of several stacked there, the topmost. ``path`` is not resolved."""
    stacked = [mount for mount in mounts if mount.mount_point == path]
    covered = {mount.parent_id for mount in stacked}
    for mount in reversed(stacked):
        if mount.mount_id not in covered:
            return mount
    return None
