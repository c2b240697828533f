"""Messages of the Python commands: stderr for people, ``--log`` for callers, in the shapes of runc's logger.

Callers read ``--log`` as one JSON document, so an error is exactly one line there, its hint a member of it.
"""

from __future__ import annotations

import sys
import time

from corral.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.errors import CorralError


def report(error: CorralError, *, log: str = "", log_format: str = "text") -> None:
    """Print an error, and write its line to the log file if there is one. One line, whatever name it quotes."""
    text = " ".join(str(error).splitlines())
    sys.stderr.write(f"{text}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    _write(log, log_format, "error", text, error.hint)


def warn(text: str, *, log: str = "", log_format: str = "text") -> None:
    """Print a warning; with a log file it goes there instead, so that callers can parse stderr."""
    if log:
        _write(log, log_format, "warning", text, "")
    else:
        sys.stderr.write(f"warning: {text}\n")


def _write(log: str, log_format: str, level: str, text: str, hint: str) -> None:
    if not log:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if log_format == "json":
        entry = {"level": level, "msg": text, "time": now}
        if hint:
            entry["hint"] = hint
        line = dumps(entry)
    else:
        line = f"time={dumps(now)} level={level} msg={dumps(text)}"
    try:
        with open(log, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(line + "\n")
    except OSError as exc:
        sys.stderr.write(f"write the log {log}: {(exc.strerror or '').lower()}\n")
