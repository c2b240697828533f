"""Run by test_full_disc in a mount namespace of its own: a store on a small file system that a container fills."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from corral.engine.places import Places
from corral.errors import CorralError, ResourceExhausted
from root.engine.conftest import Engine, eventually

FILL = "sleep 1; while :; do echo 0123456789012345678901234567890123456789; done"


def end(place: str, verb: str) -> None:
    """End a container while another file fills its store, and print how it ended once there is room again."""
    engine = Engine(Places(place))
    engine.places.prepare()
    container_id = engine.run("sleep", "1000", restart={"policy": "always"})
    fill = Path(place) / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    with contextlib.suppress(ResourceExhausted):
        engine.call(verb, container_id, **({"timeout_s": 0} if verb == "stop" else {}))
    eventually(lambda: not engine.look(container_id).is_live)
    fill.unlink()
    code = engine.wait(container_id)["code"]
    print(json.dumps({"code": code, "runs": engine.look(container_id).run}))
    engine.close()


def look(place: str) -> None:
    """Print what is seen of a container that ended in a full store, and whether its end is followed up afterwards."""
    engine = Engine(Places(place))
    engine.places.prepare()
    container_id = engine.run("sh", "-c", "sleep 1; exit 3", name="ended")
    fill = Path(place) / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    eventually(lambda: not engine.look(container_id).is_live)
    rows = [[row["name"], row["status"]] for row in engine.call("ps", is_all=True)]
    inspected = engine.call("inspect", "ended")["state"]["status"]
    fill.unlink()
    code = engine.wait("ended")["code"]
    print(json.dumps({"ps": rows, "inspect": inspected, "code": code}))
    engine.close()


def main(place: str, how: str) -> None:
    """Fill the store at ``place``, remove what fills it, and print what is left of it."""
    engine = Engine(Places(place))
    engine.places.prepare()
    command = FILL if how == "live" else f"timeout 5 sh -c '{FILL}'"
    container_id = engine.run(
        "sh", "-c", command, name="full", log={"driver": "k8s-file", "files": 1, "max_bytes": 1 << 30}
    )
    eventually(lambda: not os.statvfs(place).f_bavail)
    if how != "live":
        eventually(lambda: not engine.look(container_id).is_live)
    try:
        engine.call("rm", "full", force=how == "live")
        said = ""
    except CorralError as exc:
        said = str(exc)
    left = sorted(path.name for path in (Path(place) / "containers").iterdir() if not path.name.startswith("."))
    print(json.dumps({"said": said, "left": left, "events": engine.events(container_id)[-1:]}))
    for path in (Path(place) / "containers").glob("*/log*"):
        path.unlink()
    engine.close()


if sys.argv[2] == "look":
    look(sys.argv[1])
elif sys.argv[2] in ("stop", "kill"):
    end(*sys.argv[1:])
else:
    main(*sys.argv[1:])
