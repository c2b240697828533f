"""One conversation with a front: request, plan, events, verdict. The same for a cold and a resident planner.

The messages are those of docs/design/plan.md. The session keeps what it asked for and judges what comes back; it
never acts on the host itself.
"""

from __future__ import annotations

import _struct as struct
import errno
import posix

from corral.cgroup.writes import judge_all
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, Internal, Unavailable, Unsupported
from corral.linux.sockets import recv_fds, send_fds
from corral.oci.json import dumps
from corral.runtime.options import parse
from corral.runtime.prepare import Surroundings, prepare, state_root
from corral.runtime.record import is_stale, replace_file
from corral.runtime.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.linux.sockets import Socket
    from corral.runtime.options import CommandLine
    from corral.runtime.plan import Plan
    from corral.runtime.prepare import Prepared
    from corral.runtime.rootfs import RootfsPlan
    from corral.runtime.scopes import Scope

HEADER = struct.Struct("<IIiI")
MESSAGE_MAX = HEADER.size + 65536

REQUEST, CGROUP, READBACK, BORN, READY, FAILED, SCOPE = 32, 33, 34, 35, 36, 37, 38
FRONT_WARNING, RESULT, RECLAIMED = 5, 39, 40
PLAN, REFUSED, NOT_MINE, RECLAIM, TEXT, VERDICT, WARNING = 48, 49, 50, 51, 52, 53, 54

# So many unfinished records of one name are undone before it is given up.
_RECLAIMS = 3
_FATES = ("unknown", "intended", "created", "joined", "absent")
EXEC_ERROR = 255
# More than a planner ever has open.
_DESCRIPTORS = 4096


