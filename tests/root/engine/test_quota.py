"""``--storage-opt size=`` where the file system has project quotas: ext4 and xfs, on images of the test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from root.engine.apart import python, run_apart
from root.engine.conftest import Engine
from root.engine.sized import SIZE

pytestmark = pytest.mark.requires("root")

WORKER = Path(__file__).with_name("sized.py")
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
LACKING = 77


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_container_holds_no_more_than_its_size(engine: Engine, tmp_path: Path, kind: str) -> None:
    """Root, also of a user namespace, writes that much and no more; others are not bound; what is removed is room."""
    if shutil.which(MAKE[kind][0]) is None:
        pytest.skip(f"{MAKE[kind][0]} is not installed")
    image, place = tmp_path / "image", tmp_path / "place"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    place.mkdir()
    subprocess.run([*MAKE[kind], str(image)], check=True, capture_output=True, timeout=120)
    done = run_apart(
        f"mount -o loop,prjquota {image} {place} || exit {LACKING}; exec {python(WORKER, place)}",
    )
    if done.returncode == LACKING:
        pytest.skip(f"this kernel mounts no {kind} with quotas: {done.stderr.splitlines()[0]}")
    assert done.stderr == ""
    check(json.loads(done.stdout))


def check(seen: dict[str, Any]) -> None:
    """The limits held, and only where they were asked for."""
    for name in ("limited", "mapped"):
        assert (seen[name]["dd"], seen[name]["small"]) == (1, 0), name
        assert SIZE // 2 < seen[name]["size"] <= SIZE, name
    assert seen["free"] == {"dd": 0, "size": 160 * 65536, "small": 0}
    assert SIZE // 2 < seen["kept"] <= SIZE
    assert seen["is_given_back"]
