"""Run by test_hung in a mount namespace of its own: containers that read a file which never answers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corral.engine import ledger, names, stopping
from corral.engine.keeper import monitor_pid_or_none
from corral.engine.places import Places
from corral.engine.reconcile import reconcile
from corral.errors import AlreadyExists, Timeout
from root.engine.conftest import Engine, eventually
from root.engine.hung_files import HungFiles, mounted

INIT = "echo before; exec cat /data/hung"
CHILD = "echo before; cat /data/hung & wait"


class Scene:
    """A container ``hung`` that waits for its file, and one beside it."""

    def __init__(self, engine: Engine, files: HungFiles, point: Path, script: str) -> None:
        self.engine = engine
        self.files = files
        mount = {"type": "bind", "source": str(point), "target": "/data"}
        self.other = engine.run("sleep", "1000", name="other")
        self.id = engine.run("sh", "-c", script, name="hung", mounts=[mount])
        eventually(files.has_reader)

    def refused(self, verb: str, **options: Any) -> str:
        """What a verb says that cannot be done; "" when it says that it was."""
        try:
            self.engine.call(verb, "hung", **options)
        except Timeout as exc:
            return str(exc)
        return ""

    def views(self) -> dict[str, Any]:
        """What those see who only look."""
        reported = [row["status"] for row in self.engine.call("ps") if row["name"] == "hung"]
        return {
            "ps": reported[0] if reported else "",
            "states": sorted(row["state"] for row in self.engine.call("top", "hung")),
            "stats": self.engine.call("stats", ["hung"])[0]["name"],
            "inspect": self.engine.call("inspect", "hung")["state"]["status"],
            "output": [line.decode() for line in self.engine.output("hung")],
            "reconciled": [row for row in reconcile(self.engine.places) if row["id"] == self.id],
        }

    def end_of_another(self) -> int:
        """The code of a container beside it that is stopped meanwhile."""
        code: int = self.engine.call("stop", "other", timeout_s=0)["exit"]["code"]
        return code

    def replace_monitor(self) -> bool:
        """SIGKILL its monitor; it gets another one."""
        run = self.engine.places.container_run(self.id)
        first = monitor_pid_or_none(run)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: monitor_pid_or_none(run) not in (None, first))
        return self.engine.look(self.id).is_live

    def is_name_taken(self) -> bool:
        """Whether nobody else can have its name."""
        try:
            self.engine.create("true", name="hung")
        except AlreadyExists:
            return True
        return False


def stopped(scene: Scene) -> dict[str, Any]:
    """Two stops, a look at it, a monitor less; then its file answers, and nobody does anything."""
    init = scene.engine.pid(scene.id)
    said = {
        "pid": init,
        "first": scene.refused("stop", timeout_s=0.1),
        "views": scene.views(),
        "other": scene.end_of_another(),
        "is_live": scene.replace_monitor(),
        "again": scene.refused("stop", timeout_s=0),
    }
    scene.files.give_up()
    eventually(lambda: ledger.read(scene.engine.places, scene.id).get("settled") == 1)
    end = scene.engine.look(scene.id).exit()
    scene.engine.call("rm", "hung")
    return {**said, "code": end["code"], "source": end["source"], "events": scene.engine.events(scene.id)}


def removed(scene: Scene) -> dict[str, Any]:
    """A removal that cannot be done yet is done as soon as it can be, by nobody in particular."""
    said = {"pid": scene.engine.pid(scene.id), "first": scene.refused("rm", force=True)}
    said["is_taken"] = scene.is_name_taken()
    said["views"] = scene.views()
    said["again"] = scene.refused("rm", force=True)
    scene.files.give_up()
    eventually(lambda: scene.id not in names.list_ids(scene.engine.places))
    eventually(lambda: not scene.is_name_taken())
    return {**said, "events": scene.engine.events(scene.id)}


SCENES: dict[str, tuple[Callable[[Scene], dict[str, Any]], str]] = {
    "stop-init": (stopped, INIT),
    "stop-child": (stopped, CHILD),
    "rm-init": (removed, INIT),
    "rm-child": (removed, CHILD),
}


def main(folder: str, name: str) -> None:
    """Play a scene in ``folder`` and print what was seen."""
    stopping.BOUND_S = 1.0
    play, script = SCENES[name]
    engine = Engine(Places(f"{folder}/store"))
    engine.places.prepare()
    point = Path(folder, "point")
    point.mkdir()
    with mounted(point) as files:
        try:
            print(json.dumps(play(Scene(engine, files, point, script))))
        finally:
            files.give_up()
            engine.close()


main(*sys.argv[1:])
