"""A container's record on disk: how it is written, complete or not at all, and read back.

The record is the reservation of the name, the ledger of what the container owns, and all that later commands need.
Layout and life: docs/design/plan.md "The record".
"""

from __future__ import annotations

import errno
import fcntl
import posix

from corral.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unsupported
from corral.linux import paths
from corral.linux.procfs import read_boot_id, read_stat_or_none
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
J_COMMIT = 7
J_DELETING = 10
_JOURNAL_ENTRY = 16
_ROOM = 1 << 16

# How rename(2) says that the name has a record already.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

CREATING, CREATED, RUNNING, PAUSED, STOPPED, STALE = "creating", "created", "running", "paused", "stopped", "stale"


class Reservation:
    """A record that was just written: ``directory_fd`` and the locked ``lock_fd`` are owned by the holder."""

    __slots__ = ("directory_fd", "lock_fd", "path")

    def __init__(self, path: str, directory_fd: int, lock_fd: int) -> None:
        self.path = path
        self.directory_fd = directory_fd
        self.lock_fd = lock_fd

    def close(self) -> None:
        """Give the descriptors up; the lock stays with whoever got a copy."""
        posix.close(self.directory_fd)
        posix.close(self.lock_fd)

    def withdraw(self) -> None:
        """Free the name: nobody has acted on the record yet. The lock is still held, so nobody takes it for stale."""
        root, _, name = self.path.rpartition("/")
        dead = f"{root}/.dead-{name[:200]}-{posix.urandom(6).hex()}"
        posix.rename(self.path, dead)
        remove_tree(dead)


