"""What the resident process takes from a front, and what it leaves to it."""

from __future__ import annotations

import pytest

from corral.cli.resident import Request, is_quick

IDENTITY = b"1.0\0mnt:[1]\0Uid:\t0\0"


def message(*, limits: int = 16, count: str = "2", words: tuple[str, ...] = ("ps", "-a")) -> bytes:
    """A request with these words, the umask 022 and a variable."""
    rest = (*["1 -1"] * limits, "18", count, *words, "A=b=c", "LANG=C.UTF-8")
    return IDENTITY + b"".join(word.encode() + b"\0" for word in rest)


def test_request_holds_what_the_front_is() -> None:
    """Limits as numbers, words as text, variables as bytes."""
    request = Request(message(), IDENTITY)
    assert (request.limits, request.umask, request.arguments) == ([(1, -1)] * 16, 0o22, ["ps", "-a"])
    assert request.environment == {b"A": b"b=c", b"LANG": b"C.UTF-8"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        message()[:-1],
        message().replace(b"mnt:[1]", b"mnt:[2]"),
        message(count="9"),
        message(count="0"),
        message(count="x"),
        message(limits=3),
        IDENTITY,
    ],
)
def test_request_of_another_kind_is_refused(data: bytes) -> None:
    """Cut off, from elsewhere, or with numbers that are none."""
    with pytest.raises(ValueError):
        Request(data, IDENTITY)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({b"LANG": b"en_US.UTF-8"}, True),
        ({b"LANG": b"de_DE.ISO-8859-1"}, False),
        ({b"LANG": b"de_DE.ISO-8859-1", b"LC_ALL": b"C.utf8"}, True),
        ({b"LC_ALL": b"", b"LC_CTYPE": b"POSIX"}, True),
    ],
)
def test_only_utf8_is_spoken(environment: dict[bytes, bytes], expected: bool) -> None:
    """The first variable of three that is set decides, as in setlocale(3)."""
    request = Request(message(), IDENTITY)
    request.environment = environment
    assert request.has_utf8 is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run -d host -- true", True),
        ("run --detach=true host true", True),
        ("run -itd host sh", True),
        ("run host ls -d", False),
        ("run --detach=false host true", False),
        ("run", False),
        ("--store /s --run-dir /r rm -f a", True),
        ("--no-service ps", False),
        ("start a", True),
        ("start -a a", False),
        ("start -i a", False),
        ("ps --nonsense", False),
        ("exec a true", False),
        ("logs a", False),
        ("image ls", False),
        ("", False),
    ],
)
def test_what_goes_on_in_the_foreground_is_not_short(line: str, expected: bool) -> None:
    """The parser decides, with the whole command line."""
    assert is_quick(line.split()) is expected
