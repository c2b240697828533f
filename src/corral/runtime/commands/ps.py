"""``ps``: the processes of a container, with their pids as the caller sees them.

As runc does, it wraps ps(1) and keeps the lines of the container's processes; where there is no ps(1), a table like
``ps -ef`` is made from /proc.
"""

from __future__ import annotations

import os
import sys
import time

from corral.errors import FailedPrecondition, InvalidArgument, NotFound
from corral.linux.procfs import read_stat_or_none, read_status
from corral.oci.json import dumps
from corral.runtime.containers import NoCgroup, open_container, open_container_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.linux.procfs import ProcessStat
    from corral.runtime.options import CommandLine
    from corral.runtime.record import Record

_DEFAULT = "-ef"
_HEADER = "UID          PID    PPID  C STIME TTY          TIME CMD"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_DAY_S = 86_400


def run(line: CommandLine) -> int:
    """Print the table, or the pids as a JSON array (null when there are none, as runc does)."""
    kind = line.text("format", "table")
    record = open_container(line)
    if kind not in ("table", "json"):
        raise InvalidArgument(f"ps: invalid format option {kind!r}", hint="it is either table or json")
    pids = list_pids(record)
    if kind == "json":
        sys.stdout.write(dumps(pids or None) + "\n")
        return 0
    words = line.args[1:] or [_DEFAULT]
    try:
        text = _run_ps(words)
    except FileNotFoundError as exc:
        if words != [_DEFAULT]:
            raise NotFound(
                f"run ps {' '.join(words)}: ps is not installed", hint="leave the options out, or install procps"
            ) from exc
        text = own_table(pids)
    sys.stdout.write(select_lines(text, pids))
    return 0


def list_pids(record: Record) -> list[int]:
    """The container's processes. Raises: NoCgroup when it never had a group, or lives on without one."""
    try:
        group = open_container_group(record)
    except NoCgroup:
        had_one = any(group["fate"] in ("created", "joined") for group in record.state["cgroups"])
        if had_one and not record.is_running:
            return []
        raise
    with group:
        return group.list_pids()


def _run_ps(words: Sequence[str]) -> str:
    import subprocess

    result = subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0 and not result.stdout:
        cause = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
        raise FailedPrecondition(f"run ps {' '.join(words)}: {cause[:200]}", hint="these options are ps(1)'s own")
    return result.stdout


def select_lines(text: str, pids: Sequence[int]) -> str:
    """The first line of ps's output, and those whose PID column is among ``pids``. Raises: CorralError."""
    lines = text.split("\n")
    columns = lines[0].split()
    if "PID" not in columns:
        raise InvalidArgument("read the output of ps: couldn't find PID field in it", hint="add the column pid")
    place = columns.index("PID")
    wanted = set(pids)
    kept = [lines[0]]
    for line in lines[1:]:
        fields = line.split()
        if not fields:
            continue
        if place >= len(fields) or not fields[place].isdecimal():
            raise FailedPrecondition(f"read the output of ps: no pid in column {place + 1} of {line[:80]!r}")
        if int(fields[place]) in wanted:
            kept.append(line)
    return "\n".join(kept) + "\n"


def own_table(pids: Sequence[int], *, proc: str = "/proc") -> str:
    """The columns of ``ps -ef`` for ``pids``, from /proc; processes that ended meanwhile are left out."""
    with open(f"{proc}/uptime", encoding="utf-8") as file:
        uptime_s = float(file.read().split()[0])
    lines = [_HEADER]
    for pid in pids:
        stat = read_stat_or_none(pid, proc=proc)
        if stat is None:
            continue
        try:
            lines.append(_row(stat, uptime_s, proc))
        except (ProcessLookupError, FileNotFoundError):
            continue
    return "\n".join(lines) + "\n"


def _row(stat: ProcessStat, uptime_s: float, proc: str) -> str:
    cpu_s = (int(stat.fields[11]) + int(stat.fields[12])) / _TICKS_PER_SECOND
    age_s = max(uptime_s - stat.start_time_ticks / _TICKS_PER_SECOND, 0.01)
    uid = int(read_status(stat.pid, proc=proc).get("Uid", "0").split()[0])
    percent = min(int(100 * cpu_s / age_s), 99)
    seconds = int(cpu_s)
    used = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    started = _start_text(time.time() - age_s, age_s)
    name = _user_name(uid)
    return (
        f"{name:<8} {stat.pid:>7} {stat.ppid:>7} {percent:>2} {started:<5} {_terminal(int(stat.fields[4])):<8} "
        f"{used} {_command(stat, proc)}"
    )


def _start_text(started: float, age_s: float) -> str:
    return time.strftime("%H:%M" if age_s < _DAY_S else "%b%d", time.localtime(started))


def _terminal(number: int) -> str:
    """tty_nr of proc_pid_stat(5) as ps names it."""
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return "?"


def _command(stat: ProcessStat, proc: str) -> str:
    with open(f"{proc}/{stat.pid}/cmdline", "rb") as file:
        words = file.read(65536).rstrip(b"\0").split(b"\0")
    text = b" ".join(words).decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown or f"[{stat.comm}]"


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
