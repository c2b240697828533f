"""Images in the sweep: pulled from a registry on loopback, loaded from an archive, unpacked for a container.

Here what is written is a moment as well, and ends with ENOSPC or EIO.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corral.image.http import Patience
from corral.image.pull import Access
from corral.image.store import ImageStore
from sweep.engine_files import APPLETS
from sweep.engine_operations import Operation, Stage, prove_running
from sweep.engine_points import moment_faults
from sweep.engine_victim import NO_FAULT, Fault, Outcome
from unit.image.archives import oci_files, tar_of
from unit.image.fake_registry import FakeRegistry, MadeImage, layer_tar, make_image

# One after another: so that the moments of a run come in the order of the run before.
ACCESS = Access(is_verified=False, patience=Patience(tries=2, first_wait_s=0.001), parallel=1)


def busybox() -> bytes:
    """A layer in which the workload can run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(str(shutil.which("busybox")), "bin/busybox")
        for applet in APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
    return buffer.getvalue()


class Bringing(Operation):
    """pull and load: the image is there, whole, or it is not; asked again it is; what broke off goes with gc."""

    has_others = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.made = make_image(layer_tar({"a": bytes(range(256)) * 800}), layer_tar({"b": b"2"}))

    def points(self, stage: Stage) -> Iterator[Fault]:
        """The first run makes the directories, and is another."""
        self.play(stage, NO_FAULT)
        yield from moment_faults(self.play(stage, NO_FAULT).moments, ("engine",))

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        store = ImageStore(stage.engine.places.images)
        with FakeRegistry() as registry:
            bring, name = self.source(stage, store, registry)
            outcome = stage.victim(fault, bring, is_writing=True)
            stage.settle()
            self.prove_whole(stage, store, name, is_there=outcome.code == 0)
            stage.expect(bring() == self.made.id, "asked again it is another image")
        self.prove_whole(stage, store, name, is_there=True)
        prove_removable(stage, store)
        return outcome

    def source(self, stage: Stage, store: ImageStore, registry: FakeRegistry) -> tuple[Callable[[], str], str]:
        """What brings the image, and returns its id, and the name that it has then."""
        if self.name == "load":
            archive = stage.path / "archive.tar"
            archive.write_bytes(tar_of(oci_files(self.made)))
            return lambda: store.load(str(archive), name="app:1")[0].id, "app:1"
        registry.add("app", "1", self.made)
        name = f"{registry.host}/app:1"
        return lambda: store.pull(name, access=ACCESS).id, name

    def prove_whole(self, stage: Stage, store: ImageStore, name: str, *, is_there: bool) -> None:
        """Each blob is what its name says, each image can be read to its end, and the one of the name is there."""
        prove_sound(stage, store)
        named = [known for image in store.list() for known in image.names]
        stage.expect(not is_there or len(named) == 1, f"{name} was said to be there, and there are {named}")
        for image in store.list():
            stage.expect(image.id == self.made.id, f"it is {image.id}")


class Unpacking(Operation):
    """run of an image that no container had before: its layers are unpacked, whole, or not there."""

    name = "run-image"
    has_others = False

    def __init__(self) -> None:
        self.made: MadeImage | None = None

    def points(self, stage: Stage) -> Iterator[Fault]:
        """What the container's process does is another verb's."""
        self.play(stage, NO_FAULT)
        yield from moment_faults(self.play(stage, NO_FAULT).moments, ("engine",))

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        engine = stage.engine
        self.made = self.made or make_image(busybox(), layer_tar({"etc/b": b"2"}))
        archive = stage.path / "archive.tar"
        archive.write_bytes(tar_of(oci_files(self.made)))
        store = ImageStore(engine.places.images)
        store.load(str(archive), name="app:1")
        request: dict[str, Any] = stage.workload(root={"kind": "image", "image": "app:1"})
        outcome = stage.victim(fault, lambda: engine.call("run", request))
        stage.settle()
        container = stage.find_or_none()
        if container is None:
            stage.expect(outcome.code != 0, "it was said to run, and is not there")
            container = engine.call("run", request)["id"]
        engine.call("start", container)
        prove_running(stage, container, fault)
        engine.call("rm", container)
        prove_sound(stage, store)
        prove_removable(stage, store)
        return outcome


def prove_sound(stage: Stage, store: ImageStore) -> None:
    """Nothing in the store is half there."""
    stage.expect(store.problems() == [], f"problems: {store.problems()}")
    for digest, _size in store.blobs.entries():
        algorithm, _, number = digest.partition(":")
        content = Path(store.blobs.path(digest)).read_bytes()
        stage.expect(hashlib.new(algorithm, content).hexdigest() == number, f"{digest} is another content")
    for image in store.list():
        for layer in image.layers:
            with store.open_layer(layer) as stream:
                stream.verify()


def prove_removable(stage: Stage, store: ImageStore) -> None:
    """When the images are removed, gc leaves nothing but the list of them and locks."""
    for image in store.list():
        store.remove(image.id, force=True)
    stage.engine.call("gc")
    for folder in (store.path, stage.engine.places.layers):
        found = [os.path.join(top, name) for top, _, files in os.walk(folder) for name in files]
        kept = ("refs.json", "lock", ".lock")
        stage.expect([path for path in found if os.path.basename(path) not in kept] == [], f"left: {found}")


OPERATIONS: tuple[Operation, ...] = (Bringing("pull"), Bringing("load"), Unpacking())
