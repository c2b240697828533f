"""Broken configurations: whatever the bytes, reading one ends in a value, a list of problems, or one kind of error.

Bounded by default; ``CORRAL_FUZZ_SECONDS`` makes it run that long. The seed is printed and can be given back through
``CORRAL_FUZZ_SEED``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from corral.errors import InvalidArgument
from corral.oci.json import loads
from corral.oci.validate import normalize, to_error, validate, validate_process, validate_resources
from fuzz.mutations import break_bytes, break_members
from unit.oci.documents import full_spec

SECONDS = float(os.environ.get("CORRAL_FUZZ_SECONDS", "5")) / 2


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


@pytest.mark.parametrize("mutate", [break_members, break_bytes], ids=["members", "bytes"])
@pytest.mark.timeout(max(120, SECONDS * 2))
def test_a_broken_configuration_is_answered_with_problems(mutate: Callable[[random.Random, Any], bytes]) -> None:
    """Never a traceback, never a hang."""
    seed = int(os.environ.get("CORRAL_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    deadline = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < deadline:
        data = mutate(random.Random(f"{seed}-{count}"), full_spec())
        try:
            _read(data)
        except Exception as error:
            raise AssertionError(f"CORRAL_FUZZ_SEED={seed}, document {count}: {data[:2000]!r}") from error
        count += 1
    print(f"CORRAL_FUZZ_SEED={seed}: {count} documents")
    assert count > 0
