"""Run by test_quota in a mount namespace of its own: a store on a file system with project quotas."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from corral.engine.places import Places
from root.engine.conftest import Engine

SIZE = 4 << 20
# More than it may hold, then what became of it, then whether there is room after something is gone.
WRITE = """
dd if=/dev/zero of=/big bs=64k count=160 2>/dev/null; echo "dd $?"
stat -c "size %s" /big
rm /big; echo again > /small; echo "small $?"
"""


def words(engine: Engine, container: str) -> dict[str, int]:
    """What the script said, by its first words."""
    engine.wait(container)
    return {name: int(number) for name, number in (line.decode().split() for line in engine.output(container))}


def main(place: str) -> None:
    """Fill containers of this size, and one beside them that has none; start one anew; print what was seen."""
    engine = Engine(Places(place))
    engine.places.prepare()
    seen: dict[str, Any] = {}
    limited = engine.run("sh", "-c", WRITE, name="limited", storage_bytes=SIZE)
    seen["limited"] = words(engine, limited)
    seen["free"] = words(engine, engine.run("sh", "-c", WRITE, name="free"))
    mapped = {"uid_map": [[0, 100000, 65536]], "gid_map": [[0, 100000, 65536]]}
    seen["mapped"] = words(engine, engine.run("sh", "-c", WRITE, name="mapped", storage_bytes=SIZE, namespaces=mapped))
    again = engine.run("sh", "-c", "dd if=/dev/zero of=/kept bs=64k count=60 2>/dev/null; echo $?", storage_bytes=SIZE)
    engine.wait(again)
    # What its first run left counts for the second.
    engine.call("start", again)
    engine.wait(again)
    seen["kept"] = Path(engine.places.container(again), "upper", "kept").stat().st_size
    before = os.statvfs(place).f_bavail
    engine.call("rm", again)
    seen["is_given_back"] = os.statvfs(place).f_bavail > before
    print(json.dumps(seen))
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
