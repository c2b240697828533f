"""Short commands in a process that is there already: the other half of native/command/resident.c (docs/adr/0009).

Started by the service of a store, ended with it. Each command is run by a fork of this process, which has loaded what
such commands need and has run none: what one leaves behind, no other finds. Whatever is not for certain the same as in
a process of the caller's is refused before anything is done, and the caller does it itself.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import gc
import io
import posix
import resource
import select
import sys
import time

from corral import __version__
from corral.errors import CorralError
from corral.linux.sockets import accept, listen, peer_credentials, recv_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from corral.linux.sockets import Socket

__all__ = ["SOCKET", "is_quick", "serve"]

SOCKET = "resident.sock"
_MESSAGE_MAX = 96 << 10
_BEGUN = b"y"
_BACKLOG = 256
# The modules of what the front hands over; a fork that needs another imports it.
_COMMANDS = ("create", "inspect", "kill", "pause", "ps", "rename", "restart", "rm", "run", "start", "stop", "unpause")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_STATUS = (b"Uid:", b"Gid:", b"Groups:", b"Cap", b"NoNewPrivs:", b"Seccomp:")
_LIMITS = 16


class Request:
    """What the front is and wants. Raises: ValueError for what is none of ours, or of another kind than we are."""

    __slots__ = ("arguments", "environment", "limits", "umask")

    def __init__(self, data: bytes, identity: bytes) -> None:
        if not data.startswith(identity) or not data.endswith(b"\0"):
            raise ValueError("another version, user, namespace or root")
        words = data[len(identity) : -1].split(b"\0")
        if len(words) < _LIMITS + 2:
            raise ValueError("cut off")
        self.limits = [tuple(map(int, word.split())) for word in words[:_LIMITS]]
        self.umask, count = int(words[_LIMITS]), int(words[_LIMITS + 1])
        rest = words[_LIMITS + 2 :]
        if not 0 < count <= len(rest):
            raise ValueError("its arguments are not there")
        self.arguments = [word.decode("utf-8", "surrogateescape") for word in rest[:count]]
        self.environment = dict(word.split(b"=", 1) for word in rest[count:] if b"=" in word)

    @property
    def has_utf8(self) -> bool:
        """Whether the interpreter would speak UTF-8 with this environment."""
        names = (b"LC_ALL", b"LC_CTYPE", b"LANG")
        found = next((self.environment[name] for name in names if self.environment.get(name)), b"C")
        return found in (b"C", b"POSIX") or found.lower().replace(b"-", b"").endswith(b".utf8")


def serve(directory: str, stop_fd: int) -> None:
    """Run what fronts ask for at ``directory``'s socket, until ``stop_fd`` is readable or hung up."""
    identity = _identity()
    _preload()
    path = f"{directory}/{SOCKET}"
    # Complete before it has its name; another's, whose service was killed, is replaced.
    fresh = f"{path}.{posix.getpid()}"
    listener = listen(fresh, backlog=_BACKLOG)
    own = posix.stat(fresh).st_ino
    posix.rename(fresh, path)
    # Children are nobody's business: the kernel reaps them.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    gc.freeze()
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    poll.register(stop_fd, select.POLLIN)
    while stop_fd not in {fd for fd, _ in poll.poll()}:
        try:
            sock = accept(listener)
        except OSError:
            continue  # It has given up already.
        try:
            child = posix.fork()
        except OSError:
            child = -1  # No room for one more: the front does it itself.
        if child == 0:
            try:
                listener.close()
                posix.close(stop_fd)
                _run(sock, identity)
            finally:
                posix._exit(1)
        sock.close()
    try:
        if posix.stat(path).st_ino == own:
            posix.unlink(path)
    except FileNotFoundError:
        pass  # with the store


def is_quick(arguments: Sequence[str]) -> bool:
    """Whether the command is one of ours: it ends soon, and what goes on in the foreground is not its."""
    from corral.cli.flags import parse, split_globals
    from corral.cli.index import find
    from corral.cli.main import commands_of, load

    try:
        given, words = split_globals(arguments)
        name, module, rest = find(list(words))
        if name not in _COMMANDS or given.values.keys() - {"store", "run-dir"}:
            return False
        line = parse(rest, commands_of(load(module))[name])
    except CorralError:
        return False
    return line.has("detach") if name == "run" else not (line.has("attach") or line.has("interactive"))


