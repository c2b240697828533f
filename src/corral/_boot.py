"""From the launcher to the commands of the runtime and of the engine. Owns how the process ends, and nothing else.

Imported by the launcher ``corral-planner`` under ``python -ISE``: it must stay free of imports that cost time.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

__all__ = ["main"]


def main(arguments: list[str]) -> NoReturn:
    """Run one command and end the process with its exit code.

    ``arguments`` are the command line without the program's name; ``--corral`` first: it is the engine's. The
    interpreter's own clean-up (2 ms) is skipped: nothing is held that the kernel does not release, and both output
    streams are flushed here.
    """
    if arguments[:1] == ["--corral"]:
        from corral.cli.main import main as run

        del arguments[0]
    else:
        from corral.runtime.main import main as run

    try:
        code = run(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    _exit(code or 0)


def _exit(code: int) -> NoReturn:
    import posix

    why = _flush(sys.stdout)
    if why and not code:
        # A full disc, or a reader that went away: what was printed is not there, so it is no success.
        code = 1
        try:
            sys.stderr.write(f"write the output: {why}\n" if why != "broken pipe" else "")
        except OSError:
            pass  # The exit code tells it.
    _flush(sys.stderr)
    if "coverage" in sys.modules:
        sys.exit(code)
    posix._exit(code)


def _flush(stream: TextIO) -> str:
    """Why it cannot be flushed, or ""; a stream that the caller has closed is flushed."""
    try:
        stream.flush()
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    except (ValueError, AttributeError):
        pass
    return ""
