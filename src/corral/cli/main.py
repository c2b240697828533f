"""The entry of ``corral``: finds the command, runs it, says what went wrong, decides the exit code.

Exit codes: the workload's own for run, exec, start --attach and attach; 125 where Corral could not do it, 126 and 127
where the program in the container cannot be executed or is not there; 1 where something named does not exist.
"""

from __future__ import annotations

import sys

from corral.errors import CorralError, Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.flags import Command

EXIT_ENGINE, EXIT_NOT_EXECUTABLE, EXIT_NO_PROGRAM, EXIT_INTERRUPTED = 125, 126, 127, 130
_DEFECT = "this is a defect of Corral: please report it, with what `corral --debug ...` shows"
# Errors of these are the engine's own trouble, since other codes are the workload's.
_RUNNERS = ("run", "exec", "create", "start", "attach")


def main(arguments: list[str]) -> int:
    """Run one command line, without the program's name, and return its exit code."""
    name = ""
    is_debug = False
    try:
        from corral.cli.flags import split_globals

        given, words = split_globals(arguments)
        is_debug = given.has("debug")
        if given.has("version"):
            words = ["version"]
        if not words or given.has("help"):
            return _help(words)
        from corral.cli.index import find

        name, module, rest = find(list(words))
        if not name:
            return _unknown(words)
        return _run(name, module, rest, given.values)
    except CorralError as exc:
        if is_debug:
            raise
        report(exc)
        return exit_code(exc, name)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Who reads has gone, as in `corral ps | head -1`. What could not be flushed must not be tried again at exit.
        sys.stdout = None
        return 0
    except OSError as exc:
        if is_debug:
            raise
        report(from_os_error(exc, name))
        return EXIT_ENGINE
    except Exception as exc:
        # The border of the program: whatever happens, a person reads words, not a traceback.
        if is_debug:
            raise
        report(Internal(f"{name or 'corral'}: {type(exc).__name__}: {exc}", hint=_DEFECT))
        return EXIT_ENGINE


def _run(name: str, module: str, words: list[str], given: dict[str, str | bool | list[str]]) -> int:
    from corral.cli.context import Context
    from corral.cli.flags import parse

    loaded = load(module)
    command = commands_of(loaded)[name]
    line = parse(words, command)
    if line.has("help"):
        from corral.cli.usage import command_help

        sys.stdout.write(command_help(command))
        return 0
    context = Context(given)
    code = loaded.run(line, context)  # type: ignore[attr-defined]
    assert isinstance(code, int)
    return code


def load(module: str) -> object:
    """The module of a command, by its name in the index."""
    return __import__(f"corral.cli.commands.{module}", fromlist=("run",))


def commands_of(module: object) -> dict[str, Command]:
    """The commands that a module describes, by name."""
    commands: tuple[Command, ...] = module.COMMANDS  # type: ignore[attr-defined]
    return {command.name: command for command in commands}


def _help(words: list[str]) -> int:
    from corral.cli.index import find
    from corral.cli.usage import command_help, overview

    name, module, _ = find(list(words))
    sys.stdout.write(command_help(commands_of(load(module))[name]) if name else overview())
    return 0


def _unknown(words: list[str]) -> int:
    from corral.cli.index import GROUPS, names_below
    from corral.cli.usage import group_help
    from corral.errors import InvalidArgument

    below = names_below(words[0])
    if words[0] == "help":
        return _help(words[1:])
    if below and (len(words) == 1 or words[1] in ("-h", "--help", "help")):
        sys.stdout.write(group_help(words[0]))
        return 0
    from difflib import get_close_matches

    shown = " ".join(words[:2]) if below else words[0]
    known = below or [name for _, commands in GROUPS for name, _, _ in commands]
    close = get_close_matches(shown, known, 1, 0.6)
    hint = f"did you mean `corral {close[0]}`? " if close else ""
    raise InvalidArgument(f"unknown command {shown!r}", hint=f"{hint}`corral --help` lists the commands")


def report(error: CorralError) -> None:
    """Print an error and what to do about it, one line each: both may quote what containers and registries say."""
    from corral.cli.render import printable

    sys.stdout.flush()
    sys.stderr.write(f"{printable(' '.join(str(error).splitlines()))}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")


def exit_code(error: CorralError, command: str) -> int:
    """The exit code for an error of ``command``."""
    if command in _RUNNERS and "process.args[0]" in str(error):
        # The runtime points at the program where that is what cannot be executed.
        return EXIT_NO_PROGRAM if "no such file or directory" in error.message else EXIT_NOT_EXECUTABLE
    if error.kind == "not-found" and command not in _RUNNERS:
        return 1
    return EXIT_ENGINE


def from_os_error(exc: OSError, command: str) -> CorralError:
    """An error of the kernel that no layer explained."""
    cause = (exc.strerror or str(exc)).lower()
    named = exc.filename or ""
    if isinstance(named, bytes):
        # Of a container's tree: names there need not be text.
        named = named.decode("utf-8", "surrogateescape")
    return CorralError(f"{command or 'corral'} {named}".rstrip() + f": {cause}", errno=exc.errno or 0)
