"""A process of its own that uses a store: it works beside others, and dies where it is told to.

``python actor.py crash N STORE REFERENCE`` pulls, and kills itself at the N-th call that changes the disk (0: never,
and prints how many there are). ``python actor.py busy SEED STORE HOST`` does a random sequence of everything, and
prints what is wrong, if something is.
"""

from __future__ import annotations

import os
import posix
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src"))

from corral.errors import FailedPrecondition, NotFound
from corral.image.http import Patience
from corral.image.pull import Access
from corral.image.store import ImageStore

ACCESS = Access(is_verified=False, patience=Patience(tries=4, first_wait_s=0.01), parallel=1)
CHANGING = ("write", "pwrite", "rename", "unlink", "fsync", "mkdir", "ftruncate", "fchmod")
ROUNDS = 25


class Counter:
    """Counts the calls that change the disk, and kills this process at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def step(self) -> None:
        """One more."""
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, module: Any, name: str) -> None:
        """Count the calls of one function; half of the deaths come before the call, half after it."""
        original: Callable[..., object] = getattr(module, name)

        def counted(*arguments: object, **options: object) -> object:
            self.step()
            result = original(*arguments, **options)
            self.step()
            return result

        setattr(module, name, counted)


def crash(at: int, store: str, reference: str) -> None:
    """Pull, and die at a step."""
    counter = Counter(at)
    for name in CHANGING:
        for module in (os, posix):
            counter.wrap(module, name)
    ImageStore(store).pull(reference, access=ACCESS)
    print(counter.count)


def check_leased(store: ImageStore, owner: str, name: str) -> None:
    """While a lease is held, the image is whole, whatever others do."""
    image = store.lease(owner, name)
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()
    store.by_id(image.id)
    store.release(owner)


def busy(seed: int, path: str, host: str) -> None:
    """A random sequence of pulls, removals, tags, leases and sweeps."""
    chance = random.Random(seed)
    store = ImageStore(path)
    for number in range(ROUNDS):
        name = f"{host}/app:{chance.randrange(4)}"
        verb = chance.choice(("pull", "pull", "lease", "remove", "tag", "gc", "prune"))
        try:
            if verb == "pull":
                store.pull(name, access=ACCESS, policy=chance.choice(("missing", "always")))
                check_leased(store, f"actor-{seed}", name)
            elif verb == "lease":
                check_leased(store, f"actor-{seed}", name)
            elif verb == "remove":
                store.remove(name, force=chance.random() < 0.3)
            elif verb == "tag":
                store.tag(name, f"extra:{seed}-{number}")
            elif verb == "gc":
                store.gc()
            else:
                store.prune(everything=True)
        except (NotFound, FailedPrecondition) as exc:
            # Another one removed the image between two calls, or uses it: that is as it should be. A blob that is
            # missing from an image that is there is not.
            if "blob" in str(exc):
                print(f"{verb} {name}: {exc}")


if __name__ == "__main__":
    mode, number, store_path, target = sys.argv[1:]
    (crash if mode == "crash" else busy)(int(number), store_path, target)
