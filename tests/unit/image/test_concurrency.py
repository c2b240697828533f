"""Several processes on one store, and processes that die in the middle."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.image.pull import Access
from corral.image.store import ImageStore
from unit.image.fake_registry import Answer, FakeRegistry, MadeImage, digest_of, layer_tar, make_image

ACTOR = Path(__file__).with_name("actor.py")
SHARED = layer_tar({"shared": os.urandom(200_000)})
SAMPLE = 12


def command(mode: str, number: int, store: ImageStore, target: str) -> list[str]:
    """An actor's command line."""
    return [sys.executable, str(ACTOR), mode, str(number), store.path, target]


def assert_whole(store: ImageStore, name: str, made: MadeImage) -> None:
    """The image is complete, and the store has nothing that belongs to no image."""
    image = store.resolve(name)
    assert image.id == made.id
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()
    store.gc()
    assert {digest for digest, _size in store.blobs.entries()} == {*made.blobs(), image.digest}
    assert [*os.listdir(f"{store.path}/ingest"), *os.listdir(f"{store.path}/work")] == []


@pytest.mark.timeout(900)
def test_pull_goes_on_after_a_kill_at_any_step(
    registry: FakeRegistry, access: Access, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL at each call that changes the disk: the next pull makes the image whole, and nothing is left.

    A seeded sample, all of them with CORRAL_SWEEP=all.
    """
    made = make_image(SHARED, layer_tar({"b": b"2"}), compress=bytes)
    registry.add("app", "1", made)
    name = f"{registry.host}/app:1"
    first = ImageStore(str(tmp_path / "count"))
    result = subprocess.run(command("crash", 0, first, name), capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
    steps = list(range(1, int(result.stdout) + 1))
    assert len(steps) > 40
    record_property("crash_points", len(steps))
    if os.environ.get("CORRAL_SWEEP") != "all":
        steps = sorted(random.Random(7).sample(steps, SAMPLE))
    for step in steps:
        store = ImageStore(str(tmp_path / f"step{step}"))
        result = subprocess.run(command("crash", step, store, name), capture_output=True, text=True, timeout=120)
        assert (step, result.returncode) == (step, -9), result.stderr
        assert store.problems() == []
        store.pull(name, access=access)
        assert_whole(store, name, made)


def test_second_process_takes_over_from_one_that_was_killed(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """While one process fetches, another waits; when the first is killed, the other goes on from its bytes."""
    made = make_image(layer_tar({"big": os.urandom(2 << 20)}), compress=bytes)
    registry.add("app", "1", made)
    data, path = made.layers[0], f"/v2/app/blobs/{digest_of(made.layers[0])}"
    # The first half, and then nothing for as long as the connection lives: the answer promises more than comes.
    registry.faults["GET", path] = [Answer(body=data[: 1 << 20], length=len(data))]
    registry.hangs_after_short_answers = True
    process = subprocess.Popen(command("crash", 0, store, f"{registry.host}/app:1"), stdout=subprocess.DEVNULL)
    try:
        seen: list[int] = []

        def on_progress(progress: object) -> None:
            if getattr(progress, "state", "") == "elsewhere":
                seen.append(getattr(progress, "done_bytes", 0))
                if seen[-1] >= 1 << 20:
                    process.kill()

        registry.wait_for("GET", path)
        image = store.pull(f"{registry.host}/app:1", access=access, on_progress=on_progress)
    finally:
        process.kill()
        process.wait()
    assert image.id == made.id
    assert seen
    assert [item.headers.get("Range", "") for item in registry.requests("GET", path)] == ["", f"bytes={1 << 20}-"]


@pytest.mark.timeout(400)
def test_nothing_in_use_is_lost_among_many_processes(store: ImageStore, registry: FakeRegistry) -> None:
    """Processes that pull, lease, tag, remove, prune and sweep at once: an image under a lease is always whole."""
    for number in range(4):
        registry.add("app", str(number), make_image(SHARED, layer_tar({"own": b"%d" % number}), compress=bytes))
    processes = [
        subprocess.Popen(command("busy", seed, store, registry.host), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for seed in range(4)
    ]
    said = [process.communicate(timeout=300)[0].decode() for process in processes]
    assert said == ["", "", "", ""]
    assert store.problems() == []
    for lease in store.leases():
        store.release(lease.owner)
    store.prune(everything=True)
    store.gc()
    assert list(store.blobs.entries()) == []
