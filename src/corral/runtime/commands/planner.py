"""``planner``: stay resident and compile for other calls of corral-runtime."""

from __future__ import annotations

import os

from corral.runtime.containers import absolute_root
from corral.runtime.planner import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.runtime.options import CommandLine


def run(line: CommandLine) -> int:
    """Serve until SIGTERM or SIGINT; containers do not notice its end."""
    import signal

    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    path = os.path.abspath(line.text("socket")) if line.text("socket") else ""
    serve(absolute_root(line), path, stop_fd=readable)
    return 0
