"""``planner``: stay resident and compile for other calls of corral-runtime."""

from __future__ import annotations

import os

from corral.errors import InvalidArgument
from corral.runtime.containers import absolute_root
from corral.runtime.planner import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


def run(line: CommandLine) -> int:
    """Serve until SIGTERM, SIGINT or the end of ``--stop-fd``; containers do not notice its end."""
    import signal

    path = os.path.abspath(line.text("socket")) if line.text("socket") else ""
    if line.text("stop-fd"):
        serve(absolute_root(line), path, stop_fd=_stop_fd(line.text("stop-fd")))
        return 0
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    serve(absolute_root(line), path, stop_fd=readable)
    return 0


def _stop_fd(text: str) -> int:
    try:
        number = int(text)
        os.fstat(number)
    except (ValueError, OSError) as exc:
        raise InvalidArgument(
            f"planner: flag --stop-fd: {text!r} is no open descriptor", hint="give the number of an inherited one"
        ) from exc
    return number
