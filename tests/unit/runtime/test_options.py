"""corral.runtime.options: runc's command lines."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.runtime.main import _MODULES
from corral.runtime.options import COMMAND_FLAGS, check_id, parse
from corral.runtime.usage import usage


@pytest.mark.parametrize(
    ("words", "values", "args"),
    [
        pytest.param("create --bundle /b c1", {"bundle": "/b"}, ["c1"], id="value after a blank"),
        pytest.param("create --bundle=/b c1", {"bundle": "/b"}, ["c1"], id="value after an equals sign"),
        pytest.param("create -b /b c1", {"bundle": "/b"}, ["c1"], id="short flag"),
        pytest.param("create -bundle /b c1", {"bundle": "/b"}, ["c1"], id="one dash, as Go's flags"),
        pytest.param("create c1 --bundle /b", {"bundle": "/b"}, ["c1"], id="flag after the id"),
        pytest.param("--root /r --systemd-cgroup kill c1 9", {"root": "/r", "systemd-cgroup": True}, ["c1", "9"],
                     id="global flags"),
        pytest.param("create --preserve-fds 3 c1", {"preserve-fds": 3}, ["c1"], id="number"),
        pytest.param("exec -e A=b -e C=d c1 sh", {"env": ["A=b", "C=d"]}, ["c1", "sh"], id="repeated"),
        pytest.param("exec --tty=false c1 sh", {"tty": False}, ["c1", "sh"], id="flag switched off"),
        pytest.param("exec c1 ls -l --bundle", {}, ["c1", "ls", "-l", "--bundle"], id="the program's own flags"),
        pytest.param("ps c1 -o pid", {}, ["c1", "-o", "pid"], id="ps passes its options on"),
        pytest.param("run -- -x", {}, ["-x"], id="two dashes end the flags"),
        pytest.param("update --memory -1 c1", {"memory": "-1"}, ["c1"], id="a negative value"),
        pytest.param("update --resources - c1", {"resources": "-"}, ["c1"], id="standard input"),
        pytest.param("list", {}, [], id="nothing"),
    ],
)  # fmt: skip
def test_command_line_is_read_as_runc_reads_it(words: str, values: dict[str, Any], args: list[str]) -> None:
    """Flags in any place, in every spelling that callers use; what belongs to the program is left alone."""
    line = parse(words.split())

    assert values == line.values
    assert args == line.args


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fly c1", "unknown command 'fly'"),
        ("create --wings c1", "create: unknown flag '--wings'"),
        ("--wings create", "unknown flag '--wings'"),
        ("create c1 --bundle", "create: flag --bundle needs a value"),
        ("create --preserve-fds x c1", "create: flag --preserve-fds: 'x' is not a number"),
        ("exec --tty=maybe c1 sh", "exec: flag --tty: 'maybe' is neither true nor false"),
    ],
)
def test_odd_command_line_is_refused_by_name(words: str, message: str) -> None:
    """The error names the command, the flag and what is wrong with it."""
    with pytest.raises(InvalidArgument) as caught:
        parse(words.split())

    assert message == caught.value.message


@pytest.mark.parametrize("words", ["--help", "-h", "create --help", "help", "help create", ""])
def test_help_is_a_flag_wherever_it_stands(words: str) -> None:
    """Asking for help is never an error."""
    line = parse(words.split())

    assert line.flag("help")
    assert "usage" in usage(line.command).lower()


@pytest.mark.parametrize("name", ["c1", "a_b+c-d.e", "0", "A" * 255])
def test_id_of_runcs_alphabet_is_taken(name: str) -> None:
    """Letters, digits and _ + - . are a name."""
    assert name == check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "é", ".hidden", "a" * 1025, "a\nb"])
def test_id_that_could_be_a_path_is_refused(name: str) -> None:
    """The id becomes a directory's name; runc's words say so."""
    with pytest.raises(InvalidArgument, match="invalid container id format"):
        check_id(name)


def test_missing_id_is_told_with_the_usage() -> None:
    """The hint says how the command is used."""
    with pytest.raises(InvalidArgument) as caught:
        parse(["state"]).container_id()

    assert "state: the container's id is missing" == caught.value.message
    assert "usage: state ID" == caught.value.hint


@pytest.mark.parametrize("command", ["create", "run", "pause", "resume", "update", "events"])
def test_second_argument_is_refused_where_one_is_taken(command: str) -> None:
    """A forgotten flag is not silently dropped."""
    with pytest.raises(InvalidArgument) as caught:
        parse([command, "c1", "c2"]).container_id()

    assert f"{command}: unexpected argument 'c2'" == caught.value.message


def test_values_of_another_kind_count_as_absent() -> None:
    """Asking for a text where there is a number gives the default, never a wrong type."""
    line = parse(["create", "--preserve-fds", "3", "--no-pivot", "c1"])

    assert ("", [], 0, False) == (
        line.text("preserve-fds"),
        line.texts("no-pivot"),
        line.number("bundle"),
        line.flag("x"),
    )
    assert 3 == line.number("preserve-fds")


def test_every_python_command_has_flags_and_help() -> None:
    """The three tables (modules, flags, help texts) know the same commands."""
    assert sorted(set(_MODULES) - set(COMMAND_FLAGS)) == []
    for command in COMMAND_FLAGS:
        assert command in usage(command)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_no_command_line_makes_a_traceback(words: list[str]) -> None:
    """Any words are a command line, or an InvalidArgument."""
    with suppress(InvalidArgument):
        parse(words)
