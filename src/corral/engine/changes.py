"""What a container changed in its root: ``diff``, and ``commit``, which makes an image of it. Running or not.

Read from the writable directory; nothing is mounted. Rootless, where its files belong to other ids, by a process in the
user's own namespace.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from corral.engine.access import targets_of
from corral.engine.hostroot import host_parts
from corral.engine.idmaps import own_maps
from corral.engine.places import is_rootless
from corral.engine.rootfs import id_maps, reach_layers
from corral.engine.within import call
from corral.errors import FailedPrecondition
from corral.image.changes import changes_reader, list_changes, open_layer, places_in_the_way
from corral.image.ingest import FdReader
from corral.image.tarwrite import Ids
from corral.linux.closing import Closing
from corral.runtime.within import Within

if TYPE_CHECKING:
    from corral.engine.places import Places
    from corral.image.ingest import Readable

__all__ = ["Changes"]


class Changes(Closing):
    """The changes of one container. Close it: it holds its layers open. Raises: FailedPrecondition without an upper."""

    def __init__(self, places: Places, definition: dict[str, Any]) -> None:
        if definition["root"].get("is_direct"):
            raise FailedPrecondition(
                f"compare container {definition.get('name', definition['id'])!r}: it works on its root directly",
                hint="without :O or --rootfs there are layers to compare with",
            )
        self._targets = targets_of(definition)
        self._ids = Ids(*id_maps(definition, places))
        self._thread: threading.Thread | None = None
        self._trouble: list[BaseException] = []
        self._read = -1
        container = places.container(definition["id"])
        # Where the changes are shown, and descriptors of the writable directory and of what is below it.
        self._stacks: list[tuple[str, list[int]]] = []
        if not os.path.isdir(f"{container}/upper"):
            return  # never started: nothing was written
        if definition["root"]["kind"] == "host" and is_rootless():
            skeleton, parts = host_parts(container)
            self._open("", container, [skeleton])
            for part in parts:
                self._open(part.target, part.writable, [part.lower])
        else:
            self._open("", container, reach_layers(places, definition))

    def _open(self, shown: str, writable: str, layers: list[str]) -> None:
        fds: list[int] = []
        self._stacks.append((shown, fds))
        fds += [open_layer(path) for path in (f"{writable}/upper", *layers)]

    def close(self) -> None:
        """Idempotent."""
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        while self._stacks:
            for fd in self._stacks.pop()[1]:
                os.close(fd)

    def entries(self) -> list[dict[str, str]]:
        """``kind`` (A, C, D) and ``path`` of each change, by path."""
        found: dict[str, str] = {}
        for (shown, _), changes in zip(self._stacks, self._list(), strict=True):
            # As in a stack of one piece, a directory is changed with what is in it.
            above = shown if changes else ""
            while above:
                found.setdefault(above, "C")
                above = above.rpartition("/")[0]
            found.update((shown + path, kind) for kind, path in changes)
        return [{"kind": kind, "path": path} for path, kind in sorted(found.items())]

    def _list(self) -> list[list[tuple[str, str]]]:
        """The changes of each stack."""
        wanted = [(fds, [target.removeprefix(shown) for target in self._targets]) for shown, fds in self._stacks]
        if wanted and is_rootless():
            stacks = [{"fds": len(fds), "targets": targets} for fds, targets in wanted]
            found: list[list[tuple[str, str]]] = call(
                self._where(), "list_changes", {"stacks": stacks}, fds=[fd for fds, _ in wanted for fd in fds]
            )
            return found
        return [
            [
                (change.kind, os.fsdecode(change.path))
                for change in list_changes(fds[0], fds[1:], ids=self._ids, places=places_in_the_way(targets))
            ]
            for fds, targets in wanted
        ]

    def layer(self) -> Readable | None:
        """The changes as a layer, a tar stream; None without any. Read it to its end, then ``check``."""
        if not self.entries():
            return None
        fds = self._stacks[0][1]
        if not is_rootless():
            return changes_reader(fds[0], fds[1:], ids=self._ids, places=places_in_the_way(self._targets))
        self._read, write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._write, args=(write,), name="corral-changes")
        self._thread.start()
        return FdReader(self._read)

    def check(self) -> None:
        """Raise what kept ``layer`` from being complete."""
        if self._thread is not None:
            self._thread.join()
        if self._trouble:
            raise self._trouble[0]

    def _write(self, fd: int) -> None:
        try:
            call(self._where(), "write_changes", {"targets": self._targets}, fds=[fd, *self._stacks[0][1]])
        except BaseException as exc:
            self._trouble.append(exc)
        finally:
            os.close(fd)

    def _where(self) -> Within:
        return Within(*own_maps())
