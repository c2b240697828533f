"""Who ran out of memory, and whose limit it was: counters from before and after a run, and the kernel's own log.

The counters say that something was killed and whose limit was hit. *Who* was killed only the log tells; where it
cannot be read, or its lines are gone, the victim is unknown, and is called so (S4.7 to S4.9).
"""

from __future__ import annotations

import errno
import posix

from corral.cgroup.oom import OomSample, attribute_oom
from corral.engine.counters import V1, V2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["Kill", "judge", "parse_kills", "read_kills", "samples_of"]

SIGKILL = 9
# The initial pid namespace has always had this inode (PROC_PID_INIT_INO): the log's pids are its.
_INITIAL_PIDNS = 0xEFFFFFFC
_RECORD_MAX = 8192


class Kill:
    """One line of the kernel's log about a kill for want of memory: in which group, and for whose limit ("": none)."""

    __slots__ = ("container_id", "group", "limit_group", "pid")

    def __init__(self, container_id: str, pid: int, group: str, limit_group: str) -> None:
        self.container_id = container_id
        self.pid = pid
        self.group = group
        self.limit_group = limit_group

    def __repr__(self) -> str:
        return f"Kill({self.pid}, {self.group!r}, {self.limit_group!r})"


def parse_kills(text: str, container_id: str) -> list[Kill]:
    """The kills of processes in the container's groups, oldest first, from lines ``oom-kill:constraint=...``.

    Source: mm/oom_kill.c dump_oom_summary(), mm/memcontrol.c mem_cgroup_print_oom_context().
    """
    kills = []
    for line in text.split("\n"):
        _, found, summary = line.partition("oom-kill:")
        if not found:
            continue
        words = dict(item.partition("=")[::2] for item in summary.split(","))
        group, pid = words.get("task_memcg", ""), words.get("pid", "")
        if container_id in group.split("/") and pid.isdecimal():
            kills.append(Kill(container_id, int(pid), group, words.get("oom_memcg", "")))
    return kills


def read_kills(container_id: str, *, path: str = "/dev/kmsg") -> list[Kill] | None:
    """The log's kills of this container; None where the log cannot be read. Blocks on nothing."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return None
    lines = []
    try:
        while True:
            try:
                data = posix.read(fd, _RECORD_MAX)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno == errno.EPIPE:
                    continue  # overwritten while we read: the next one is the oldest there is
                if exc.errno == errno.EINVAL:
                    continue  # one record larger than the buffer
                return None
            if not data:
                break
            if b"oom-kill:" in data:
                lines.append(data.decode("utf-8", "replace"))
    finally:
        posix.close(fd)
    return parse_kills("\n".join(lines), container_id)


def is_log_ours() -> bool:
    """Whether the log's pids are the ones that this process sees."""
    return posix.stat("/proc/self/ns/pid").st_ino == _INITIAL_PIDNS


def samples_of(counters: list[dict[str, Any]], at: str) -> list[OomSample]:
    """The samples ``before`` or ``after`` of an exit record's ``oom``: [{"path", "before": {...}, "after": {...}}].

    A group whose files are gone has no ``after``: nothing is then known of it, and it counts as unchanged.
    """
    directories: dict[str, dict[str, dict[str, int]]] = {}
    for item in counters:
        directory, _, name = str(item.get("path", "")).rpartition("/")
        numbers = item.get(at) or item.get("before")
        directories.setdefault(directory, {})[name] = numbers if isinstance(numbers, dict) else {}
    samples = []
    for directory in sorted(directories, key=lambda text: -text.count("/")):
        found = directories[directory]
        if any(name in V1 for name in found):
            hits = sum(found.get(name, {}).get("", 0) for name in V1[1:])
            kills = found.get(V1[0], {}).get("oom_kill", 0)
            samples.append(OomSample(directory, hits, kills, is_exact=False))
            continue
        tree, local = found.get(V2[0], {}), found.get(V2[1], {})
        samples.append(
            OomSample(
                directory,
                local.get("oom", 0),
                local.get("oom_kill", 0),
                tree_hits=tree.get("oom", 0),
                tree_kills=tree.get("oom_kill", 0),
                is_exact=bool(local) or not tree,
            )
        )
    return samples


def judge(
    counters: list[dict[str, Any]], *, pid: int, signal: int, kills: Sequence[Kill] | None, is_sampled: bool = False
) -> dict[str, Any]:
    """The verdict of one run: ``kills``, ``whose`` limit, ``limit_of`` which group, ``victim``, ``init_killed``.

    ``pid``, ``signal``: init's, and what it died of (0: it exited). ``kills``: those of the log, None where it cannot
    be read. ``is_sampled``: the counters had already risen well before init's end, so that a child was killed.
    ``victim`` is ``init``, ``child`` or ``unknown``; empty when nothing was killed. Pure.
    """
    verdict = attribute_oom(samples_of(counters, "before"), samples_of(counters, "after"))
    found: dict[str, Any] = {"kills": verdict.kills, "whose": verdict.whose}
    if verdict.limit_of:
        found["limit_of"] = verdict.limit_of
    if verdict.kills == 0:
        found["init_killed"] = False
        return found
    if verdict.whose == "unknown" and kills:
        # These counters do not tell whose limit it was; the log does.
        found.update(_owner(kills[-1]))
    if signal != SIGKILL:
        # Whatever was killed, init ended by itself or by another signal: exit 143 is no OOM kill.
        found["victim"], found["init_killed"] = "child", False
        return found
    found["victim"] = _victim(pid, kills, verdict.kills, is_sampled=is_sampled)
    found["init_killed"] = found["victim"] != "child"
    return found


def _owner(kill: Kill) -> dict[str, str]:
    """Whose limit a kill of the log was for, in the words of ``OomVerdict``."""
    if not kill.limit_group:
        return {"whose": "host"}
    if kill.limit_group.split("/")[-1] == kill.container_id:
        return {"whose": "own", "limit_of": kill.limit_group}
    return {
        "whose": "below" if kill.container_id in kill.limit_group.split("/") else "ancestor",
        "limit_of": kill.limit_group,
    }


def _victim(pid: int, kills: Iterable[Kill] | None, count: int, *, is_sampled: bool) -> str:
    pids = [kill.pid for kill in kills or ()]
    if pid in pids:
        return "init"
    # The log speaks of as many kills as were counted, and init is in none: somebody else sent that SIGKILL.
    return "child" if is_sampled or len(pids) >= count else "unknown"
