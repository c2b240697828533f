"""A client of an engine in a process of its own: ``python client.py STORE``; one verb a line of JSON, one line back.

Other tests start it by ``Client``: ``ask`` sends and ``answer`` waits, so that several can be at it at once.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

ANSWER_S = 100.0


class Client:
    """The other end. ``close`` ends it, also when it hangs."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.is_asked = False
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> subprocess.Popen[str]:
        source = Path(__file__).resolve().parents[2] / "src"
        return subprocess.Popen(
            [sys.executable, __file__, self.store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )

    def ask(self, verb: str, *arguments: Any, **options: Any) -> None:
        """Begin a verb."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, arguments, options]) + "\n")
        self._process.stdin.flush()
        self.is_asked = True

    def answer(self) -> tuple[str, Any]:
        """("", what it returned), or (the kind of the error, what it says); ("killed", "") when the client is gone."""
        assert self._process.stdout is not None
        self.is_asked = False
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        assert ready, "a verb does not return"
        line = self._process.stdout.readline()
        if not line:
            return "killed", ""
        kind, said = json.loads(line)
        return kind, said

    def call(self, verb: str, *arguments: Any, **options: Any) -> tuple[str, Any]:
        """A verb to its end."""
        self.ask(verb, *arguments, **options)
        return self.answer()

    def replace(self) -> None:
        """SIGKILL it in the midst of whatever it does, and start another one."""
        self.close()
        self.is_asked = False
        self._process = self._start()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue


def main() -> None:
    """Serve the lines of standard input."""
    from corral.engine.places import Places
    from corral.engine.verbs import find
    from corral.errors import CorralError

    places = Places(sys.argv[1])
    for line in sys.stdin:
        verb, arguments, options = json.loads(line)
        try:
            reply = ["", find(verb)(places, *arguments, **options)]
        except CorralError as exc:
            reply = [type(exc).__name__, str(exc)]
        except OSError as exc:
            reply = ["OSError", str(exc)]
        print(json.dumps(reply, default=str), flush=True)


if __name__ == "__main__":
    main()
