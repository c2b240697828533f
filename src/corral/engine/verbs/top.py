"""``top``: the processes of a container."""

from __future__ import annotations

import posix

from corral.engine import groups, ledger, names, status
from corral.errors import FailedPrecondition
from corral.linux.procfs import read_stat_or_none, read_status, read_wchan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places

__all__ = ["top"]

_COMMAND_BYTES = 4096


def top(places: Places, reference: str) -> list[dict[str, Any]]:
    """One row per process, by pid: what ps(1) shows, with the pid inside and where it waits.

    Raises: NotFound, FailedPrecondition when it does not run.
    """
    container_id = names.find_id(places, reference)
    facts = status.look(places, container_id)
    if not facts.is_live:
        raise FailedPrecondition(
            f"list the processes of container {facts.definition.get('name', reference)!r}: it is {facts.status}"
        )
    rows = []
    for pid in groups.list_processes(facts.record):
        row = _row(pid)
        if row is not None:
            rows.append(row)
    return rows


def _row(pid: int) -> dict[str, Any] | None:
    stat = read_stat_or_none(pid)
    if stat is None:
        return None
    try:
        found = read_status(pid)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(_COMMAND_BYTES).rstrip(b"\0").split(b"\0")
        wchan = read_wchan(pid)
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return None
    ticks = posix.sysconf("SC_CLK_TCK")
    command = b" ".join(words).decode("utf-8", "replace")
    since_boot = stat.start_time_ticks / ticks
    return {
        "pid": pid,
        "ppid": stat.ppid,
        "pid_inside": int(found.get("NSpid", str(pid)).split()[-1]),
        "uid": int(found.get("Uid", "0").split()[0]),
        "state": stat.state,
        "cpu_s": (int(stat.fields[11]) + int(stat.fields[12])) / ticks,
        "memory_bytes": int(found.get("VmRSS", "0 kB").split()[0]) * 1024,
        "threads": int(found.get("Threads", "1")),
        "elapsed_s": max(0.0, ledger.boot_ns() / 1e9 - since_boot),
        "tty": int(stat.fields[4]),
        "wchan": wchan,
        "command": command or f"[{stat.comm}]",
    }