def _preload() -> None:
    """What the commands import, so that no fork does."""
    import corral.cli.making
    import corral.engine.remote
    import corral.image.store  # noqa: F401
    from corral.cli.index import find
    from corral.cli.main import load

    for name in _COMMANDS:
        load(find([name])[1])


def _identity() -> bytes:
    """As the front tells its own: version, namespaces, label, root, and what /proc/self/status says of rights."""
    words = [__version__.encode()]
    for name in _NAMESPACES:
        try:
            words.append(posix.readlink(f"/proc/self/ns/{name}").encode())
        except OSError:
            words.append(b"")
    words.append(_label())
    root = posix.stat("/")
    words.append(f"{root.st_dev}:{root.st_ino}".encode())
    with open("/proc/self/status", "rb") as file:
        words += [line.rstrip(b"\n") for line in file if line.startswith(_STATUS)]
    return b"".join(word + b"\0" for word in words)


def _label() -> bytes:
    """AppArmor's or SELinux's name for this process; empty where there is neither."""
    try:
        with open("/proc/self/attr/current", "rb") as file:
            return file.read().partition(b"\0")[0]
    except OSError:
        return b""


def _run(sock: Socket, identity: bytes) -> NoReturn:
    """In the fork: become what the front would be, run its command, tell the exit code."""
    from corral.cli.main import main

    try:
        # For what the command starts itself; ours is our parent's matter.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        if peer_credentials(sock)[1] != posix.geteuid():
            posix._exit(0)
        data, fds = recv_fds(sock, _MESSAGE_MAX, 4)
        request = Request(data, identity)
        if len(fds) != 4 or not request.has_utf8 or not is_quick(request.arguments):
            posix._exit(0)
        _become(request, fds)
        _end_with(sock)
        sock.send(_BEGUN)
    except (OSError, ValueError):
        posix._exit(0)
    try:
        code = main(request.arguments)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    code = _flushed(code)
    try:
        sock.send(bytes((code & 255,)))
    except OSError:
        pass  # The front has gone, and nobody asks any more.
    posix._exit(0)


def _flushed(code: int) -> int:
    """As any command ends (corral._boot): where what was printed is not there, it is no success."""
    why = ""
    try:
        sys.stdout.flush()
    except OSError as exc:
        if not code and not isinstance(exc, BrokenPipeError):
            why = f"write the output: {(exc.strerror or str(exc)).lower()}\n"
        code = code or 1
    except (ValueError, AttributeError):
        pass  # The command has closed it, or its reader had gone.
    try:
        sys.stderr.write(why)
        sys.stderr.flush()
    except OSError:
        pass  # The exit code tells it.
    return code


def _become(request: Request, fds: list[int]) -> None:
    """Descriptors, directory, limits, umask and environment of the front. Raises: OSError, ValueError."""
    for number, (soft, hard) in enumerate(request.limits):
        if resource.getrlimit(number) != (soft, hard):
            resource.setrlimit(number, (soft, hard))
    for number, fd in enumerate(fds[:3]):
        posix.dup2(fd, number)
    posix.fchdir(fds[3])
    for fd in fds:
        posix.close(fd)
    posix.umask(request.umask)
    _set_environment(request.environment)
    time.tzset()
    for name, fd, errors in (
        ("stdin", 0, "surrogateescape"),
        ("stdout", 1, "surrogateescape"),
        ("stderr", 2, "backslashreplace"),
    ):
        raw = io.FileIO(fd, "r" if fd == 0 else "w", closefd=False)
        buffer = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
        is_line = fd == 2 or posix.isatty(fd)
        setattr(sys, name, io.TextIOWrapper(buffer, "utf-8", errors, line_buffering=is_line))


def _set_environment(fresh: dict[bytes, bytes]) -> None:
    for name in list(posix.environ):
        posix.unsetenv(name)
    posix.environ.clear()
    posix.environ.update(fresh)
    for name, value in fresh.items():
        posix.putenv(name, value)
    if "os" in sys.modules:
        # It has a copy, made when it was imported; this also does the above once more, in its own words.
        import os

        os.environ.clear()
        os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in fresh.items()})


def _end_with(sock: Socket) -> None:
    """Have the kernel end this process when the front has gone. Raises: OSError, also when it has."""
    fcntl.fcntl(sock.fileno(), fcntl.F_SETSIG, _signal.SIGTERM)
    fcntl.fcntl(sock.fileno(), fcntl.F_SETOWN, posix.getpid())
    fcntl.fcntl(sock.fileno(), fcntl.F_SETFL, posix.O_ASYNC)
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    if poll.poll(0):
        raise ConnectionResetError
