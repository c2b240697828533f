"""More processes in a running container: begun by a monitor of their own, waited for, and ended with all they left.

One exec has a directory in the run directory: ``process.json``, its monitor's files, ``exit`` and ``log``. An exec that
has a time limit runs in a sub-group of the container's cgroup, so that its end is that of all its processes (S4.13).
"""

from __future__ import annotations

import errno
import posix

from corral.cgroup.group import open_group
from corral.cgroup.member import Member, members_below
from corral.cgroup.removal import remove_group
from corral.engine import exits, files, groups, journal, status
from corral.engine.accounts import resolve_account
from corral.engine.execends import tell_end
from corral.engine.failpoints import failpoint
from corral.engine.launching import converse
from corral.engine.logs import Reader
from corral.engine.programs import exit_command
from corral.engine.shape import EXEC, check_members
from corral.errors import CorralError, FailedPrecondition, InvalidArgument
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.engine.places import Places
    from corral.engine.status import Facts

__all__ = ["Exec", "begin_exec", "end_exec", "run_to_end"]

KILL_S = 10.0


class Exec:
    """An exec that has begun. ``directory`` is its; ``group`` its own sub-group, if any; ``name`` the container's."""

    __slots__ = ("container_id", "directory", "exec_id", "group", "name", "places")

    def __init__(self, places: Places, container_id: str, exec_id: str, group: list[Member], *, name: str) -> None:
        self.name = name
        self.places = places
        self.container_id = container_id
        self.exec_id = exec_id
        self.directory = places.exec_run(container_id, exec_id)
        self.group = group

    def wait(self, timeout_s: float | None) -> dict[str, Any] | None:
        """How it ended (``exits.to_exit``), None if it has not within the time."""
        record = exits.wait_exec(self.directory, timeout_s)
        return exits.to_exit(record) if record is not None else None


def begin_exec(facts: Facts, request: dict[str, Any], *, has_limit: bool = False, awaits_attach: bool = False) -> Exec:
    """Begin a process in the container. ``request``: ``command`` and what is not as for its first process.

    That is ``env``, ``user``, ``workdir``, ``terminal``, ``stdin``, ``privileged``. ``has_limit``: it may have to be
    ended with all it left. ``awaits_attach``: its output waits for the first who attaches.
    Raises: FailedPrecondition when the container does not run, or the command cannot be.
    """
    places, container_id = facts.places, facts.container_id
    name = facts.definition.get("name", container_id)
    check_members(f"exec in container {name!r}", request, EXEC)
    record = facts.record
    if facts.status not in (status.RUNNING, status.STOPPING) or record is None:
        hint = f"corral unpause {name}" if facts.status == status.PAUSED_ else f"corral start {name}"
        raise FailedPrecondition(f"exec in container {name!r}: it is {facts.status}", hint=hint)
    if not request.get("command"):
        raise InvalidArgument(f"exec in container {name!r}: no command given")
    exec_id = posix.urandom(32).hex()
    directory = places.exec_run(container_id, exec_id)
    paths.make_directories(directory, 0o700)
    group: list[Member] = []
    try:
        process = _process(facts, request)
        files.write_object(f"{directory}/process.json", process)
        words = ["--root", places.runtime_root, "exec", "--process", f"{directory}/process.json"]
        if has_limit:
            group, flags = _make_group(facts, exec_id)
            words += flags
        failpoint("exec.prepared")
        spec = _spec(facts, request, exec_id, awaits_attach=awaits_attach)
        converse(places, spec, [*words, container_id])
    except BaseException:
        if group:
            remove_group(group, deadline_s=1.0)
        files.remove_tree(directory)
        raise
    failpoint("exec.begun")
    journal.emit(places, "container", "exec", container_id, name=name, attributes={"exec": exec_id})
    return Exec(places, container_id, exec_id, group, name=name)


def end_exec(exec_: Exec, end: dict[str, Any] | None) -> None:
    """Tell of an exec's end, and put away what it leaves. ``end`` None: it has not, and now does, with all it left."""
    is_killed = end is None
    if is_killed:
        _kill(exec_)
        # Its monitor has its directory until the end is written.
        end = exec_.wait(KILL_S)
    tell_end(exec_.places, exec_.container_id, exec_.exec_id, end, name=exec_.name)
    if exec_.group:
        # Processes that it left on purpose keep the group; it goes with the container's then.
        remove_group(exec_.group, deadline_s=KILL_S if is_killed else 0.0)
    files.remove_tree(exec_.directory)


def _kill(exec_: Exec) -> None:
    try:
        group = open_group(exec_.group)
    except CorralError:
        _kill_first(exec_)
        return
    with group:
        group.kill_all(9, deadline_s=KILL_S)
        group.wait_empty(deadline_s=KILL_S)


