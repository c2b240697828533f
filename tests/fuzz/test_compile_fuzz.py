"""Broken configurations through the whole planner, without doing anything: a plan, problems, or one error."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conformance.spec import base_spec
from corral.errors import CorralError
from corral.oci.json import dumps
from corral.runtime.commands.check import find_problems
from corral.runtime.options import parse
from corral.runtime.prepare import Surroundings, load_job
from corral.runtime.programs import compile_programs
from corral.runtime.wire import encode
from fuzz.mutations import EDITS, ODD_VALUES, edit
from unit.oci.documents import full_spec

EXAMPLES = int(os.environ.get("CORRAL_FUZZ_SECONDS", "5")) * 60
Edit = tuple[int, str, int]
edits = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(EDITS), st.integers(0, len(ODD_VALUES) - 1)),
    min_size=1,
    max_size=4,
)
ERROR_KINDS = frozenset(
    ("invalid-argument", "not-found", "already-exists", "failed-precondition", "permission-denied", "unsupported")
)


def check_error(error: CorralError) -> None:
    """What every error promises: a kind, an operation with its object and cause, one line, no forbidden words."""
    text = str(error)
    assert error.kind in ERROR_KINDS, repr(error)
    assert ": " in error.message, text
    # Line breaks in names of the user's own are kept here, and made blanks where errors are shown.
    assert "\0" not in text + error.hint, repr(text)
    assert len(text) < 5000, len(text)
    assert len(error.pointer) < 600, error.pointer
    for word in ("failed", "unable to", "internal error", "Traceback", "Error("):
        assert word not in text.replace(repr(error.path), ""), text
    for word in ("permission denied", "operation not permitted", "no such file or directory"):
        assert word not in error.hint, error.hint


def compile_document(bundle: Path, document: Any) -> None:
    """What `create` and `check` do with a document, up to the first side effect."""
    try:
        text = dumps(document).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return
    (bundle / "config.json").write_bytes(text)
    around = Surroundings(str(bundle), {})
    for finding in find_problems(parse(["check"]), around):
        assert finding.message
        assert not set("\n\0") & set(finding.message + finding.pointer), finding.message
    line = parse(["--root", str(bundle / "state"), "explain", "--bundle", str(bundle)])
    try:
        job, _ = load_job(line, around, "fuzzed")
        for problem in job.problems:
            check_error(problem)
        if job.problems:
            return
        assert len(encode(job.plan)) > 0
        for program in compile_programs(job, created="now", owner="root").values():
            assert len(encode(program)) > 0
    except CorralError as error:
        check_error(error)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose rootfs is empty."""
    (tmp_path / "rootfs").mkdir()
    return tmp_path


@pytest.mark.parametrize("base", [base_spec, full_spec], ids=["small", "full"])
@pytest.mark.timeout(max(120, EXAMPLES))
def test_a_broken_configuration_gives_a_plan_or_one_error(base: Any, bundle: Path) -> None:
    """Whatever is edited: no exception but CorralError, no line break or NUL in its words, and nothing is made."""

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(edits)
    @example([(0, "drop", 0)])
    @example([(0, "double", 0), (4375, "replace", 16)])  # a NUL in root.path
    @example([(112, "replace", 38), (540, "replace", 17)])  # a line break in the path of a hook
    def explore(chosen: list[Edit]) -> None:
        document = deepcopy(base())
        for where, what, value in chosen:
            edit(document, where, what, ODD_VALUES[value])
        compile_document(bundle, document)

    explore()
    assert sorted(os.listdir(bundle)) == ["config.json", "rootfs"]
