"""The native programs that the engine runs: where they are, and running one to its end without ``subprocess``."""

from __future__ import annotations

import posix
import select
import sys
import time

from corral.engine.failpoints import VARIABLE, without_own
from corral.errors import NotFound, Timeout
from corral.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.engine.places import Places

__all__ = ["Result", "child_environment", "exit_command", "find_program", "run"]

_MAX_OUTPUT = 1 << 20
_KEPT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "LANG", "DBUS_SESSION_BUS_ADDRESS", "CORRAL_TEST_MARK")


class Result:
    """How a program ended: a shell's exit code, and what it wrote to either output, both together."""

    __slots__ = ("code", "output")

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output


def find_program(name: str) -> str:
    """The absolute path of one of our programs: in a checkout its build's, else beside what was started, or Python.

    Never from PATH: it runs with our rights. Raises: NotFound.
    """
    started = sys.argv[0] if sys.argv else ""
    # Modules that come from the launcher's archive have no file.
    package, found, _ = str(globals().get("__file__", "")).rpartition("/src/corral/")
    places = [
        f"{package}/build/bin" if found else "",
        paths.dirname(paths.realpath(started)) if "/" in started else "",
        paths.dirname(sys.executable or ""),
        f"{sys.prefix}/bin",
    ]
    for directory in places:
        path = f"{directory}/{name}"
        if directory.startswith("/") and posix.access(path, posix.X_OK):
            return path
    raise NotFound(f"run {name}: it is not installed", hint="install corral again: its programs belong together")


def exit_command(places: Places) -> list[str]:
    """The words before ``_exited ID`` and ``_due ID``: ``corral``, for this store."""
    return [find_program("corral"), "--store", places.store, "--run-dir", places.run]


def child_environment() -> dict[str, str]:
    """The environment for one of our programs: little, and without the engine's own failpoints."""
    own = {
        key.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for key, value in posix.environ.items()
    }
    kept = {key: own[key] for key in _KEPT if key in own}
    points = without_own(own.get(VARIABLE, ""))
    if points:
        kept[VARIABLE] = points
    return kept


def run(words: list[str], *, timeout_s: float) -> Result:
    """Run a program with no input to its end; it is killed when ``timeout_s`` is over. Raises: Timeout, OSError."""
    read, write = posix.pipe2(posix.O_CLOEXEC)
    null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        pid = posix.posix_spawn(
            words[0],
            words,
            child_environment(),
            file_actions=[
                (posix.POSIX_SPAWN_DUP2, null, 0),
                (posix.POSIX_SPAWN_DUP2, write, 1),
                (posix.POSIX_SPAWN_DUP2, write, 2),
            ],
        )
    except OSError:
        posix.close(read)
        raise
    finally:
        posix.close(null)
        posix.close(write)
    try:
        output = _drain(read, pid, words[0], time.monotonic() + timeout_s)
    except BaseException:
        posix.kill(pid, 9)
        posix.waitpid(pid, 0)
        raise
    finally:
        posix.close(read)
    _, status = posix.waitpid(pid, 0)
    return Result(posix.waitstatus_to_exitcode(status), output.decode("utf-8", "replace"))


def _drain(read: int, pid: int, shown: str, until: float) -> bytes:
    """What the program wrote, once it has ended; a child of its own that keeps the pipe is not waited for."""
    chunks: list[bytes] = []
    size = 0
    pidfd = posix.pidfd_open(pid)
    poll = select.poll()
    poll.register(read, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        while True:
            left = until - time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, left) * 1000)}
            if not ready:
                raise Timeout(f"run {paths.basename(shown)}: it did not end in time")
            if read in ready:
                data = posix.read(read, 1 << 16)
                if data and size < _MAX_OUTPUT:
                    chunks.append(data)
                    size += len(data)
                if not data:
                    poll.unregister(read)
            elif pidfd in ready:
                return b"".join(chunks)
    finally:
        posix.close(pidfd)
