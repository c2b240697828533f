"""systemd over D-Bus: transient units started, stopped and read, each within a deadline, each error its own kind.

Blocking, no threads. Which properties a unit gets is decided elsewhere (``corral.cgroup.systemd_properties``); here
is what happens on the bus, and what can go wrong there:

=====================================  =====================================================
this host is not run by systemd        Unsupported
nobody at the socket, it was closed    Unavailable
uid or polkit refuses                  PermissionDenied
systemd does not know a property       Unsupported, unless the property may be left out
a unit of that name is active          AlreadyExists, after reset-failed and one more attempt
the job's result is not "done"         FailedPrecondition with the result
no answer within the deadline          Timeout
=====================================  =====================================================

Source: org.freedesktop.systemd1(5); systemd's "Control Group APIs and Delegation".
"""

from __future__ import annotations

import os
import time

from corral.cgroup.dbus_peer import ErrorReply, connect_peer
from corral.cgroup.systemd_errors import EXISTS, NO_SUCH_UNIT, SUBSCRIBED, blamed_property, told, told_reply
from corral.errors import (
    CorralError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Timeout,
    Unavailable,
    Unsupported,
)
from corral.linux.closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from corral.cgroup.dbus_peer import Peer
    from corral.cgroup.systemd_properties import UnitProperty

    T = TypeVar("T")

__all__ = ["Manager", "StartedUnit", "is_systemd_running", "system_manager", "user_manager"]

