"""The runtime under test, behind a wrapper that writes down each call before it execs the real one."""

from __future__ import annotations

from pathlib import Path

from callers.sandbox import INSIDE, Sandbox

SEPARATOR = "\x1f"
WRAPPER = """#!/bin/sh
line=$$
for word in "$@"; do line="$line{separator}$word"; done
printf '%s\\n' "$line" >> {log}
exec {real} "$@"
"""


class RuntimeUnderTest:
    """Paths (inside the sandbox) of the wrapper and of a link named runc, and the log of calls."""

    def __init__(self, sandbox: Sandbox, real: Path) -> None:
        self.real = real
        self._log = sandbox.path("calls")
        self._log.touch()
        self._log.chmod(0o666)
        # The wrapper keeps the real name: podman asks for JSON errors by the name of the binary.
        self.path = self._install(sandbox, "runtime", real.name, real)
        link = sandbox.path("link")
        link.mkdir()
        (link / "runc").symlink_to(real)
        self.as_runc = self._install(sandbox, "as-runc", "runc", INSIDE / "link" / "runc")

    @staticmethod
    def _install(sandbox: Sandbox, folder: str, name: str, real: Path) -> Path:
        directory = sandbox.path(folder)
        directory.mkdir()
        script = WRAPPER.format(separator=SEPARATOR, log=INSIDE / "calls", real=real)
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)
        return INSIDE / folder / name

    def calls(self) -> list[list[str]]:
        """The argument lists of all calls so far, oldest first."""
        return [line.split(SEPARATOR)[1:] for line in self._log.read_text().splitlines()]

    def forget(self) -> None:
        """Empty the log."""
        self._log.write_text("")

    def verbs(self) -> list[str]:
        """The commands (create, start, ...) that callers asked for, oldest first."""
        known = "checkpoint create delete events exec features kill list pause ps resume run start state update"
        return [
            next((word for word in call if word in known.split()), call[0] if call else "") for call in self.calls()
        ]