class Session:
    """Feed it the front's messages with ``receive``; it answers on the same socket. ``is_over`` ends it.

    ``front``: the pid whose capabilities and cgroups count; a cold planner has its parent's, so its own do.
    ``is_shared``: others wait while this one is answered, so that what takes long is left to a child.

    A monitor asks for nothing: whoever has one started ``begin``s, receives until it is over, and then finds ``pid``,
    or a ``refusal``, and the ``warnings``.
    """

    __slots__ = (
        "_around",
        "_fates",
        "_front",
        "_is_shared",
        "_layers",
        "_line",
        "_plan",
        "_prepared",
        "_readbacks",
        "_reclaims",
        "_socket",
        "is_over",
        "pid",
        "refusal",
        "warnings",
    )

    def __init__(self, socket: Socket, front: int | str = "self", *, is_shared: bool = False) -> None:
        self._socket = socket
        self._front = front
        self._is_shared = is_shared
        self._prepared: Prepared | None = None
        self._plan: Plan | None = None
        self._readbacks: dict[int, str | None] = {}
        self._fates: dict[int, tuple[str, int]] = {}
        self._line: CommandLine | None = None
        self._around = Surroundings("/", {})
        self._layers: RootfsPlan | None = None
        self._reclaims = 0
        self.is_over = False
        self.pid = 0
        self.refusal: CorralError | None = None
        self.warnings: list[str] = []

    def begin(self, argv: list[str], around: Surroundings, *, rootfs: RootfsPlan | None = None) -> None:
        """Plan ``argv`` (create or exec, as for corral-runtime) for a monitor at the other end, and send it the plan.

        ``rootfs``: the layers of the container's root; None: what stands at the config's root.path. The monitor keeps
        the container's terminal. What forbids the container is in ``refusal`` then, and the session is over.
        """
        around.pid = self._front
        around.keeps_terminal = True
        self._around, self._layers = around, rootfs
        try:
            self._line = parse(argv)
            self._answer_command(self._line, around)
        except CorralError as exc:
            self._end(exc)
        except OSError:
            self._end(_monitor_gone())
        except BaseException:
            self._end(None)
            raise

    def _end(self, refusal: CorralError | None) -> None:
        """The first reason is the one that counts."""
        self.refusal = self.refusal or refusal
        self.is_over = True

    def receive(self) -> None:
        """Take one message (blocks until there is one) and answer it. A front that is gone ends the session."""
        fds: list[int] = []
        try:
            data, fds = recv_fds(self._socket, MESSAGE_MAX)
            if len(data) < HEADER.size:
                self._lose_front()
                return
            self._handle(HEADER.unpack_from(data), data[HEADER.size :], fds)
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is left to answer. Whoever comes next finds the record stale, and undoes it.
            self._lose_front()
        except Exception as exc:
            self._give_up(exc)
        finally:
            for fd in fds:
                posix.close(fd)

    def _lose_front(self) -> None:
        self._end(_monitor_gone() if self._line is not None else None)

    def _handle(self, header: tuple[int, int, int, int], body: bytes, fds: list[int]) -> None:
        kind, step, error, value = header
        if kind == REQUEST and fds:
            self._answer_request(fds[0])
        elif kind == CGROUP:
            fate = value >> 16
            self._fates[value & 0xFFFF] = (_FATES[fate] if fate < len(_FATES) else "unknown", error)
        elif kind == READBACK:
            missing = abs(error) == errno.ENOENT
            self._readbacks[step] = None if missing else body.decode("utf-8", "surrogateescape")
        elif kind == SCOPE:
            self._start_scope([value, *map(int, body.split())])
        elif kind == READY:
            self._judge()
        elif kind == FAILED:
            self._explain(step, abs(error), body)
        elif kind == FRONT_WARNING:
            self.warnings.append(body.decode("utf-8", "surrogateescape"))
        elif kind == RESULT:
            self._take_result(value, body)
        elif kind == RECLAIMED and self._line is not None:
            self._begin_again(error, body)

    def _take_result(self, pid: int, body: bytes) -> None:
        self.pid = pid
        if pid:
            self._end(None)
            return
        message, _, hint = body.decode("utf-8", "surrogateescape").partition("\0")
        self._end(FailedPrecondition(message, hint=hint))

    def _begin_again(self, error: int, body: bytes) -> None:
        """The record that stood in the way is undone, or could not be."""
        assert self._line is not None
        self._reclaims += 1
        if error or self._reclaims > _RECLAIMS:
            name = self._line.container_id()
            cause = body.decode("utf-8", "surrogateescape") or "its name is taken again and again"
            self._end(FailedPrecondition(f"undo the unfinished container {name!r}: {cause}"))
            return
        try:
            self._answer_command(self._line, self._around)
        except CorralError as exc:
            self._end(exc)

    def _send(self, kind: int, value: int = 0, body: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        send_fds(self._socket, HEADER.pack(kind, 0, 0, value) + body, fds)

    def _give_up(self, exc: Exception) -> None:
        """The border of a session: what went wrong in judging is a no, in words; a planner that others use goes on."""
        from corral.runtime.border import to_corral_error

        error = to_corral_error(exc, "judge the container")
        self.refusal = self.refusal or error
        # A monitor still says when it has undone what there was.
        self.is_over = self._line is None
        try:
            self._send(VERDICT, 0, f"{error}\0{error.hint}".encode("utf-8", "surrogateescape"))
        except OSError:
            pass  # The front sees the end of the session, which is a no as well.

    def _answer_request(self, request_fd: int) -> None:
        command = ""
        try:
            around, argv = read_request(request_fd)
            around.pid = self._front
            line = parse(argv)
            command = line.command
            self._answer_command(line, around)
        except CorralError as exc:
            self._refuse(exc, command)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as exc:
            # The border of a session: one caller's odd request must not end a planner that others use.
            from corral.runtime.border import to_corral_error

            self._refuse(to_corral_error(exc, f"plan {command}"), command)

    def _answer_command(self, line: CommandLine, around: Surroundings) -> None:
        if line.flag("help"):
            from corral.runtime.usage import usage

            self._send(TEXT, 0, usage(line.command).encode())
        elif line.command == "exec":
            from corral.runtime.exec_ import prepare_exec

            self._plan = prepare_exec(line, around)
            self._send_plan(encode(self._plan), ())
        elif line.command == "mounts":
            from corral.runtime.commands.mounts import prepare_mounts

            self._plan = prepare_mounts(line, around)
            self._send_plan(encode(self._plan), ())
        else:
            self._create(line, around)

    def _create(self, line: CommandLine, around: Surroundings) -> None:
        try:
            self._prepared = prepare(line, around, self._layers)
        except AlreadyExists as exc:
            if not is_stale(f"{state_root(line, around)}/{line.container_id()}"):
                raise
            self._send(RECLAIM, 0, exc.path.encode())
            return
        reservation = self._prepared.reservation
        self._plan = self._prepared.job.plan
        try:
            self._send_plan(self._prepared.plan, (reservation.directory_fd, reservation.lock_fd))
        except OSError:
            # The front never had it, so nobody acted on it: the name is free again.
            reservation.withdraw()
            raise
        finally:
            reservation.close()

    def _send_plan(self, plan: bytes, fds: tuple[int, ...]) -> None:
        sealed = seal(plan)
        try:
            self._send(PLAN, 0, b"", (sealed, *fds))
        finally:
            posix.close(sealed)

    def _refuse(self, error: CorralError, command: str) -> None:
        body = "\0".join((str(error), error.hint, error.kind, error.pointer)).encode("utf-8", "surrogateescape")
        self._send(REFUSED, EXEC_ERROR if command == "exec" else 1, body[:60000])

    def _start_scope(self, pids: list[int]) -> None:
        """Ask systemd for the container's unit, with the stub, and its holder if it has one, in it; the front waits."""
        scope = self._prepared.job.groups.scope if self._prepared is not None else None
        if scope is None:
            raise Internal("start a unit: the plan has none")
        if not self._is_shared:
            self._answer_scope(scope, pids)
            return
        _load_bus()
        # Others wait for a resident planner, and systemd may take its time: a child waits for it, and answers.
        child = posix.fork()
        if child:
            posix.waitpid(child, 0)
            return
        try:
            # Nobody's child to be reaped, and without what belongs to other sessions, whose fronts watch for their end.
            if posix.fork() == 0:
                own = self._socket.fileno()
                posix.closerange(3, own)
                posix.closerange(own + 1, _DESCRIPTORS)
                self._answer_scope(scope, pids)
        except Exception as exc:
            self._give_up(exc)
        finally:
            posix._exit(0)

    def _answer_scope(self, scope: Scope, pids: list[int]) -> None:
        try:
            scope.start(pids)
        except CorralError as exc:
            self._send(VERDICT, 0, f"{exc}\0{exc.hint}".encode("utf-8", "surrogateescape"))
        else:
            self._send(VERDICT, 1)

    def _judge(self) -> None:
        prepared = self._prepared
        if prepared is None:
            self._send(VERDICT, 1)
            return
        refused = self._judge_limits(prepared)
        if not refused:
            refused = self._record_fates(prepared)
        self._send(VERDICT, 0 if refused else 1, refused.encode("utf-8", "surrogateescape"))

    def _judge_limits(self, prepared: Prepared) -> str:
        """Message NUL hint if the kernel does not have what was asked for, else ""."""
        writes = [write for _, write in prepared.job.groups.writes]
        reads = [n for n, step in enumerate(prepared.job.plan) if step.op == "CG_READ"]
        following = iter(reads)
        texts = [self._readbacks.get(next(following)) if write.read_file else "" for write in writes]
        refused = judge_all(writes, texts)
        if not refused:
            return ""
        write, reason = refused[0]
        place = f" (config {write.pointer})" if write.pointer else ""
        hint = "the limit is not in force, so nothing was started"
        return f"check {write.file} of the container's cgroup{place}: {reason}\0{hint}"

    def _record_fates(self, prepared: Prepared) -> str:
        """Complete state.json. Message NUL hint if it cannot be written, else ""."""
        groups = prepared.state["cgroups"]
        assert isinstance(groups, list)
        absent = []
        for number, group in enumerate(groups):
            fate, error = self._fates.get(number, ("unknown", 0))
            group["fate"] = fate
            if fate == "absent":
                reason = posix.strerror(abs(error)).lower()
                group["reason"] = reason
                absent.append(f"{group['mount_point']}{group['path']}: {reason}")
        try:
            replace_file(prepared.reservation.path, "state.json", dumps(prepared.state).encode())
        except OSError as exc:
            text = (exc.strerror or "input/output error").lower()
            return f"write state.json in {prepared.reservation.path}: {text}\0the state root must be writable"
        if absent:
            from corral.runtime.groups import absence_warning

            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            self._send(WARNING, 0, absence_warning(absent[0] + more).encode("utf-8", "surrogateescape"))
        return ""

    def _explain(self, step: int, error: int, body: bytes) -> None:
        from corral.runtime.hints import find_hint, find_hint_in, sharpen

        plan, text, op = self._plan, "", ""
        if plan is not None and step < len(plan):
            op = plan.steps[step].op
            if self._prepared is not None:
                detail = body.decode("utf-8", "surrogateescape")
                text = sharpen(plan.steps[step], self._prepared.job.spec, error, detail)
        hint = find_hint(op, error) or find_hint_in(body)
        self._send(VERDICT, 0, f"{text}\0{hint}".encode("utf-8", "surrogateescape"))


def _monitor_gone() -> CorralError:
    return Unavailable("make the process: its monitor ended before it stood", hint="start it again")


def seal(content: bytes) -> int:
    """A sealed memfd with ``content``; the descriptor is the caller's."""
    import fcntl

    fd = posix.memfd_create("corral-plan", posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)
    try:
        while content:
            content = content[posix.write(fd, content) :]
        fcntl.fcntl(fd, 1033, 0x000F)  # F_ADD_SEALS: seal, shrink, grow, write
    except BaseException:
        posix.close(fd)
        raise
    return fd


def read_request(fd: int) -> tuple[Surroundings, list[str]]:
    """The caller's context and argv from a request memfd."""
    size = posix.fstat(fd).st_size
    text = posix.pread(fd, size, 0).decode("utf-8", "surrogateescape")
    cwd, env, fds, argv = "/", {}, (), []
    open_fds: tuple[int, ...] = fds
    for item in text.split("\0")[:-1]:
        name, _, value = item.partition("=")
        if name == "arg":
            argv.append(value)
        elif name == "cwd":
            cwd = value
        elif name == "env":
            key, _, content = value.partition("=")
            env[key] = content
        elif name == "fds":
            open_fds = tuple(int(number) for number in value.split(",") if number)
    return Surroundings(cwd, env, open_fds), argv


def _load_bus() -> None:
    """Once, and not in each child anew: loading it takes longer than all that a child does."""
    from corral.cgroup.dbus_peer import load_wire

    try:
        load_wire()
    except Unsupported:
        pass  # The child finds the same, and says so.
