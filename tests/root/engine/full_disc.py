"""Run by test_full_disc in a mount namespace of its own: a store on a small file system that a container fills."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from corral.engine.places import Places
from corral.errors import CorralError
from root.engine.conftest import Engine, eventually

FILL = "sleep 1; while :; do echo 0123456789012345678901234567890123456789; done"


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


main(*sys.argv[1:])
