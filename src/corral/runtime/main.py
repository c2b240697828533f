"""The Python side of ``corral-runtime``: dispatches to one module per command, and prints errors as runc does.

Called by the front for every command that it does not run itself, and as the cold planner (``--planner-fd=N``).
"""

from __future__ import annotations

import sys

from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from corral.runtime.options import CommandLine

EXIT_NO_CGROUP = 3
PLANNER_FLAG = "--planner-fd="

# Commands of their own module; each has `run(line) -> int`.
_MODULES = {
    "check": "check",
    "delete": "delete",
    "doctor": "doctor",
    "events": "events",
    "explain": "explain",
    "features": "features",
    "gc": "gc",
    "list": "list_",
    "mounts": "mounts",
    "pause": "pause",
    "planner": "planner",
    "ps": "ps",
    "resume": "pause",
    "spec": "spec",
    "state": "state",
    "update": "update",
}

# Commands that are the front's, save for what this flag asks for.
_ONLY_WITH = {"delete": "regex", "state": "effective"}


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if arguments and arguments[0].startswith(PLANNER_FLAG):
        return _plan_once(int(arguments[0][len(PLANNER_FLAG) :]))
    from corral.runtime.options import parse

    line = None
    try:
        line = parse(arguments)
        return _dispatch(line)
    except CorralError as exc:
        _report(exc, line, arguments)
        return EXIT_NO_CGROUP if exc.kind == "no-cgroup" else 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as exc:
        # The border of the program: whatever happens, its caller reads words, not a traceback.
        from corral.runtime.border import to_corral_error

        _report(to_corral_error(exc, line.command if line is not None else "read the command line"), line, arguments)
        return 1


def _plan_once(fd: int) -> int:
    from corral.linux.sockets import from_fd
    from corral.runtime.session import Session

    sock = from_fd(fd)
    session = Session(sock)
    while not session.is_over:
        session.receive()
    sock.close()
    return 0


def _dispatch(line: CommandLine) -> int:
    if line.command in ("checkpoint", "restore"):
        # Also with --help: podman takes a successful help for support.
        from corral.errors import Unsupported

        raise Unsupported(
            f"{line.command}: not supported", hint="checkpoint and restore of processes are outside Corral's scope"
        )
    if line.flag("help") or not line.command:
        from corral.runtime.usage import usage

        sys.stdout.write(usage(line.command))
        return 0
    needed = _ONLY_WITH.get(line.command)
    if line.command not in _MODULES or (needed and not line.flag(needed)):
        _refuse_arguments(line)
    from importlib import import_module

    module = import_module(f"corral.runtime.commands.{_MODULES[line.command]}")
    code = module.run(line)
    assert isinstance(code, int)
    return code


def _refuse_arguments(line: CommandLine) -> NoReturn:
    """The front hands its own commands over only when it cannot read their arguments: say what is wrong with them."""
    from corral.errors import InvalidArgument

    line.container_id()
    last = line.args[-1]
    hint = f"`corral-runtime {line.command} --help` tells its arguments"
    raise InvalidArgument(f"{line.command}: unexpected argument {last!r}", hint=hint)


def _report(error: CorralError, line: CommandLine | None, arguments: list[str]) -> None:
    from corral.runtime.log import report
    from corral.runtime.options import parse_globals

    line = line or parse_globals(arguments)
    report(error, log=line.text("log"), log_format=line.text("log-format", "text"))