_NAME = "org.freedesktop.systemd1"
_MANAGER = (_NAME, "/org/freedesktop/systemd1", f"{_NAME}.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_MATCH = f"type='signal',sender='{_NAME}',interface='{_NAME}.Manager',member='JobRemoved',path='{_MANAGER[1]}'"

# The end of the path of a manager's own socket, where no bus stands between.
_DIRECT = "/systemd/private"
_CLEANUP_S = 2.0


class StartedUnit:
    """A unit that systemd started: its group's path as systemd tells it, and the properties that it did not know."""

    __slots__ = ("control_group", "dropped", "name")

    def __init__(self, name: str, control_group: str, dropped: tuple[str, ...]) -> None:
        self.name = name
        self.control_group = control_group
        self.dropped = dropped

    def __repr__(self) -> str:
        return f"StartedUnit({self.name!r} at {self.control_group!r})"


def is_systemd_running(root: str = "") -> bool:
    """This host's init is systemd (sd_booted(3)). ``root`` stands before the path, for tests."""
    return os.path.isdir(f"{root}/run/systemd/system")


def system_manager(root: str = "") -> Manager:
    """The system's manager: root asks at its own socket first, everybody else at the bus. Connects on first use."""
    private = [f"{root}/run/systemd/private"] if os.geteuid() == 0 else []
    return Manager([*private, f"{root}/run/dbus/system_bus_socket"], is_booted=is_systemd_running(root))


def user_manager(environ: Mapping[str, str]) -> Manager:
    """The manager of the user whose environment is given (XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS).

    Raises: FailedPrecondition when the environment leads to none.
    """
    paths = []
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        paths += [f"{runtime}{_DIRECT}", f"{runtime}/bus"]
    for address in environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        path = address.removeprefix("unix:path=").partition(",")[0]
        if path != address and path not in paths:
            paths.append(path)
    if not paths:
        raise FailedPrecondition(
            "reach the user's systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS leads to it",
            hint="log in as that user (loginctl enable-linger USER keeps the manager), or use the cgroupfs driver",
            phase="cgroup",
        )
    return Manager(paths, is_user=True)


class Manager(Closing):
    """A systemd manager at the first of ``paths`` that answers. A context manager; closing it undoes nothing.

    One connection, made on first use and again when it broke. ``deadline_s`` of each operation covers all that it
    does, reconnecting and tidying up aside (2 s at most). Not safe for concurrent use of one object.
    """

    __slots__ = ("_is_booted", "_paths", "_peer", "is_user")

    def __init__(self, paths: Sequence[str], *, is_user: bool = False, is_booted: bool = True) -> None:
        self._paths = tuple(paths)
        self._peer: Peer | None = None
        self._is_booted = is_booted
        self.is_user = is_user

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.close()

    def start_transient_scope(
        self, name: str, pids: Sequence[int], properties: Sequence[UnitProperty], *, deadline_s: float
    ) -> StartedUnit:
        """Start scope ``name`` with ``pids`` in it; returns when they are there. Blocks up to ``deadline_s``.

        Properties that are optional and unknown to this systemd are left out, and told. A failed unit that still has
        the name is forgotten first. After an error no unit of ours is left, except that before systemd has answered
        at all, it may still start the scope, which then goes with its last process.
        Raises: as in the module's table.
        """
        return self._start(name, [("PIDs", ("au", list(pids)))], properties, deadline_s)

    def start_transient_slice(self, name: str, properties: Sequence[UnitProperty], *, deadline_s: float) -> StartedUnit:
        """Start slice ``name``, as ``start_transient_scope`` but without processes."""
        return self._start(name, [], properties, deadline_s)

    def stop_unit(self, unit: str, *, deadline_s: float) -> bool:
        """Stop ``unit``, which ends its processes, and forget that it failed; False if there was none. Idempotent."""
        doing, until = f"stop unit {unit!r}", time.monotonic() + deadline_s
        with_peer = self._ready(doing, until, jobs=True)
        try:
            (job,) = with_peer.call(_MANAGER, "StopUnit", "ss", (unit, "replace"), until=until)
            result = _wait_job(with_peer, str(job), until)
        except ErrorReply as exc:
            if exc.name == NO_SUCH_UNIT:
                return False
            raise told_reply(doing, exc) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc
        if result not in ("done", "skipped"):
            raise _job_error(doing, result)
        self.reset_failed(unit, deadline_s=max(0.1, until - time.monotonic()))
        return True

    def reset_failed(self, unit: str, *, deadline_s: float) -> bool:
        """Forget that ``unit`` failed, so that its name is free; False if there is no such unit. Idempotent."""
        try:
            self._call(f"reset unit {unit!r}", "ResetFailedUnit", "s", (unit,), time.monotonic() + deadline_s)
        except NotFound:
            return False
        return True

    def set_unit_properties(
        self, unit: str, properties: Sequence[UnitProperty], *, deadline_s: float
    ) -> tuple[str, ...]:
        """Change properties of a running unit until it ends; returns the names of optional ones that were left out.

        Raises: as in the module's table; NotFound when there is no such unit.
        """
        doing, until = f"set properties of unit {unit!r}", time.monotonic() + deadline_s
        peer = self._ready(doing, until)

        def attempt(body: list[tuple[str, tuple[str, Any]]]) -> None:
            peer.call(_MANAGER, "SetUnitProperties", "sba(sv)", (unit, True, body), until=until)

        try:
            _, dropped = _with_known(properties, attempt)
        except ErrorReply as exc:
            raise told_reply(doing, exc, properties) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc
        return dropped

    def attach_pids(self, unit: str, below: str, pids: Sequence[int], *, deadline_s: float) -> None:
        """Move ``pids`` into ``unit``'s group, or into the group ``below`` ("/name") it. For a user's manager: a user
        may not move processes between its own units' groups, systemd may.
        """
        until = time.monotonic() + deadline_s
        doing = f"move processes into unit {unit!r}"
        self._call(doing, "AttachProcessesToUnit", "ssau", (unit, below, list(pids)), until)

    def control_group(self, unit: str, *, deadline_s: float) -> str:
        """The path of ``unit``'s group; "" for a loaded unit without one. Raises: NotFound when it is not loaded."""
        kind = unit.rpartition(".")[2].capitalize()
        until = time.monotonic() + deadline_s
        return str(self._unit_property(unit, f"{_NAME}.{kind}", "ControlGroup", until))

    def active_state(self, unit: str, *, deadline_s: float) -> str:
        """``active``, ``inactive``, ``failed``, ``activating`` ...; Raises: NotFound when it is not loaded."""
        return str(self._unit_property(unit, f"{_NAME}.Unit", "ActiveState", time.monotonic() + deadline_s))

    def is_delegated(self, unit: str, *, deadline_s: float) -> bool:
        """``unit``'s group was handed over to whoever started it. Raises: NotFound when it is not loaded."""
        kind = unit.rpartition(".")[2].capitalize()
        return bool(self._unit_property(unit, f"{_NAME}.{kind}", "Delegate", time.monotonic() + deadline_s))

    def manager_path(self, *, deadline_s: float) -> str:
        """The manager's own group, below which its units lie: "" for the system's, user@UID.service for a user's."""
        doing = "read systemd's own group"
        path = str(self._property(doing, _MANAGER[1], _MANAGER[2], "ControlGroup", time.monotonic() + deadline_s))
        return path.rstrip("/")

    def version(self, *, deadline_s: float) -> tuple[int, str]:
        """systemd's version as a number and in full (for reports; what it can do is found out by trying)."""
        doing = "read systemd's version"
        text = str(self._property(doing, _MANAGER[1], _MANAGER[2], "Version", time.monotonic() + deadline_s))
        digits = ""
        for char in text.removeprefix("v"):
            if not char.isdecimal():
                break
            digits += char
        return int(digits or "0"), text

    def _start(
        self,
        name: str,
        fixed: list[tuple[str, tuple[str, Any]]],
        properties: Sequence[UnitProperty],
        deadline_s: float,
    ) -> StartedUnit:
        doing, until = f"start unit {name!r}", time.monotonic() + deadline_s
        peer = self._ready(doing, until, jobs=True)

        def attempt(body: list[tuple[str, tuple[str, Any]]]) -> str:
            (job,) = peer.call(
                _MANAGER,
                "StartTransientUnit",
                "ssa(sv)a(sa(sv))",
                (name, "fail", fixed + body, []),
                until=until,
            )
            return str(job)

        def attempt_twice(body: list[tuple[str, tuple[str, Any]]]) -> str:
            try:
                return attempt(body)
            except ErrorReply as exc:
                if exc.name != EXISTS:
                    raise
            try:
                peer.call(_MANAGER, "ResetFailedUnit", "s", (name,), until=until)
            except ErrorReply:
                pass  # it is not a failed one; the second attempt says whether it is still there
            return attempt(body)

        try:
            job, dropped = _with_known(properties, attempt_twice)
        except ErrorReply as exc:
            raise told_reply(doing, exc, properties) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc
        self._finish_start(name, job, doing, until)
        try:
            return StartedUnit(name, self.control_group(name, deadline_s=until - time.monotonic()), dropped)
        except NotFound as exc:
            # Collected already: its processes are gone.
            raise FailedPrecondition(f"{doing}: it ended at once", hint=_ENDED, phase="cgroup") from exc
        except CorralError as exc:
            self._stop_quietly(name)
            raise told(doing, exc) from exc

    def _finish_start(self, name: str, job: str, doing: str, until: float) -> None:
        """Wait for the start job; whatever goes wrong, the unit is ours, and is stopped."""
        try:
            if self._peer is None:
                raise Unavailable(f"{doing}: the connection is closed", phase="cgroup")
            result = _wait_job(self._peer, job, until)
        except Unavailable as exc:
            if self._is_active_after_all(name, until):
                return
            self._stop_quietly(name)
            raise self._given_up(doing, exc) from exc
        except CorralError as exc:
            if self._peer is not None:
                # On the same connection, so that it comes after the start however late that is.
                self._peer.send(_MANAGER, "StopUnit", "ss", (name, "replace"))
            raise self._given_up(doing, exc) from exc
        if result != "done":
            self._stop_quietly(name)
            raise _job_error(doing, result)

    def _is_active_after_all(self, name: str, until: float) -> bool:
        """Whether the unit runs, asked on new connections: a manager that executes itself anew keeps its jobs."""
        self.close()
        while time.monotonic() < until:
            try:
                state = self.active_state(name, deadline_s=until - time.monotonic())
            except (Unavailable, PermissionDenied):
                state = "activating"
            except CorralError:
                return False
            if state != "activating":
                return state == "active"
            time.sleep(max(0.0, min(0.02, until - time.monotonic())))
        return False

    def _stop_quietly(self, name: str) -> None:
        """Stop and forget our own unit; a manager that cannot be reached any more ends it with its last process."""
        try:
            self.stop_unit(name, deadline_s=_CLEANUP_S)
            self.reset_failed(name, deadline_s=_CLEANUP_S / 2)
        except CorralError:
            return

    def _unit_property(self, unit: str, interface: str, name: str, until: float) -> object:
        doing = f"read {name} of unit {unit!r}"
        (path,) = self._call(doing, "GetUnit", "s", (unit,), until)
        return self._property(doing, str(path), interface, name, until)

    def _property(self, doing: str, path: str, interface: str, name: str, until: float) -> object:
        peer = self._ready(doing, until)
        try:
            ((_, value),) = peer.call((_NAME, path, _PROPERTIES), "Get", "ss", (interface, name), until=until)
        except ErrorReply as exc:
            raise told_reply(doing, exc) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc
        return value

    def _call(self, doing: str, member: str, signature: str, body: tuple[Any, ...], until: float) -> tuple[Any, ...]:
        peer = self._ready(doing, until)
        try:
            return peer.call(_MANAGER, member, signature, body, until=until)
        except ErrorReply as exc:
            raise told_reply(doing, exc) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc

    def _ready(self, doing: str, until: float, *, jobs: bool = False) -> Peer:
        """A working connection, subscribed to the ends of ``jobs`` if asked: before the call that makes one."""
        try:
            if self._peer is not None and not self._peer.is_open():
                self.close()
            if self._peer is None:
                self._peer = self._connect(until)
            peer = self._peer
            if jobs:
                peer.forget_signals()
                if not peer.is_subscribed:
                    _subscribe(peer, until)
        except ErrorReply as exc:
            raise told_reply(doing, exc) from exc
        except CorralError as exc:
            raise self._given_up(doing, exc) from exc
        return peer

    def _connect(self, until: float) -> Peer:
        if not self._is_booted:
            raise Unsupported(
                "reach systemd: this host is not run by it (no directory '/run/systemd/system')",
                hint="use the cgroupfs driver",
                phase="cgroup",
            )
        causes = []
        for path in self._paths:
            try:
                peer = connect_peer(path, until)
            except (Unavailable, PermissionDenied) as exc:
                causes.append(exc)
                continue
            if not path.endswith(_DIRECT):
                try:
                    peer.call(_BUS, "Hello", "", (), until=until)
                except BaseException:
                    peer.close()
                    raise
            return peer
        refused = [exc for exc in causes if isinstance(exc, PermissionDenied)]
        first = (refused or causes)[0]
        raise type(first)(
            "; ".join(exc.message for exc in causes),
            hint=_USER_HINT if self.is_user else _SYSTEM_HINT,
            path=first.path,
            errno=first.errno,
            phase="cgroup",
        )

    def _given_up(self, doing: str, exc: CorralError) -> CorralError:
        """``exc`` with the operation before it; a connection that left a call unanswered is not used again."""
        if isinstance(exc, (Timeout, Unavailable)):
            self.close()
        return told(doing, exc)


_ENDED = "the processes that were to be in it are gone: look at what ended them"
_SYSTEM_HINT = "is systemd's socket, or the system bus, visible from here? else use the cgroupfs driver"
_USER_HINT = "does the user's manager run? (loginctl enable-linger USER); else use the cgroupfs driver"


def _subscribe(peer: Peer, until: float) -> None:
    if not peer.path.endswith(_DIRECT):
        peer.call(_BUS, "AddMatch", "s", (_MATCH,), until=until)
    try:
        peer.call(_MANAGER, "Subscribe", "", (), until=until)
    except ErrorReply as exc:
        if exc.name != SUBSCRIBED:
            raise
    peer.is_subscribed = True


def _wait_job(peer: Peer, job: str, until: float) -> str:
    """The result of ``job``."""
    while True:
        signal = peer.next_signal(until, f"the end of job {job.rpartition('/')[2]}")
        if signal.member == "JobRemoved" and len(signal.body) == 4 and signal.body[1] == job:
            return str(signal.body[3])


def _job_error(doing: str, result: str) -> CorralError:
    return FailedPrecondition(
        f"{doing}: systemd's job ended with result {result!r}",
        hint="systemctl status and journalctl of the unit tell more",
        phase="cgroup",
    )


def _with_known(
    properties: Sequence[UnitProperty], attempt: Callable[[list[tuple[str, tuple[str, Any]]]], T]
) -> tuple[T, tuple[str, ...]]:
    """``attempt`` with all properties; again without an optional one as often as systemd refuses one by name."""
    left = list(properties)
    dropped: list[str] = []
    while True:
        try:
            return attempt([unit_property.wire for unit_property in left]), tuple(dropped)
        except ErrorReply as exc:
            blamed = blamed_property(exc, left)
            if blamed is None or not blamed.is_optional:
                raise
            left.remove(blamed)
            dropped.append(blamed.name)
