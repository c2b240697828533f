"""Broken configurations: whatever the bytes, reading one ends in a value, a list of problems, or one kind of error.

Bounded by default; ``CORRAL_FUZZ_SECONDS`` makes it run that long. The seed is printed and can be given back through
``CORRAL_FUZZ_SEED``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from corral.errors import InvalidArgument
from corral.oci.json import dumps, loads
from corral.oci.validate import normalize, to_error, validate, validate_process, validate_resources
from unit.oci.documents import full_spec

SECONDS = float(os.environ.get("CORRAL_FUZZ_SECONDS", "5")) / 2
# What configurations go wrong with: wrong types, ends of ranges, NUL, line breaks, long and climbing names.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32 - 1, 2**63, 2**64, -(2**64), 10**400, 1.5, -0.0, 1e300),
    *("", "\0", "a\nb", "/", ".", "..", "../..", "/proc/self/exe", "a" * 70000, "\U0001f600", "-1", "0-4294967295"),
    *([], {}, [None], [[]], [{}], {"": None}, {"a": {}}, ["a", 1], [""] * 300),
)
ODD_BYTES = (
    b"\0",
    b"\xff",
    b'"',
    b"\\",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"NaN",
    b"1e999",
    b"-",
)


def _containers(value: object) -> list[Any]:
    found = []
    stack = [value]
    while stack:
        at = stack.pop()
        if isinstance(at, dict | list) and at:
            found.append(at)
            stack.extend(at.values() if isinstance(at, dict) else at)
    return found


def _break_members(chance: random.Random) -> bytes:
    """A full document with a few members replaced, removed, swapped or added."""
    document: Any = full_spec()
    for _ in range(chance.randint(1, 4)):
        holders = _containers(document)
        at = chance.choice(holders)
        key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
        other = chance.choice(holders)
        # Copies: a value shared between two places could come to contain itself.
        at[key] = deepcopy(chance.choice((chance.choice(ODD_VALUES), chance.choice(ODD_VALUES), other)))
        if isinstance(at, dict) and chance.random() < 0.2:
            del at[key]
        if isinstance(at, dict) and chance.random() < 0.2:
            at[chance.choice(("", "\0", "a b", "net.x", "../x", "ociVersion"))] = deepcopy(chance.choice(ODD_VALUES))
    return dumps(document).encode()


def _break_bytes(chance: random.Random) -> bytes:
    """The text of a full document with a few bytes lost, doubled, changed or put in."""
    text = bytearray(dumps(full_spec()).encode())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice((0, 1, 1, 2, 50)))
        text[start:end] = chance.choice((b"", chance.choice(ODD_BYTES), bytes(text[start:end]) * 2))
    return bytes(text[: chance.randrange(len(text))] if chance.random() < 0.1 else text)


def _read(data: bytes) -> None:
    try:
        document = loads(data)
    except InvalidArgument as error:
        if not (error.message.startswith("parse json: ") and error.hint):
            raise AssertionError(f"an error without place or hint: {error}") from error
        return
    problems = validate(document)
    for problem in (*problems, *validate_process(document), *validate_resources(document)):
        assert problem.message, problem
        assert len(problem.message) < 2000, problem
        assert len(problem.pointer) < 500, problem
        assert not {"\0", "\n"} & {*problem.message, *problem.pointer}, problem
    error_or_none = to_error(problems)
    if error_or_none is None:
        # What validation takes, later code reads without a second look.
        clean = normalize(document)
        assert clean["root"]["path"]
        assert [] == [problem for problem in validate(clean) if not problem.is_warning]
    else:
        assert str(error_or_none).startswith("validate config.json: ")


@pytest.mark.parametrize("mutate", [_break_members, _break_bytes], ids=["members", "bytes"])
@pytest.mark.timeout(max(120, SECONDS * 2))
def test_a_broken_configuration_is_answered_with_problems(mutate: Callable[[random.Random], bytes]) -> None:
    """Never a traceback, never a hang."""
    seed = int(os.environ.get("CORRAL_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    deadline = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < deadline:
        data = mutate(random.Random(f"{seed}-{count}"))
        try:
            _read(data)
        except Exception as error:
            raise AssertionError(f"CORRAL_FUZZ_SEED={seed}, document {count}: {data[:2000]!r}") from error
        count += 1
    print(f"CORRAL_FUZZ_SEED={seed}: {count} documents")
    assert count > 0