def _kill_first(exec_: Exec) -> None:
    """Where there is no group, its first process is all that can be told to be its."""
    from corral.engine.keeper import Keeper

    with Keeper.open(exec_.places) as keeper:
        for row in keeper.list():
            if row["exec"] == exec_.exec_id and row["init"]:
                try:
                    posix.kill(int(row["init"]), 9)
                except ProcessLookupError:
                    return


def run_to_end(facts: Facts, words: list[str], *, timeout_s: float) -> tuple[int, str]:
    """Run a command to its end and return its exit code and output; -1 when it had to be ended.

    All that it left is ended then, too. Raises: CorralError when it cannot begin.
    """
    running = begin_exec(facts, {"command": words}, has_limit=True)
    end = running.wait(timeout_s)
    output = b"\n".join(entry.data for entry in Reader(f"{running.directory}/log").read()).decode("utf-8", "replace")
    end_exec(running, end)
    if end is None:
        return -1, f"{output}\nit did not end within {timeout_s:g} s".strip()
    code = end["code"]
    return code if isinstance(code, int) else -1, output


def _process(facts: Facts, request: dict[str, Any]) -> dict[str, Any]:
    """The container's process with the request over it."""
    assert facts.record is not None
    config = facts.record.read_config()
    process: dict[str, Any] = dict(config.get("process", {}))
    process["args"] = list(request["command"])
    process["terminal"] = bool(request.get("terminal"))
    process.pop("consoleSize", None)
    process.pop("oomScoreAdj", None)
    env = dict(line.partition("=")[::2] for line in process.get("env", []))
    if request.get("terminal"):
        env.setdefault("TERM", "xterm")
    if request.get("user"):
        account = resolve_account([f"/proc/{facts.record.pid}/root"], request["user"], [])
        process["user"] = {"uid": account["uid"], "gid": account["gid"]}
        if account["groups"]:
            process["user"]["additionalGids"] = account["groups"]
        env["HOME"] = account["home"]
        if account["uid"] != 0 and not request.get("privileged"):
            bounding = process.get("capabilities", {}).get("bounding", [])
            process["capabilities"] = {"bounding": bounding}
    for line in request.get("env", []):
        name, _, value = line.partition("=")
        env[name] = value
    process["env"] = [f"{name}={value}" for name, value in env.items()]
    if request.get("workdir"):
        process["cwd"] = request["workdir"]
    if request.get("privileged"):
        from corral.engine.host_facts import bounding_set

        held = bounding_set()
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), held)
        process["noNewPrivileges"] = False
    return process


def _spec(facts: Facts, request: dict[str, Any], exec_id: str, *, awaits_attach: bool) -> dict[str, str]:
    directory = facts.places.exec_run(facts.container_id, exec_id)
    return {
        "id": facts.container_id,
        "exec": exec_id,
        "dir": directory,
        "run": directory,
        "runtime_root": facts.places.runtime_root,
        "command": "\x1f".join(exit_command(facts.places)),
        "runs": str(facts.run),
        "terminal": "1" if request.get("terminal") else "0",
        "stdin": "1" if request.get("stdin") else "0",
        # Nobody attaches to an exec again: the end of what is typed is the end of its input.
        "stdin_once": "1",
        "awaits_attach": "1" if awaits_attach else "0",
        "log": "none" if awaits_attach else "cri",
        "log_max_bytes": str(1 << 20),
        "log_files": "1",
    }


def _make_group(facts: Facts, exec_id: str) -> tuple[list[Member], list[str]]:
    """A sub-group in the one hierarchy that kills best, and the flags that lead there; neither without a cgroup."""
    group = groups.open_group_or_none(facts.record)
    if group is None:
        return [], []
    with group:
        members = group.members
    chosen = min(members, key=_rank)
    below = members_below([chosen], f"exec-{exec_id[:32]}")
    try:
        posix.mkdir(below[0].directory, 0o755)
    except OSError as exc:
        if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EAGAIN):
            return [], []
        raise files.from_os_error("make group", below[0].directory, exc) from exc
    flags = []
    for member in members:
        if member is chosen:
            names = ",".join(member.controllers) if member.version == 1 else ""
            place = f"/exec-{exec_id[:32]}"
            flags += ["--cgroup", f"{names}:{place}" if names else place]
        elif member.controllers:
            flags += ["--cgroup", f"{','.join(member.controllers)}:/"]
    return below, flags


def _rank(member: Member) -> int:
    if member.version == 2:
        return 0
    return 1 if "freezer" in member.controllers else 2 if "pids" in member.controllers else 3
