"""Reads a mount table as the kernel prints it, for assertions on single mounts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """One line of /proc/PID/mountinfo."""

    root: str
    point: str
    options: frozenset[str]
    optional: tuple[str, ...]
    fstype: str
    source: str
    super_options: frozenset[str]

    @property
    def propagation(self) -> str:
        """`shared`, `slave`, `unbindable` or `private`."""
        kinds = [field.split(":")[0] for field in self.optional]
        for kind, name in (("shared", "shared"), ("master", "slave"), ("unbindable", "unbindable")):
            if kind in kinds:
                return name
        return "private"


def parse(text: str) -> list[Mount]:
    """All mounts, in the kernel's order."""
    mounts = []
    for line in text.splitlines():
        left, right = line.split(" - ", 1)
        fields, (fstype, source, options) = left.split(), right.split(" ", 2)
        point = fields[4].replace("\\040", " ")
        mounts.append(
            Mount(
                fields[3],
                point,
                frozenset(fields[5].split(",")),
                tuple(fields[6:]),
                fstype,
                source,
                frozenset(options.split(",")),
            )
        )
    return mounts


def at(text: str, point: str) -> Mount:
    """The topmost mount on this point; LookupError if there is none."""
    found = [mount for mount in parse(text) if mount.point == point]
    if not found:
        raise LookupError(f"no mount on {point} in:\n{text}")
    return found[-1]