def reserve(root: str, container_id: str, files: dict[str, bytes]) -> Reservation:
    """Write the record ``ROOT/ID`` with ``files``, ``journal`` and a held ``owner.lock``, under its name at once.

    Raises: AlreadyExists if the name is taken (a stale record must be undone first:
    ``find_stale``), PermissionDenied if the root is another user's, OSError.
    """
    fresh = f"{root}/.new-{container_id[:200]}-{posix.urandom(6).hex()}"
    final = f"{root}/{container_id}"
    try:
        paths.make_directories(root, 0o711)
        posix.mkdir(fresh, 0o700)
    except PermissionError as exc:
        raise root_denied(root) from exc
    held: list[int] = []
    try:
        directory = posix.open(fresh, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        held.append(directory)
        for name, content in files.items():
            _write_new(directory, name, content)
        _write_new(directory, "journal", b"")
        lock = posix.open(
            "owner.lock", posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=directory
        )
        held.append(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # rename(2) replaces an empty directory, and a record is never empty.
        posix.rename(fresh, final)
    except BaseException as exc:
        for fd in held:
            posix.close(fd)
        remove_tree(fresh)
        if not isinstance(exc, OSError):
            raise
        if exc.errno not in _TAKEN:
            raise OSError(exc.errno, exc.strerror, final) from exc
        raise AlreadyExists(
            f"create container {container_id!r}: container with given ID already exists",
            hint=f"choose another id, or remove it: corral-runtime delete {container_id}",
            path=final,
        ) from exc
    return Reservation(final, directory, lock)


def _write_new(directory: int, name: str, content: bytes) -> None:
    fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        while content:
            content = content[posix.write(fd, content) :]
    finally:
        posix.close(fd)


def replace_file(directory: str, name: str, content: bytes) -> None:
    """Replace a file of a record by tmp and rename."""
    fresh = f"{directory}/.{name}-{posix.urandom(6).hex()}"
    fd = posix.open(fresh, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
    try:
        posix.write(fd, content)
    finally:
        posix.close(fd)
    posix.rename(fresh, f"{directory}/{name}")


def remove_tree(path: str) -> None:
    """Remove a directory of plain files and directories of ours; what is gone already does not matter."""
    try:
        with posix.scandir(path) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:
        return
    for child, is_directory in found:
        if is_directory:
            remove_tree(child)
        else:
            posix.unlink(child)
    posix.rmdir(path)


def is_locked(path: str) -> bool | None:
    """Whether somebody holds the lock of this file; None if there is no such file.

    Asked with a shared lock, so that two who ask at once do not take each other for the holder.
    """
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        posix.close(fd)


def is_stale(path: str) -> bool:
    """Whether the record's maker died before it was complete: not committed, and nobody holds its lock."""
    return is_locked(f"{path}/owner.lock") is False and not journal_has(path, J_COMMIT)


def journal_has(path: str, kind: int) -> bool:
    """Whether the record's journal has an entry of this kind. Raises: FileNotFoundError."""
    journal = _read(f"{path}/journal")
    whole = len(journal) - len(journal) % _JOURNAL_ENTRY
    # The low bytes of all kinds at once: a look at many containers comes through here for each.
    if kind & 0xFF not in journal[:whole:_JOURNAL_ENTRY]:
        return False
    starts = range(0, whole, _JOURNAL_ENTRY)
    return any(int.from_bytes(journal[at : at + 2], "little") == kind for at in starts)


def _read(path: str) -> bytes:
    """The content of a file: without the layers of ``open``, which cost more than the reading. Raises: OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = chunk = posix.read(fd, _ROOM)
        while len(chunk) == _ROOM:
            chunk = posix.read(fd, _ROOM)
            data += chunk
        return data
    finally:
        posix.close(fd)


class Record:
    """A container as its record tells it. ``state`` is state.json, ``pid`` 0 unless the first process lives."""

    __slots__ = ("container_id", "path", "pid", "start_time", "state", "status")

    def __init__(self, root: str, container_id: str) -> None:
        self.container_id = container_id
        self.path = f"{root}/{container_id}"
        self._check_owner()
        self.state = self._read_state()
        try:
            # Before ``live``, which is there before the commit: one that is complete by now is seen alive.
            is_committed = journal_has(self.path, J_COMMIT)
            self.pid, self.start_time = self._read_live()
            self.status = self._read_status(is_committed=is_committed)
        except FileNotFoundError as exc:
            raise self._not_found() from exc  # deleted while we looked

    def _not_found(self) -> NotFound:
        return NotFound(
            f"container {self.container_id!r}: container does not exist",
            hint="`corral-runtime list` shows all of this state root; --root chooses another",
        )

    def _check_owner(self) -> None:
        """What it says is done with our rights, so nobody else may have written it."""
        try:
            info = posix.stat(self.path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise self._not_found() from exc
        if info.st_uid != posix.geteuid() or info.st_mode & 0o022:
            raise PermissionDenied(
                f"container {self.container_id!r}: its record is another user's, or others may write to it",
                hint="use it as the user who made it",
                path=self.path,
            )

    def _read_state(self) -> dict[str, Any]:
        try:
            state = loads(_read(f"{self.path}/state.json"))
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise self._not_found() from exc
        if not isinstance(state, dict) or not isinstance(state.get("schema"), int):
            raise InvalidArgument(f"read {self.path}/state.json: it is not a record of a container", path=self.path)
        if state["schema"] > SCHEMA:
            raise Unsupported(
                f"container {self.container_id!r}: its record has the schema {state['schema']}, newer than {SCHEMA}",
                hint="use the version of corral-runtime that made it, or a later one",
                path=self.path,
            )
        return state

    def _read_live(self) -> tuple[int, int]:
        try:
            pid, start_time, boot_id, _ = str(_read(f"{self.path}/live"), "utf-8").split()
        except (FileNotFoundError, ValueError):
            return 0, 0
        stat = read_stat_or_none(int(pid))
        if stat is None or stat.is_dead or stat.start_time_ticks != int(start_time) or boot_id != read_boot_id():
            return 0, 0
        return int(pid), int(start_time)

    def _read_status(self, *, is_committed: bool) -> str:
        if not is_committed:
            return STALE if is_stale(self.path) else CREATING
        if self.pid == 0:
            # A record that was deleted between two of our reads is no stopped container.
            posix.stat(f"{self.path}/journal", follow_symlinks=False)
            return STOPPED
        if self._is_frozen():
            return PAUSED
        return CREATED if is_locked(f"{self.path}/init.lock") else RUNNING

    def _is_frozen(self) -> bool:
        freezer = self.state.get("freezer")
        if not freezer:
            return False
        version, directory = freezer
        try:
            name = "cgroup.events" if version == 2 else "freezer.state"
            text = _read(f"{directory}/{name}")
        except OSError:
            return False
        return b"frozen 1" in text if version == 2 else text.strip() in (b"FROZEN", b"FREEZING")

    @property
    def is_running(self) -> bool:
        """Its first process lives, whether started yet or not."""
        return self.pid != 0

    @property
    def visible_status(self) -> str:
        """The status in the words of the runtime specification: an interrupted creation is still "creating"."""
        return CREATING if self.status == STALE else self.status

    def read_config(self) -> dict[str, Any]:
        """The config.json that it was created from, normalised."""
        with open(f"{self.path}/config.json", "rb") as file:
            config = loads(file.read())
        assert isinstance(config, dict)
        return config

    def save_state(self) -> None:
        """Write ``state`` back."""
        replace_file(self.path, "state.json", dumps(self.state).encode())


def root_denied(root: str) -> PermissionDenied:
    """The error for a state root that is not this user's, which a user without ``XDG_RUNTIME_DIR`` meets first."""
    return PermissionDenied(
        f"use the state root {root}: permission denied",
        hint="choose one of your own with --root DIR, or set XDG_RUNTIME_DIR",
        path=root,
    )


def list_ids(root: str) -> list[str]:
    """Ids of all records below a state root, sorted. Raises: PermissionDenied."""
    try:
        names = posix.listdir(root)
    except FileNotFoundError:
        return []
    except PermissionError as exc:
        raise root_denied(root) from exc
    return sorted(name for name in names if not name.startswith(".") and paths.isfile(f"{root}/{name}/state.json"))
