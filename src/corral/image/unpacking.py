"""Makes the layers that a ``LayerStore`` lacks: several at once, each verified before it gets its name."""

from __future__ import annotations

import os
import queue
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from corral.image.layers import apply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.image.layer_stream import LayerStream
    from corral.image.layers import Applied, Marks
    from corral.image.snapshots import Check, LayerStore, OnDone, Open, Unpack, Wanted

__all__ = ["ReadAhead", "Unpacking", "unpack_stream"]

_PIECE = 1 << 20
_PIECES = 8
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PARALLEL = 3


class ReadAhead:
    """Reads, decodes and hashes in a thread of its own while its reader writes files. Use as a ``with`` block."""

    def __init__(self, stream: LayerStream) -> None:
        self._stream = stream
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_PIECES)
        self._stop = threading.Event()
        self._data = b""
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="corral-read", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._pieces.get(timeout=0.05)
            except queue.Empty:
                pass
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                piece = self._stream.read(_PIECE)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as exc:
            self._pieces.put(exc)

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if not self._data and not self._is_over:
            piece = self._pieces.get()
            if isinstance(piece, BaseException):
                self._is_over = True
                raise piece
            self._data = piece
            self._is_over = not piece
        data, self._data = self._data[:size], self._data[size:]
        return data

    def drain(self) -> None:
        """Read what follows the archive's end, which is part of what the digests cover."""
        while self.read(_PIECE):
            pass


def unpack_stream(stream: LayerStream, folder_fd: int, *, marks: Marks, check: Check | None = None) -> Applied:
    """Unpack a layer into the directory ``folder_fd``, and verify its digests. Closes ``stream``."""
    with stream:
        with ReadAhead(stream) as ahead:
            applied = apply(ahead, folder_fd, marks=marks, check=check)
            ahead.drain()
        stream.verify()
    return applied


class Unpacking:
    """One image's layers being made; see ``LayerStore.ensure`` for the parameters."""

    def __init__(
        self,
        store: LayerStore,
        open_stream: Open,
        *,
        on_done: OnDone | None,
        check: Check | None,
        unpack: Unpack | None,
    ) -> None:
        self._store = store
        self._open = open_stream
        self._on_done = on_done
        self._check = check
        self._unpack = unpack or self._unpack_here
        self._is_failed = threading.Event()
        self._done: list[threading.Event] = []

    def run(self, layers: Sequence[Wanted]) -> None:
        """Make what is missing. After the first error the others end soon; it is raised."""
        self._done = [threading.Event() for _ in layers]
        # The lower ones first: a layer may have to look at those below it before it is complete.
        with ThreadPoolExecutor(min(PARALLEL, len(layers)) or 1, thread_name_prefix="corral-unpack") as pool:
            futures = [pool.submit(self._make, layers, index) for index in range(len(layers))]
        errors = [error for future in futures if (error := future.exception()) is not None]
        raised = [error for error in errors if not isinstance(error, _Ended)]
        if errors:
            raise raised[0] if raised else errors[0]

    def _look(self) -> None:
        if self._is_failed.is_set():
            raise _Ended
        if self._check is not None:
            self._check()

    def _make(self, layers: Sequence[Wanted], index: int) -> None:
        try:
            self._look()
            self._make_one(layers, index)
        except BaseException:
            self._is_failed.set()
            raise
        finally:
            self._done[index].set()

    def _make_one(self, layers: Sequence[Wanted], index: int) -> None:
        layer = layers[index]
        fd = self._store.reserve(layer.chain_id, self._look)
        if fd is not None:
            try:
                applied = self._unpack(layer, fd)
                if applied.implied:
                    for earlier in self._done[:index]:
                        earlier.wait()
                    self._look()
                    below = [self._store.get(lower.chain_id).path for lower in reversed(layers[:index])]
                    _dress_implied(fd, applied.implied, [f"{path}/diff" for path in below])
                self._store.commit(fd, layer, applied)
            finally:
                os.close(fd)
        if self._on_done is not None:
            self._on_done(layer.chain_id)

    def _unpack_here(self, layer: Wanted, fd: int) -> Applied:
        os.mkdir("diff", 0o755, dir_fd=fd)
        folder = os.open("diff", _DIR_FLAGS, dir_fd=fd)
        try:
            os.fchmod(folder, 0o755)
            return unpack_stream(self._open(layer), folder, marks=self._store.marks, check=self._look)
        finally:
            os.close(folder)


class _Ended(Exception):
    """Another layer could not be made."""


def _dress_implied(fd: int, implied: list[bytes], below: list[str]) -> None:
    """Directories that a layer only passes through look as they do in the layers below (/tmp stays 1777)."""
    for path in implied:
        target = os.open(b"diff/" + path, _DIR_FLAGS, dir_fd=fd)
        try:
            if (status := _find_below(path, below)) is not None:
                os.fchown(target, status.st_uid, status.st_gid)
                os.fchmod(target, stat.S_IMODE(status.st_mode))
                os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(target)


def _find_below(path: bytes, below: list[str]) -> os.stat_result | None:
    for folder in below:
        try:
            status = _stat_plainly(os.fsencode(folder), path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return status if stat.S_ISDIR(status.st_mode) else None
    return None


def _stat_plainly(folder: bytes, path: bytes) -> os.stat_result:
    """What ``path`` is in ``folder``, without following a link on the way."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.split(b"/"):
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.fstat(fd)
    finally:
        os.close(fd)
