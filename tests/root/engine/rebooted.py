"""Run by test_clock in a mount namespace of its own: ``before`` makes containers and takes their processes away
at once, as a loss of power does; ``after``, with another boot id, is the host when it is back. ``late`` is that host
as well, where others come before who starts what the policies want: a keeper, and somebody who is at an end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from corral.engine import leases, ledger, names
from corral.engine.keeper import Keeper, monitor_pid_or_none
from corral.engine.places import Places
from corral.engine.reconcile import reconcile
from corral.errors import CorralError
from corral.linux.procfs import read_stat
from root.engine.conftest import Engine, eventually

TEN_DAYS_NS = 10 * 86400 * 10**9


def lose_power(engine: Engine) -> None:
    """All processes of the store die at the same moment, and their groups are gone."""
    live = [container for container in names.list_ids(engine.places) if engine.look(container).is_live]
    groups = [path for container in live for path in engine.groups(container)]
    pids = [int(Path(engine.places.run, "keeper.lock").read_text())]
    for container in live:
        monitor = monitor_pid_or_none(engine.places.container_run(container))
        assert monitor is not None
        pids += [monitor, engine.pid(container)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    for path in groups:
        eventually(lambda path=path: not (path / "cgroup.procs").read_text())  # type: ignore[misc]
        path.rmdir()


def before(engine: Engine) -> None:
    """Containers in every state that a loss of power can meet."""
    engine.run("sh", "-c", "echo first; exec sleep 1000", name="always", restart={"policy": "always"})
    engine.run("sleep", "1000", name="plain")
    engine.run("sleep", "1000", name="cut")
    engine.run("sleep", "1000", name="leased")
    engine.wait(engine.run("sh", "-c", "exit 3", name="ended"))
    engine.create("true", name="made")
    failing = engine.run("false", name="failing", restart={"policy": "on-failure", "max_retries": 2})
    eventually(lambda: ledger.read(engine.places, failing).get("settled") == 3)
    lose_power(engine)


def pretend(engine: Engine, stranger: subprocess.Popen[bytes], boot: str) -> None:
    """The numbers of the dead, start times included, are those of somebody else by now."""
    start = read_stat(stranger.pid).start_time_ticks
    for name in ("always", "plain", "leased", "cut"):
        live = Path(engine.places.record(names.find_id(engine.places, name)), "live")
        live.write_text(" ".join([str(stranger.pid), str(start), boot, *live.read_text().split()[3:]]) + "\n")
    owner = {**leases.me(), "pid": stranger.pid, "start": start, "boot": boot, "token": "t"}
    leased = names.find_id(engine.places, "leased")
    with ledger.Update(engine.places, leased) as state:
        state["leases"] = {"commit": {**owner, "deadline_ns": ledger.boot_ns() + TEN_DAYS_NS}}
        state["network"] = {"helper": {"program": "pasta", "pid": stranger.pid, "start": start, "boot": boot}}
    definition = Path(engine.places.container(leased), "definition.json")
    text = json.loads(definition.read_text())
    definition.write_text(json.dumps({**text, "network": {"mode": "pasta"}}))
    with ledger.Update(engine.places, names.find_id(engine.places, "failing")) as state:
        state["restart"]["due_ns"] = ledger.boot_ns() + TEN_DAYS_NS
    Path(engine.places.container(names.find_id(engine.places, "cut")), "state.json").write_bytes(b'{"sche')


def tried(engine: Engine, verb: str, name: str, **options: Any) -> str:
    """What a verb has to say against what was asked."""
    try:
        engine.call(verb, name, **options)
    except CorralError as exc:
        return str(exc)
    return ""


def after(engine: Engine, boot: str) -> dict[str, Any]:
    """What the next engine sees and can do."""
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        pretend(engine, stranger, boot)
        facts = {name: engine.look(names.find_id(engine.places, name)) for name in ("always", "plain", "cut", "leased")}
        seen: dict[str, Any] = {
            "boot": boot != leases.me()["boot"],
            "ends": {name: [fact.status, fact.exit().get("code")] for name, fact in facts.items()},
            "reason": facts["plain"].exit().get("reason"),
            "stop": tried(engine, "stop", "plain", timeout_s=0),
            "kill": tried(engine, "kill", "plain"),
            "rm": tried(engine, "rm", "leased", force=True),
        }
        report = reconcile(engine.places, starts=True)
        seen["problems"] = [row for row in report if "why" in row]
        # Its third and last try: what it had of them before counts no longer.
        eventually(lambda: ledger.read(engine.places, names.find_id(engine.places, "failing")).get("settled") == 6)
        seen["rows"] = {row["name"]: [row["status"], row["run"]] for row in engine.call("ps", is_all=True)}
        seen["start"] = tried(engine, "start", "cut")
        seen["lines"] = len(engine.output("always"))
        seen["stranger"] = stranger.poll()
    finally:
        stranger.kill()
        stranger.wait()
        engine.close()
    return seen


def late(engine: Engine, boot: str) -> dict[str, Any]:
    """What comes of the runs of the last boot when their files are met by a keeper of this one first."""
    try:
        always, plain = (names.find_id(engine.places, name) for name in ("always", "plain"))
        Keeper.open(engine.places).close()
        eventually(lambda: ledger.read(engine.places, plain).get("settled") == 1)
        lease = leases.acquire(engine.places, always, "settle", deadline_s=60.0, wait_s=60.0)
        with ledger.Update(engine.places, always) as state:
            # As whoever has the lease finds it: asked to stay ended, which ``always`` does until the host's restart.
            state["stop"] = {"run": state["runs"]}
            state.pop("restart", None)
        threading.Timer(0.5, lease.close).start()
        problems = [row for row in reconcile(engine.places, starts=True) if "why" in row]
        state = ledger.read(engine.places, plain)
        end = engine.look(plain).exit()
        return {
            "boot": boot != leases.me()["boot"],
            "problems": problems,
            "always": engine.look(always).status,
            "reason": end.get("reason"),
            "oom": end.get("oom"),
            "lasted_ns": state["run"]["lasted_ns"],
        }
    finally:
        engine.close()


def main(place: str, step: str, boot: str = "") -> None:
    """One of the steps over the store at ``place``; ``boot``: the id of the boot before."""
    engine = Engine(Places(place))
    engine.places.prepare()
    if step == "before":
        before(engine)
    else:
        print(json.dumps({"after": after, "late": late}[step](engine, boot)))


if __name__ == "__main__":
    main(*sys.argv[1:])
