"""Which files count a group's OOM kills, and the hits of the limits that may be behind them.

Apart from ``engine.oom``, which judges them: a start names the files, and only an end needs the judgement.
"""

from __future__ import annotations

__all__ = ["V1", "V2", "counter_files"]

V1 = ("memory.oom_control", "memory.failcnt", "memory.memsw.failcnt")
V2 = ("memory.events", "memory.events.local")


def counter_files(version: int, mount_point: str, path: str, *, most: int = 8) -> list[str]:
    """The counter files that tell of a group's kills and of whose limit was hit, the group's own first.

    Of the groups above only what tells of hits, the nearest first, as far as ``most`` reaches; the root has no limit.
    """
    parts = [part for part in path.split("/") if part]
    files = []
    for depth in range(len(parts), 0, -1):
        directory = "/".join([mount_point.rstrip("/"), *parts[:depth]])
        wanted = V1 if version == 1 else V2
        files += [f"{directory}/{name}" for name in (wanted if depth == len(parts) else wanted[1:])]
    return files[:most]
