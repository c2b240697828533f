"""What the engine is asked for about files in the sweep: images of containers, copies, volumes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from corral.engine.names import list_ids
from corral.errors import AlreadyExists, NotFound
from corral.image.store import ImageStore
from root.engine.conftest import eventually
from sweep import engine_operations
from sweep.engine_operations import SOON_S, Operation, Stage, prove_running
from sweep.engine_victim import NO_FAULT, Fault, Outcome

NAME = "made:1"
APPLETS = ("sh", "sleep", "cat", "cmp", "echo")
# More than a pipe and a block of a compressed layer hold.
CONTENT = bytes(range(256)) * 1200


class OnImage(Operation):
    """On a container with a root of layers, whose workload has written a file."""

    def workload(self, stage: Stage) -> dict[str, Any]:
        """A busybox below an overlay, which the container's name is "it" of."""
        root = stage.path / "root"
        if not root.exists():
            (root / "bin").mkdir(parents=True)
            shutil.copy2(str(shutil.which("busybox")), root / "bin" / "busybox")
            for applet in APPLETS:
                (root / "bin" / applet).symlink_to("busybox")
        (stage.path / "shared" / "content").write_bytes(CONTENT)
        request = stage.workload(root={"kind": "rootfs", "path": str(root)})
        request["process"]["command"][-1] = f"cat /mnt/content > /content; {request['process']['command'][-1]}"
        return request

    def execute(self, stage: Stage, container: str, *command: str) -> int:
        """Run a command in it; its exit code."""
        code: int = stage.engine.call("exec", container, {"command": list(command)})["exit"]["code"]
        return code


class Committing(OnImage):
    """commit: there is a whole image or none, nothing of half a one, and the container goes on."""

    name = "commit"

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container: str = stage.engine.call("run", self.workload(stage))["id"]
        eventually(lambda: stage.count_runs() >= 1, SOON_S)
        outcome = stage.victim(fault, lambda: stage.engine.call("commit", container, {"name": NAME}))
        stage.settle()
        if outcome.code == 0:
            self.prove_whole(stage)
        stage.engine.call("commit", container, {"name": NAME})
        self.prove_whole(stage)
        prove_running(stage, container, fault)
        store = ImageStore(stage.engine.places.images)
        for image in store.list():
            store.remove(image.id, force=True)
        stage.engine.call("gc")
        left = [path for path in Path(store.path).rglob("*") if path.is_file() and path.stat().st_size > 1000]
        stage.expect(not left, f"of images is left: {left}")
        return outcome

    def prove_whole(self, stage: Stage) -> None:
        """Its layers can be read to their ends, which their digests are compared at, and hold what was written."""
        image = ImageStore(stage.engine.places.images).resolve(NAME)
        found = b""
        for layer in image.layers:
            with ImageStore(stage.engine.places.images).open_layer(layer) as stream:
                while piece := stream.read(1 << 16):
                    found += piece
        stage.expect(CONTENT in found, "the image has not what was written")


class Copying(OnImage):
    """cp into a container and out of it: asked again it is whole; nothing of ours is left beside it."""

    def __init__(self, *, is_running: bool) -> None:
        self.name = "cp" if is_running else "cp-stopped"
        self.is_running = is_running
        self.has_others = is_running

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        engine = stage.engine
        request = self.workload(stage)
        container: str = engine.call("run" if self.is_running else "create", request)["id"]
        source, copy = stage.path / "source", stage.path / "copy"
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
        (source / "deep").mkdir(parents=True)
        (source / "deep" / "file").write_bytes(CONTENT)
        inside = {"container": container, "path": "/made"}

        def there_and_back() -> None:
            engine.call("cp", {"path": f"{source}/."}, inside)
            engine.call("cp", {**inside, "path": "/made/."}, {"path": str(copy)})

        outcome = stage.victim(fault, there_and_back)
        stage.settle()
        there_and_back()
        stage.expect((copy / "deep" / "file").read_bytes() == CONTENT, "the copy differs")
        stage.expect(os.listdir(copy) == ["deep"], f"beside the copy is {os.listdir(copy)}")
        upper = Path(engine.places.container(container), "upper")
        stage.expect(not [name for name in os.listdir(upper) if name.startswith(".")], f"left: {os.listdir(upper)}")
        engine.call("start", container)
        stage.expect(self.execute(stage, container, "cmp", "/mnt/content", "/made/deep/file") == 0, "it differs inside")
        prove_running(stage, container, fault)
        return outcome


class Volumes(Operation):
    """volume create and rm: it is there or it is not, and it can be asked for again."""

    has_others = False

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.name = verb.replace("_", "-")

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        engine = stage.engine
        if self.verb == "volume_rm":
            engine.call("volume_create", "data")
            Path(engine.places.volumes, "data", "_data", "file").write_bytes(CONTENT)
            outcome = stage.victim(fault, lambda: engine.call("volume_rm", "data"))
            stage.settle()
            with contextlib.suppress(NotFound):
                engine.call("volume_rm", "data")
            engine.call("volume_create", "data")
            stage.expect(os.listdir(Path(engine.places.volumes, "data", "_data")) == [], "the old content came back")
        else:
            outcome = stage.victim(fault, lambda: engine.call("volume_create", "data"))
            stage.settle()
            with contextlib.suppress(AlreadyExists):
                engine.call("volume_create", "data")
        stage.expect([row["name"] for row in engine.call("volume_ls")] == ["data"], "there is not one volume")
        container = engine.call("run", stage.workload() | {"mounts": [*stage.workload()["mounts"], self.mount()]})["id"]
        prove_running(stage, container, NO_FAULT)
        engine.call("rm", list_ids(engine.places)[0])
        engine.call("volume_rm", "data")
        engine.call("gc")
        left = [name for name in os.listdir(engine.places.volumes) if not name.startswith(".lock")]
        stage.expect(left == [], f"of volumes is left: {left}")
        return outcome

    def mount(self) -> dict[str, str]:
        """Of the volume, in a container."""
        return {"type": "volume", "source": "data", "target": "/data"}


OPERATIONS: tuple[Operation, ...] = (
    *engine_operations.OPERATIONS,
    Committing(),
    Copying(is_running=True),
    Copying(is_running=False),
    Volumes("volume_create"),
    Volumes("volume_rm"),
)
