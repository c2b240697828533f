"""What runs in a process of ``corral-within``: functions on files, by name, with JSON in and out.

Each takes its request and the descriptors that came along. Nothing here trusts the tree that it works on, and nothing
needs more of the host than descriptors and paths that the caller named.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from corral.errors import CorralError
from corral.oci.json import dumps, loads
from corral.runtime.border import to_corral_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FUNCTIONS", "main"]

Request = dict[str, Any]
_REQUEST_FD, _ANSWER_FD, _FIRST_FD = 3, 4, 5


def _unpack(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Unpack a layer's blob (fds[0]) into a directory (fds[1]) and verify it."""
    from corral.image.layer_stream import LayerStream
    from corral.image.unpacking import unpack_stream

    stream = LayerStream(os.dup(fds[0]), request["digest"], request["diff_id"])
    applied = unpack_stream(stream, fds[1], marks=request["marks"])
    return {
        "entries": applied.entries,
        "size_bytes": applied.size_bytes,
        "skipped_devices": applied.skipped_devices,
        "implied": [os.fsdecode(path) for path in applied.implied],
        "is_opaque": applied.is_opaque,
    }


def _remove(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Remove what is in a directory (fds[0])."""
    from corral.engine.files import empty_tree

    # What stays is found by who asked, who removes the directory itself.
    empty_tree(fds[0], ".")
    return None


def _chown(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Give a tree (fds[0]) to ``uid`` and ``gid``; links are given themselves."""
    uid, gid = request["uid"], request["gid"]
    os.fchown(fds[0], uid, gid)
    for _folder, names, files, folder_fd in os.fwalk(".", dir_fd=fds[0]):
        for name in (*names, *files):
            os.chown(name, uid, gid, dir_fd=folder_fd, follow_symlinks=False)
    return None


def _own(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Give one directory (fds[0]) to ``uid`` and ``gid``, with ``mode``."""
    os.fchown(fds[0], request["uid"], request["gid"])
    os.fchmod(fds[0], request["mode"])
    return None


def _list_changes(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """The changes of stacks, a list for each: of so many descriptors in turn an upper directory and its layers."""
    from corral.image.changes import list_changes, places_in_the_way

    found, at = [], 0
    for stack in request["stacks"]:
        own, at = fds[at : at + stack["fds"]], at + stack["fds"]
        changes = list_changes(own[0], own[1:], places=places_in_the_way(stack["targets"]))
        found.append([[change.kind, os.fsdecode(change.path)] for change in changes])
    return found


def _write_changes(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """The same as a layer, to a pipe (fds[0]); then the upper directory and the layers."""
    from corral.image.changes import changes_reader, places_in_the_way

    reader = changes_reader(fds[1], fds[2:], places=places_in_the_way(request["targets"]))
    while piece := reader.read(1 << 20):
        _write(fds[0], piece)
    return None


def _copy_in(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Unpack an archive (fds[0]) into the tree at ``root``; see ``copy.put``."""
    from corral.engine.copytree import open_root, put
    from corral.image.ingest import FdReader

    root = open_root(request["root"])
    try:
        put(root, request, FdReader(fds[0]))
    finally:
        os.close(root)
    return None


def _copy_out(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """Write an archive of a path of the tree at ``root`` to a pipe (fds[0]); see ``copy.take``."""
    from corral.engine.copytree import open_root, take

    root = open_root(request["root"])
    try:
        for piece in take(root, request):
            _write(fds[0], piece)
    finally:
        os.close(root)
    return None


def _look(request: Request, fds: list[int]) -> Any:  # noqa: ANN401 -- JSON
    """What a path of the tree at ``root`` is; None for nothing."""
    from corral.engine.copytree import look, open_root

    root = open_root(request["root"])
    try:
        return look(root, request["path"], is_followed=request["is_followed"])
    finally:
        os.close(root)


FUNCTIONS: dict[str, Callable[[Request, list[int]], Any]] = {
    "unpack": _unpack,
    "remove": _remove,
    "chown": _chown,
    "own": _own,
    "list_changes": _list_changes,
    "write_changes": _write_changes,
    "copy_in": _copy_in,
    "copy_out": _copy_out,
    "look": _look,
}


# What each does, in errors that the kernel gives no better words for.
_OPERATIONS = {
    "unpack": "unpack a layer",
    "remove": "remove files",
    "chown": "change owners",
    "own": "change an owner",
    "list_changes": "compare the layers",
    "write_changes": "write the changes",
    "copy_in": "unpack the archive",
    "copy_out": "write the archive",
    "look": "look at a path",
}


def _write(fd: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def main() -> None:
    """Answer the request of descriptor 3 on descriptor 4."""
    size = os.fstat(_REQUEST_FD).st_size
    asked: Any = loads(os.pread(_REQUEST_FD, size, 0), "request")
    fds = list(range(_FIRST_FD, _FIRST_FD + asked["fds"]))
    answer: dict[str, Any]
    try:
        answer = {"result": FUNCTIONS[asked["function"]](asked["request"], fds)}
    except Exception as exc:
        # The border of this process: whatever it is, the caller gets it in words.
        error = exc if isinstance(exc, CorralError) else to_corral_error(exc, _OPERATIONS[asked["function"]])
        answer = {
            "error": {
                "kind": error.kind,
                "message": error.message,
                "hint": error.hint,
                "path": error.path,
                "errno": error.errno,
            }
        }
    _write(_ANSWER_FD, dumps(answer).encode("utf-8", "surrogateescape"))
    os._exit(0)
