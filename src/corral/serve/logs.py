"""What the service logs: lines for people, or JSON lines. Requests are named by verb and peer; bodies never appear."""

from __future__ import annotations

import json
import logging

from corral.errors import InvalidArgument

__all__ = ["set_up"]


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(form: str, *, is_quiet: bool = False) -> None:
    """Log to stderr as ``text`` or ``json``. Raises: InvalidArgument."""
    if form not in ("text", "json"):
        raise InvalidArgument(f"log format {form!r}: no such format", hint="text or json")
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if form == "json" else text)
    logging.basicConfig(level=logging.WARNING if is_quiet else logging.INFO, handlers=[handler], force=True)
