"""Verbs of the service of a store, where one answers: what the command line uses instead of doing the work itself.

HTTP over the service's socket, as little of it as one request at a time needs: this is on the path of every command,
and http.client alone would cost more than the whole call.
"""

from __future__ import annotations

import corral
from corral import errors
from corral.errors import CorralError, Internal, Unavailable
from corral.linux.sockets import connect_stream, peer_credentials
from corral.oci.json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from corral.engine.keeper import Monitor
    from corral.engine.places import Places
    from corral.linux.sockets import Socket

__all__ = ["OtherVersion", "Remote"]

_CHUNK = 1 << 16
_ANSWER_MAX = 64 << 20
# What a service can do for its clients: all else is done by who asks.
_VERBS = frozenset(
    "create exited inspect kill pause pod_create pod_inspect pod_ps pod_rm pod_start pod_stop port ps rename restart "
    "rm run start stats stop top unpause update".split()
)


class OtherVersion(Unavailable):
    """The service is of another version, and did nothing."""


class Remote:
    """A connection to the service of ``places``. ``close`` it when no more is asked."""

    __slots__ = ("_places", "_socket")

    def __init__(self, places: Places, sock: Socket) -> None:
        self._places = places
        self._socket = sock

    @classmethod
    def connect_or_none(cls, places: Places, uid: int) -> Remote | None:
        """Connect; None where no service answers, or one that is neither root's nor ``uid``'s."""
        try:
            sock = connect_stream(f"{places.run}/serve.sock")
        except OSError:
            return None
        if peer_credentials(sock)[1] not in (0, uid):
            sock.close()
            return None
        return cls(places, sock)

    def close(self) -> None:
        """End the connection. What was made and not yet started is taken back by the service."""
        self._socket.close()

    def offers(self, verb: str, options: Mapping[str, Any]) -> bool:
        """Whether the service does this: not what needs descriptors of the caller's."""
        return verb in _VERBS and "attach" not in options

    def call(self, verb: str, args: Sequence[object], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Call a verb as its function is called. Raises: what the verb raises; Unavailable when the service ends.

        ``before_release`` is called here, between the making of the process and its start.
        """
        options = dict(options)
        before_release: Callable[[Monitor], None] | None = options.pop("before_release", None)
        if before_release is None:
            return self._post(verb, {**options, "args": list(args)})
        made = self._post(verb, {**options, "args": list(args), "is_created_only": True})
        self._show_monitor(made["id"], before_release)
        return {**made, **self._post("start", {"reference": made["id"]})}

    def _show_monitor(self, container_id: str, before_release: Callable[[Monitor], None]) -> None:
        from corral.engine.keeper import Monitor

        try:
            monitor = Monitor.connect(self._places.container_run(container_id))
        except OSError as exc:
            raise Unavailable(f"start container {container_id[:12]}: its monitor does not answer") from exc
        with monitor:
            before_release(monitor)

    def _post(self, verb: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        data = dumps(body).encode("utf-8", "surrogateescape")
        head = (
            f"POST /v1/{verb} HTTP/1.1\r\nHost: corral\r\nCorral-Version: {corral.__version__}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        ).encode()
        try:
            self._socket.sendall(head + data)
            status, answer = self._receive()
        except (BrokenPipeError, ConnectionResetError, ValueError) as exc:
            raise Unavailable(
                f"call {verb}: the service ended before it answered",
                hint="whether it was done is seen by `corral ps -a`; a name that was taken is free again",
            ) from exc
        if status != 200:
            raise _to_error(answer)
        return answer

    def _receive(self) -> tuple[int, Any]:
        """Status and body. Raises: ValueError for what is no answer of ours."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        length = next((int(line[15:]) for line in lines[1:] if line.lower().startswith("content-length:")), -1)
        if not 0 <= length <= _ANSWER_MAX:
            raise ValueError(length)
        parts = [body]
        missing = length - len(body)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return int(lines[0].split(" ")[1]), loads(b"".join(parts), "the service's answer")

    def _more(self) -> bytes:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError
        return data


def _to_error(answer: dict[str, Any]) -> CorralError:
    """The error that the service's body tells of, as it was raised there."""
    told = answer.get("error", {})
    if told.get("phase") == "version":
        return OtherVersion(told["message"], hint=told.get("hint", ""), phase="version")
    kind: type[CorralError] = Internal
    for found in errors.__dict__.values():
        if (
            isinstance(found, type)
            and issubclass(found, CorralError)
            and found.__dict__.get("kind") == told.get("kind")
        ):
            kind = found
    fields = {key: told[key] for key in ("hint", "pointer", "path", "errno", "phase") if key in told}
    return kind(told.get("message", "call the service: it refused without words"), **fields)
