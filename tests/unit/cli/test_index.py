"""The table of commands, what they describe, and the texts made of it."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from corral.cli.commands.completion import SCRIPTS
from corral.cli.flags import BOOL, MANY, VALUE, Command, parse
from corral.cli.index import ALIASES, GROUPS, HIDDEN, find
from corral.cli.main import commands_of, load
from corral.cli.man import pages
from corral.cli.usage import command_help, overview

NAMES = [(name, module) for _, commands in (*GROUPS, ("", HIDDEN)) for name, module, _ in commands]


def command(name: str, module: str) -> Command:
    """The description of a command."""
    return commands_of(load(module))[name]


@pytest.mark.parametrize(("name", "module"), NAMES)
def test_every_command_of_the_index_is_described_by_its_module(name: str, module: str) -> None:
    """The index names a module that has the command, and can run it."""
    loaded = load(module)
    assert commands_of(loaded)[name].name == name
    assert callable(loaded.run)  # type: ignore[attr-defined]


def test_every_described_command_is_in_the_index() -> None:
    """No command is hidden by having been forgotten."""
    described = {name for module in {module for _, module in NAMES} for name in commands_of(load(module))}
    assert described == {name for name, _ in NAMES}


@pytest.mark.parametrize(("name", "module"), NAMES)
def test_flags_are_complete_and_have_names_of_their_own(name: str, module: str) -> None:
    """Each has a help text and, if it takes a value, a word for it; no name or letter twice (but -h)."""
    flags = command(name, module).flags
    names = [flag.name for flag in flags]
    letters = [flag.short for flag in flags if flag.short and flag.short != "h"]
    assert (sorted(set(names)), sorted(set(letters))) == (sorted(names), sorted(letters))
    assert [flag.name for flag in flags if not flag.help or (flag.kind in (VALUE, MANY)) != bool(flag.meta)] == []
    assert {flag.kind for flag in flags} <= {BOOL, VALUE, MANY}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "x"], ("run", ["x"])),
        (["pod", "create", "x"], ("pod create", ["x"])),
        (["container", "ls"], ("ps", [])),
        (["container", "stop", "x"], ("stop", ["x"])),
        (["image", "rm", "x"], ("rmi", ["x"])),
        (["image", "pull", "x"], ("pull", ["x"])),
        (["info"], ("system info", [])),
        (["nonsense"], ("", ["nonsense"])),
        (["pod"], ("", ["pod"])),
    ],
)
def test_find_knows_the_words_of_docker_and_podman(words: list[str], expected: tuple[str, list[str]]) -> None:
    """Management commands of Docker lead to the same commands."""
    name, _, rest = find(words)
    assert (name, rest) == expected


def test_aliases_lead_to_commands() -> None:
    """No alias leads nowhere."""
    assert sorted(set(ALIASES.values()) - {name for name, _ in NAMES}) == []


def test_overview_lists_every_command_but_the_hidden() -> None:
    """`corral --help`."""
    text = overview()
    assert [name for _, commands in GROUPS for name, _, _ in commands if f"  {name} " not in text] == []
    assert "_exited" not in text


@pytest.mark.parametrize(("name", "module"), [item for item in NAMES if not item[0].startswith("_")])
def test_help_of_a_command_shows_all_its_flags(name: str, module: str) -> None:
    """`corral COMMAND --help`, within 120 columns but for examples."""
    described = command(name, module)
    text = command_help(described)
    assert [flag.name for flag in described.flags if f"--{flag.name}" not in text] == []
    assert [line for line in text.splitlines() if len(line) > 140] == []


def test_examples_of_the_help_are_command_lines() -> None:
    """Each example names its own command, and only flags that it has."""
    for name, module in NAMES:
        described = command(name, module)
        for example, _ in described.examples:
            words = example.split(" | ")[0].split(" > ")[0]
            assert words.startswith(name), example
            parse(shlex.split(words)[len(name.split()) :], described)


def test_man_pages_are_roff_without_complaint() -> None:
    """One page a command and one for all; macros begin lines, text never does by chance."""
    found = dict(pages("1.2.3"))
    assert "corral.1" in found
    assert len(found) == 1 + sum(len(commands) for _, commands in GROUPS)
    macros = {".TH", ".SH", ".SS", ".TP", ".B", ".BR"}
    for name, text in found.items():
        assert [line for line in text.splitlines() if line[:1] in ".'" and line.split()[0] not in macros] == [], name


@pytest.mark.requires("groff")
def test_man_page_is_read_by_man() -> None:
    """groff finds nothing to warn of."""
    for _, text in list(pages("1.2.3"))[:5]:
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", [pytest.param(name, marks=pytest.mark.requires(name)) for name in SCRIPTS])
def test_completion_script_is_read_by_its_shell(shell: str) -> None:
    """It parses."""
    done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_shows_what_the_program_answers() -> None:
    """bash asks it for the words that may follow."""
    asked = """
corral() { [ "$*" = "_complete -- run --net" ] && printf -- '--network\\ta text\\n--network-alias\\tmore\\n'; }
COMP_WORDS=(corral run --net); COMP_CWORD=2; _corral; echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash"], input=SCRIPTS["bash"] + asked, capture_output=True, text=True)
    assert done.stdout == "--network --network-alias\n"
