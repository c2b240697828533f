"""A systemd that stands on a Unix socket, speaks D-Bus, and misbehaves as told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jeepney.low_level import (  # type: ignore[import-untyped]
    Endianness,
    Header,
    HeaderFields,
    Message,
    MessageType,
    Parser,
)

__all__ = ["FakeSystemd", "Refusal"]

ERROR = "org.freedesktop.DBus.Error."
UNIT = "org.freedesktop.systemd1."


class Refusal(Exception):
    """Answer with this D-Bus error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name, self.text = name, text


class FakeSystemd:
    """Listens at ``path`` until closed. The attributes are read at each call; tests set them beforehand.

    ``units`` maps a name to its state; ``errors`` a member to errors, used up one by one; ``mute`` names members that
    get no answer, ``hang_up`` those at which the connection is closed (each once); ``unknown`` names properties that
    this systemd does not have, ``bad_values`` those whose value it refuses. ``job_result`` None: jobs never end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.units: dict[str, str] = {}
        self.properties: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.errors: dict[str, list[Refusal]] = {}
        self.mute: set[str] = set()
        self.hang_up: set[str] = set()
        self.unknown: set[str] = set()
        self.bad_values: set[str] = set()
        self.job_result: str | None = "done"
        self.stop_result = "done"
        self.value_texts: dict[str, str] = {}
        # The answers to the lines of each connection's authentication; the last list serves all further ones.
        self.auth = [["DATA", "OK 0123"]]
        self.control_group = "/system.slice/{name}"
        self.manager_group = "/user.slice/user-7.slice/user@7.service"
        self.hang_up_before_job_ends = False
        self.garbage = b""
        self.has_begun = False
        self.has_stopped = threading.Event()
        self._jobs = 0
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._start(self._accept)

    def close(self) -> None:
        """Close everything and wait for the threads to end."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
        for connection in self._connections:
            connection.close()

    def members(self) -> list[str]:
        """The names of the calls so far."""
        return [member for member, _ in self.calls]

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if not self._authenticate(connection):
                return
            if self.garbage:
                connection.sendall(self.garbage)
            for message in _messages(connection):
                if not self._answer(connection, message):
                    connection.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            return

    def _authenticate(self, connection: socket.socket) -> bool:
        data = b""
        answers = list(self.auth.pop(0) if len(self.auth) > 1 else self.auth[0])
        is_rejected = False
        while True:
            while b"\r\n" not in data:
                chunk = connection.recv(1)  # byte by byte: what follows is not ours to read
                if not chunk:
                    return False
                data += chunk
            line, _, data = data.partition(b"\r\n")
            if line == b"BEGIN":
                self.has_begun = True
                return not is_rejected
            self.calls.append((line.strip(b"\0").decode(), ()))
            if answers:
                is_rejected = is_rejected or answers[0].startswith("REJECTED")
                connection.sendall(answers.pop(0).encode() + b"\r\n")

    def _answer(self, connection: socket.socket, message: Message) -> bool:
        fields = message.header.fields
        member = fields[HeaderFields.member]
        self.calls.append((member, tuple(message.body)))
        if member in self.mute:
            return True
        if member in self.hang_up:
            self.hang_up.discard(member)
            return False
        wants_reply = not message.header.flags & 1
        try:
            if self.errors.get(member):
                raise self.errors[member].pop(0)
            handler = getattr(self, f"_on_{member}", None)
            if handler is None:
                raise Refusal(f"{ERROR}UnknownMethod", f"Unknown method {member} or interface.")
            signature, body = handler(*message.body)
        except Refusal as refusal:
            if wants_reply:
                _send(
                    connection,
                    MessageType.error,
                    {HeaderFields.reply_serial: message.header.serial, HeaderFields.error_name: refusal.name},
                    ("s", (refusal.text,)),
                )
            return True
        if wants_reply:
            _send(
                connection,
                MessageType.method_return,
                {HeaderFields.reply_serial: message.header.serial},
                (signature, body),
            )
        return self._end_job(connection, member, message.body, body)

    def _end_job(self, connection: socket.socket, member: str, asked: Any, body: Any) -> bool:
        if member not in ("StartTransientUnit", "StopUnit"):
            return True
        if member == "StopUnit":
            self.has_stopped.set()
        elif self.hang_up_before_job_ends:
            self.hang_up_before_job_ends = False
            return False
        if self.job_result is None:
            return True
        result = self.stop_result if member == "StopUnit" else self.job_result
        for job, name, outcome in (("/other/job", "other.service", "done"), (body[0], asked[0], result)):
            _send(
                connection,
                MessageType.signal,
                {
                    HeaderFields.path: "/org/freedesktop/systemd1",
                    HeaderFields.interface: "org.freedesktop.systemd1.Manager",
                    HeaderFields.member: "JobRemoved",
                },
                ("uoss", (self._jobs, job, name, outcome)),
            )
        return True

    def _on_Hello(self) -> tuple[str, tuple[Any, ...]]:
        return "s", (":1.7",)

    def _on_AddMatch(self, rule: str) -> tuple[str, tuple[Any, ...]]:
        return "", ()

    def _on_Subscribe(self) -> tuple[str, tuple[Any, ...]]:
        return "", ()

    def _on_StartTransientUnit(self, name: str, mode: str, properties: Any, aux: Any) -> tuple[str, tuple[Any, ...]]:
        if name in self.units:
            raise Refusal(f"{UNIT}UnitExists", f"Unit {name} was already loaded or has a fragment file.")
        self._check(properties)
        self.units[name] = "active" if self.job_result == "done" else "failed"
        self.properties[name] = {key: value for key, (_, value) in properties}
        return "o", (self._new_job(),)

    def _on_SetUnitProperties(self, name: str, runtime: bool, properties: Any) -> tuple[str, tuple[Any, ...]]:
        self._known(name)
        self._check(properties)
        self.properties.setdefault(name, {}).update({key: value for key, (_, value) in properties})
        return "", ()

    def _check(self, properties: Any) -> None:
        for key, _ in properties:
            if key in self.unknown:
                raise Refusal(f"{ERROR}PropertyReadOnly", f"Cannot set property {key}, or unknown property.")
            if key in self.bad_values:
                text = self.value_texts.get(key, f"Value specified in {key} is out of range")
                raise Refusal(f"{ERROR}InvalidArgs", text)

    def _on_StopUnit(self, name: str, mode: str) -> tuple[str, tuple[Any, ...]]:
        self._known(name)
        if self.units[name] == "active":
            del self.units[name]
        return "o", (self._new_job(),)

    def _on_ResetFailedUnit(self, name: str) -> tuple[str, tuple[Any, ...]]:
        self._known(name)
        if self.units[name] == "failed":
            del self.units[name]
        return "", ()

    def _on_AttachProcessesToUnit(self, name: str, below: str, pids: Any) -> tuple[str, tuple[Any, ...]]:
        self._known(name)
        return "", ()

    def _on_GetUnit(self, name: str) -> tuple[str, tuple[Any, ...]]:
        self._known(name)
        return "o", ("/org/freedesktop/systemd1/unit/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in name),)

    def _on_Get(self, interface: str, name: str) -> tuple[str, tuple[Any, ...]]:
        if name == "Version":
            return "v", (("s", "252.30-1~deb12u2"),)
        if name == "ControlGroup" and interface.endswith("Manager"):
            return "v", (("s", self.manager_group),)
        unit = [body[0] for member, body in self.calls if member == "GetUnit"][-1]
        if name == "Delegate":
            return "v", (("b", bool(self.properties.get(unit, {}).get("Delegate"))),)
        return "v", (("s", self.units[unit] if name == "ActiveState" else self.control_group.format(name=unit)),)

    def _known(self, name: str) -> None:
        if name not in self.units:
            raise Refusal(f"{UNIT}NoSuchUnit", f"Unit {name} not loaded.")

    def _new_job(self) -> str:
        self._jobs += 1
        return f"/org/freedesktop/systemd1/job/{self._jobs}"


def _messages(connection: socket.socket) -> Iterator[Message]:
    parser = Parser()
    while data := connection.recv(65536):
        yield from parser.feed(data)


def _send(connection: socket.socket, kind: MessageType, fields: Any, content: tuple[str, tuple[Any, ...]]) -> None:
    signature, body = content
    if signature:
        fields[HeaderFields.signature] = signature
    connection.sendall(Message(Header(Endianness.little, kind, 0, 1, 0, 9, fields), body).serialise())
