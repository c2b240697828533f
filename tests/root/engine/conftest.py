"""A store of its own for each test, whose containers are the host's root under an overlay, and what to do with it."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.engine import exits, journal, names, status
from corral.engine.keeper import Keeper, has_keeper
from corral.engine.places import Places
from corral.engine.verbs import find
from corral.errors import CorralError, FailedPrecondition, Unavailable
from leaks import marked_processes

DEADLINE_S = 60.0


class Engine:
    """The verbs over one store: ``engine.call("start", id)``; ``engine.run("sleep", "100")``."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def call(self, verb: str, *arguments: Any, **options: Any) -> Any:
        return find(verb)(self.places, *arguments, **options)

    def request(self, *command: str, **members: Any) -> dict[str, Any]:
        """A definition of a container that runs ``command`` on the host's root."""
        return {
            "root": {"kind": "host"},
            "process": {"command": list(command), **members.pop("process", {})},
            "network": {"mode": "none"},
            **members,
        }

    def create(self, *command: str, **members: Any) -> str:
        made: dict[str, Any] = self.call("create", self.request(*command, **members))
        return str(made["id"])

    def run(self, *command: str, **members: Any) -> str:
        """Start a container and return its id."""
        made: dict[str, Any] = self.call("run", self.request(*command, **members))
        return str(made["id"])

    def wait(self, reference: str) -> dict[str, Any]:
        """How it ended."""
        ended: dict[str, Any] = self.call("wait", reference, timeout_s=DEADLINE_S)["exit"]
        return ended

    def look(self, container_id: str) -> status.Facts:
        return status.look(self.places, container_id)

    def output(self, reference: str) -> list[bytes]:
        return [entry.data for entry in self.call("logs", reference)]

    def events(self, container_id: str = "") -> list[str]:
        return [e["action"] for e in journal.read(self.places) if not container_id or e.get("id") == container_id]

    def pid(self, container_id: str) -> int:
        return self.look(container_id).pid

    def groups(self, container_id: str) -> list[Path]:
        """The container's cgroup directories."""
        record = exits.runtime_record_or_none(self.places, container_id)
        assert record is not None
        return [Path(item["mount_point"] + item["path"]) for item in record.state["cgroups"]]

    def close(self) -> None:
        """End and remove everything, the keeper last."""
        for container_id in names.list_ids(self.places):
            with contextlib.suppress(CorralError):
                self.call("rm", container_id, force=True)
        eventually(self.is_quiet)

    def is_quiet(self) -> bool:
        """Have the keeper end, which it does when nothing runs; whether it has."""
        if not has_keeper(self.places):
            return True
        try:
            with Keeper.open(self.places) as keeper:
                keeper.shut_down()
        except (FailedPrecondition, Unavailable):
            return not has_keeper(self.places)
        return not has_keeper(self.places)


def eventually(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Return when the condition holds; fail when it does not within the time."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


@pytest.fixture
def engine(tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with a store, a keeper and a cgroup parent of its own; all of it gone afterwards."""
    monkeypatch.setenv("CORRAL_CGROUP_PARENT", f"/{mark}")
    places = Places(str(tmp_path / "store"))
    places.prepare()
    made = Engine(places)
    yield made
    made.close()
    # A keeper that has let go of its socket may still be on its way out. One that stays is a leak, and found as such.
    with contextlib.suppress(AssertionError):
        eventually(lambda: not any(marked_processes(mark)), 30.0)
    remove_groups(mark)


def remove_groups(mark: str) -> None:
    """Remove the engine's own groups below the test's parent; a container's that is left is left, and is a leak."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            parent = Path(left.split(" ", 5)[4]) / mark
            for path in (parent / "holder", parent):
                # The keeper that was just ended may still be on its way out.
                eventually(functools.partial(_is_removed, path), 10.0)


def _is_removed(path: Path) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as exc:
        return exc.errno == errno.ENOTEMPTY
    return True
