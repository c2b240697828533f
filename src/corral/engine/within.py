"""Calls a function of ``engine.inside`` in the ids, and with the root, of a container: through ``corral-within``.

Nothing here changes the namespaces of this process: the function runs in a process of its own, made by a plan.
"""

from __future__ import annotations

import posix
import sys

from corral import errors
from corral.engine.programs import child_environment, find_program
from corral.errors import CorralError, Internal, Unsupported
from corral.oci.json import dumps, loads
from corral.runtime.host import read_host
from corral.runtime.session import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.runtime.within import Within

__all__ = ["call", "raise_error"]

# Descriptors of the process inside: the request, the answer, then those that were passed.
REQUEST_FD, ANSWER_FD, FIRST_FD = 3, 4, 5
_ABOVE = 64
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from corral.engine.inside import main; main()"
_F_DUPFD_CLOEXEC = 1030


def call(
    where: Within,
    function: str,
    request: dict[str, Any],
    *,
    fds: Sequence[int] = (),
) -> Any:  # noqa: ANN401 -- what the function returns, as JSON can say it
    """Call ``inside.FUNCTIONS[function](request, descriptors)`` there and return its result.

    ``fds`` (borrowed) arrive as its descriptors.
    Raises: CorralError of the function, or of the plan (Unsupported: no such namespace here).
    """
    n_fds = FIRST_FD - 3 + len(fds)
    argv = [sys.executable, "-ISE", "-c", _BOOT, *_search_path()]
    env = [f"{key}={value}" for key, value in child_environment().items()]
    plan = seal(where.compile(argv, env, read_host(), n_fds=n_fds))
    asked = seal(dumps({"function": function, "request": request, "fds": len(fds)}).encode("utf-8", "surrogateescape"))
    answer, theirs = posix.pipe2(posix.O_CLOEXEC)
    words, their_words = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid = _spawn(plan, (asked, theirs, *fds), their_words)
    finally:
        for fd in (plan, asked, theirs, their_words):
            posix.close(fd)
    try:
        found = _read_all(answer)
        text = _read_all(words).decode("utf-8", "replace").strip()
    finally:
        posix.close(answer)
        posix.close(words)
        _, status = posix.waitpid(pid, 0)
    return _conclude(found, text, posix.waitstatus_to_exitcode(status))


def _search_path() -> list[str]:
    """Where modules come from; the folder of this package first, in a checkout too."""
    package = str(globals().get("__file__", "")).rpartition("/corral/")[0]
    return [path for path in (package, *sys.path) if path]


def _spawn(plan: int, fds: Sequence[int], words: int) -> int:
    """Start it with ``fds`` from 3 on and the plan behind them; its pid."""
    import fcntl

    program = find_program("corral-within")
    # First out of the way: the numbers that they get may be those that others have now.
    high = [fcntl.fcntl(fd, _F_DUPFD_CLOEXEC, _ABOVE) for fd in (*fds, plan, words)]
    try:
        plan_fd = 3 + len(fds)
        actions: list[tuple[int, ...]] = [(posix.POSIX_SPAWN_DUP2, fd, 3 + at) for at, fd in enumerate(high[:-1])]
        actions += [(posix.POSIX_SPAWN_DUP2, high[-1], 2)]
        return posix.posix_spawn(program, [program, str(plan_fd)], child_environment(), file_actions=actions)
    finally:
        for fd in high:
            posix.close(fd)


def _read_all(fd: int) -> bytes:
    pieces = []
    while data := posix.read(fd, 65536):
        pieces.append(data)
    return b"".join(pieces)


def _conclude(answer: bytes, text: str, code: int) -> Any:  # noqa: ANN401 -- see call
    if not answer:
        if text:
            raise Unsupported(f"work in the container's namespaces: {text.splitlines()[0]}")
        raise Internal(f"work in the container's namespaces: it ended with code {code} and no answer")
    found: Any = loads(answer, "answer")
    if "error" in found:
        raise_error(found["error"])
    return found["result"]


def raise_error(value: dict[str, Any]) -> None:
    """Raise the error that a process inside described: the same class, words and hint."""
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, CorralError) and kind.kind == value["kind"]:
            raise kind(value["message"], hint=value["hint"], path=value["path"], errno=value["errno"])
    raise CorralError(value["message"], hint=value["hint"])
