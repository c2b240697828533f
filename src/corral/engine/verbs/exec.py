"""``exec``: one more process in a running container."""

from __future__ import annotations

import time

from corral.engine import names, status
from corral.engine.execs import begin_exec, end_exec
from corral.engine.keeper import Monitor
from corral.errors import InvalidArgument, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.engine.places import Places

__all__ = ["exec_"]

_LIMIT_HINT = "bound it inside, as in `timeout 60 COMMAND`"


def exec_(
    places: Places,
    reference: str,
    request: dict[str, Any],
    *,
    attach: Callable[[Monitor], None] | None = None,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Run ``request["command"]`` in the container; returns ``exec_id`` and, unless detached, its ``exit``.

    ``request`` may have ``env``, ``user``, ``workdir``, ``terminal``, ``stdin``, ``privileged``. ``attach`` gets the
    connected monitor before any output is lost, and returns when it wants no more. ``timeout_s``: afterwards it and all
    it left are ended, by this call; so it has no meaning for a detached one, nor after ``attach`` raised.
    Raises: NotFound; FailedPrecondition when the container does not run; InvalidArgument; Timeout.
    """
    if is_detached and timeout_s is not None:
        raise InvalidArgument("exec: a time limit on a detached process, which nobody waits for", hint=_LIMIT_HINT)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    container_id = names.find_id(places, reference)
    facts = status.look(places, container_id)
    running = begin_exec(facts, request, has_limit=timeout_s is not None, awaits_attach=attach is not None)
    if attach is not None:
        # Who is attached to the end has to attend before it: the keeper would have a command run for it else.
        with Monitor.connect(running.directory) as attending, Monitor.connect(running.directory) as monitor:
            attending.send_attend()
            attach(monitor)
            end = None if is_detached else running.wait(_left(until))
            attending.done()
    elif not is_detached:
        end = running.wait(_left(until))
    if is_detached:
        return {"id": container_id, "exec_id": running.exec_id}
    end_exec(running, end)
    if end is None:
        raise Timeout(
            f"exec in container {facts.definition.get('name', reference)!r}: {request['command'][0]!r} did not end"
            f" within {timeout_s:g} s",
            hint="it and the processes that it left were ended",
        )
    return {"id": container_id, "exec_id": running.exec_id, "exit": end}


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
