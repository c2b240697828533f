"""``cp``: files between a container and this host, or a tar stream; running or not.

Where things go is decided as `docker cp` does: a directory's content if the source ends in ``/.``; into the target if
that is a directory, else under its name. Source: docker-cp(1) "Extended description"; podman-cp(1).
"""

from __future__ import annotations

import os
import posixpath
import threading
from typing import TYPE_CHECKING, Any

from corral.engine.access import mounted_inside, open_container, open_host
from corral.engine.places import is_rootless
from corral.errors import CorralError, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from corral.engine.access import Tree
    from corral.engine.places import Places

__all__ = ["copy_between", "copy_from_tar", "copy_to_tar", "describe_path", "export_root", "pipe"]


class _End:
    """One end of a copy: a path of a container, or ("" as the id) of this host."""

    __slots__ = ("container_id", "path", "shown")

    def __init__(self, container_id: str, path: str) -> None:
        self.container_id = container_id
        self.shown = path
        if container_id:
            self.path = "/" + path.lstrip("/")
        else:
            self.path = os.path.join(os.getcwd(), path)

    def open(self, places: Places) -> tuple[Tree, str]:
        return open_container(places, self.container_id, self.path) if self.container_id else (open_host(), self.path)

    @property
    def is_content(self) -> bool:
        """Whether only what is in the directory is meant."""
        return self.path.endswith("/.") or self.path == "/"

    @property
    def wants_directory(self) -> bool:
        return self.path.endswith(("/", "/."))


def copy_between(
    places: Places,
    source: tuple[str, str],
    target: tuple[str, str],
    *,
    is_followed: bool = False,
    is_archive: bool = False,
) -> None:
    """Copy ``source`` to ``target``, each (container id, path), "" being this host.

    ``is_followed``: a link as the source means what it points to. ``is_archive``: owners are kept; else what is new
    belongs to root in a container, and to the caller on the host.
    Raises: NotFound, FailedPrecondition, InvalidArgument.
    """
    begin, end = _End(*source), _End(*target)
    from_tree, from_path = begin.open(places)
    with from_tree:
        what = from_tree.look(from_path, is_followed=is_followed or begin.wants_directory)
        if what is None:
            raise NotFound(f"copy {begin.shown}: no such file or directory", path=begin.shown)
        if begin.wants_directory and what["kind"] != "directory":
            raise FailedPrecondition(f"copy {begin.shown}: it is no directory")
        to_tree, to_path = end.open(places)
        with to_tree:
            at, name = _place(to_tree, to_path, end, what["kind"], begin)
            owner = _owner(end, is_archive=is_archive)
            wanted = {"path": what["path"], "name": name}
            pipe(from_tree, wanted, to_tree, {"at": at, "owner": owner, "is_host": not end.container_id})


def _owner(end: _End, *, is_archive: bool) -> list[int] | None:
    """Whose the new files are, root being the caller on the host; None: the archive says it. Only root gives away."""
    return None if is_archive and (end.container_id or not is_rootless()) else [0, 0]


def _place(tree: Tree, path: str, end: _End, kind: str, begin: _End) -> tuple[str, str]:
    """The directory to unpack into, and what the source is called there ("" = only its content)."""
    base = posixpath.basename(posixpath.normpath(begin.path)) or "root"
    there = tree.look(path)
    if there is not None and there["kind"] == "directory":
        return there["path"], "" if kind == "directory" and begin.is_content else base
    if there is not None:
        if kind == "directory":
            raise FailedPrecondition(f"copy {begin.shown} to {end.shown}: a directory cannot replace a file")
        if end.wants_directory:
            raise FailedPrecondition(f"copy to {end.shown}: it is no directory")
        return posixpath.split(there["path"])
    if end.wants_directory and kind != "directory":
        raise NotFound(f"copy to {end.shown}: no such directory", hint="make it first, or leave the slash out")
    above, name = posixpath.split(posixpath.normpath(path))
    parent = tree.look(above)
    if parent is None or parent["kind"] != "directory":
        raise NotFound(f"copy to {end.shown}: its directory does not exist")
    return parent["path"], name


def pipe(source: Tree, wanted: dict[str, Any], target: Tree, request: dict[str, Any]) -> None:
    """Pack ``wanted`` of one tree and unpack it in another at the same time; see ``copytree`` for both requests.

    What packing says counts first, unless it only saw that unpacking had given up. Raises: CorralError.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    trouble: list[BaseException] = []

    def pack() -> None:
        try:
            source.take(wanted, write)
        except BaseException as exc:
            trouble.append(exc)
        finally:
            os.close(write)

    thread = threading.Thread(target=pack, name="corral-pack")
    thread.start()
    failed: CorralError | None = None
    try:
        target.put(request, read)
        # What pads the end of an archive must not become a broken pipe.
        while os.read(read, 65536):
            pass
    except CorralError as exc:
        failed = exc
    finally:
        os.close(read)
        thread.join()
    real = [exc for exc in trouble if not isinstance(exc, BrokenPipeError)]
    if real:
        raise real[0]
    if failed is not None:
        raise failed


def copy_from_tar(places: Places, source_fd: int, container_id: str, path: str, *, is_archive: bool = True) -> None:
    """Unpack the tar stream of ``source_fd`` (borrowed) into a directory of the container. Raises: as copy_between."""
    end = _End(container_id, path)
    tree, inner = end.open(places)
    with tree:
        there = tree.look(inner)
        if there is None:
            raise NotFound(f"copy to {path}: no such directory", path=path)
        if there["kind"] != "directory":
            raise FailedPrecondition(f"copy to {path}: an archive is unpacked into a directory")
        tree.put({"at": there["path"], "owner": None if is_archive else [0, 0]}, source_fd)


def copy_to_tar(places: Places, container_id: str, path: str, target_fd: int, *, is_followed: bool = False) -> None:
    """Write ``path`` of the container as a tar stream to ``target_fd`` (borrowed). Raises: as copy_between."""
    begin = _End(container_id, path)
    tree, inner = begin.open(places)
    with tree:
        what = tree.look(inner, is_followed=is_followed or begin.wants_directory)
        if what is None:
            raise NotFound(f"copy {path}: no such file or directory", path=path)
        name = posixpath.basename(posixpath.normpath(begin.path)) or "root"
        is_content = what["kind"] == "directory" and begin.is_content
        tree.take({"path": what["path"], "name": "" if is_content else name}, target_fd)


def export_root(places: Places, container_id: str, target_fd: int) -> None:
    """Write the container's root as a tar stream to ``target_fd`` (borrowed), without what is mounted in it.

    Raises: NotFound, FailedPrecondition.
    """
    tree, inner = open_container(places, container_id, "/")
    with tree:
        # After the tree is held: it is the root of the process that has these mounts.
        bare = mounted_inside(places, container_id)
        tree.take({"path": inner, "name": "", "bare": bare}, target_fd)


def describe_path(places: Places, container_id: str, path: str) -> dict[str, Any]:
    """What is at a path of a container; see ``copytree.look``. Raises: NotFound, InvalidArgument."""
    if not path:
        raise InvalidArgument("look at a path of the container: it is empty")
    tree, inner = open_container(places, container_id, "/" + path.lstrip("/"))
    with tree:
        found = tree.look(inner, is_followed=False)
    if found is None:
        raise NotFound(f"look at {path}: no such file or directory", path=path)
    return found
