"""Reading command lines: the rules of Podman's and Docker's parser."""

from __future__ import annotations

import pytest

from corral.cli.flags import Command, Line, many, parse, split_globals, switch, value
from corral.errors import InvalidArgument

RUN = Command(
    "run",
    "IMAGE [COMMAND...]",
    (
        switch("interactive", "", "i"),
        switch("tty", "", "t"),
        switch("detach", "", "d"),
        many("publish", "PORT", "publish a port", "p"),
        value("name", "NAME", "the name"),
        value("hostname", "NAME", "the host name", "h"),
        many("env", "NAME=VALUE", "", "e"),
    ),
    least=1,
    passes_rest=1,
)
PS = Command("ps", flags=(switch("all", "", "a"), many("filter", "KEY=VALUE", "", "f")), most=1)


def read(*words: str) -> Line:
    """The words after ``corral run``."""
    return parse(words, RUN)


def test_cluster_of_short_flags_ends_with_one_that_takes_a_value() -> None:
    """``-itdp 80:80``, ``-p80:80`` and ``-p=80:80``."""
    assert read("-itdp", "80:80", "x").values == {
        "interactive": True,
        "tty": True,
        "detach": True,
        "publish": ["80:80"],
    }
    assert read("-p80:80", "-p=81:81", "x").texts("publish") == ["80:80", "81:81"]


def test_long_flag_takes_its_value_by_equals_or_as_the_next_word() -> None:
    """The last of a single value counts; an empty value is one."""
    assert read("--name", "a", "--name=b", "x").text("name") == "b"
    assert read("--name=", "x").values == {"name": ""}


def test_switch_takes_true_and_false_by_equals_only() -> None:
    """``--tty=false`` turns it off; the next word is never its value."""
    assert read("--tty=false", "x").values == {"tty": False}
    assert read("-t", "false").args == ["false"]
    assert not read("-t=0", "x").has("tty")


def test_everything_after_the_image_belongs_to_the_program() -> None:
    """Flags behind the image are the program's; one ``--`` between the two is nobody's."""
    assert read("--name", "n", "img", "ls", "-l", "--name", "x").args == ["img", "ls", "-l", "--name", "x"]
    assert read("img", "--", "echo", "--", "x").args == ["img", "echo", "--", "x"]
    assert read("-i", "--", "-odd-name").args == ["-odd-name"]


def test_flags_may_stand_behind_arguments_of_other_commands() -> None:
    """``corral ps web -a``."""
    line = parse(["web", "-a", "--filter", "a=b", "-fc=d"], PS)
    assert (line.args, line.has("all"), line.texts("filter")) == (["web"], True, ["a=b", "c=d"])


def test_short_h_is_the_hostname_where_a_command_has_one() -> None:
    """As in Docker; elsewhere -h is help."""
    assert read("-h", "box", "x").text("hostname") == "box"
    assert parse(["-h"], PS).has("help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nmae", "x"], "run: unknown flag '--nmae'"),
        (["-z"], "run: unknown flag '-z'"),
        (["--name"], "run: flag --name needs a value"),
        (["-itp"], "run: flag -p needs a value"),
        (["--tty=maybe", "x"], "run: flag --tty: 'maybe' is neither true nor false"),
        ([], "run: IMAGE is missing"),
    ],
)
def test_wrong_command_line_names_the_flag(words: list[str], message: str) -> None:
    """The command and the flag as it was written stand in the message."""
    with pytest.raises(InvalidArgument) as caught:
        read(*words)
    assert str(caught.value) == message


def test_misspelt_flag_hints_at_the_one_that_was_meant() -> None:
    """The nearest flag, and where all of them are told."""
    with pytest.raises(InvalidArgument) as caught:
        read("--nmae", "x")
    assert caught.value.hint == "did you mean --name? `corral run --help` lists the flags"


def test_too_many_arguments_are_refused() -> None:
    """The first one too many is named."""
    with pytest.raises(InvalidArgument, match="ps: unexpected argument 'b'"):
        parse(["a", "b"], PS)


def test_global_flags_stand_before_the_command() -> None:
    """From the command on, words are the command's."""
    line, words = split_globals(["--store", "/s", "ps", "--store", "x"])
    assert (line.text("store"), words) == ("/s", ["ps", "--store", "x"])


def test_numbers_and_durations_are_checked_when_they_are_asked_for() -> None:
    """The flag and the value stand in the message."""
    line = parse(["--filter", "x"], PS)
    line.values["last"] = "3x"
    with pytest.raises(InvalidArgument, match="--last '3x': not a number"):
        line.number("last", 0)
    line.values["time"] = "1m30s"
    assert line.seconds("time", 0) == 90
