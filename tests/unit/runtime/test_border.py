"""What nobody expected still reads as one line, with its kind and a hint."""

from __future__ import annotations

import errno

import pytest

from corral.errors import InvalidArgument
from corral.runtime.border import to_corral_error

KERNEL = [
    (errno.EACCES, "permission-denied"),
    (errno.EROFS, "permission-denied"),
    (errno.ENOENT, "not-found"),
    (errno.ENOSPC, "resource-exhausted"),
    (errno.EIO, "unavailable"),
]


@pytest.mark.parametrize(("number", "kind"), KERNEL, ids=[errno.errorcode[number] for number, _ in KERNEL])
def test_an_answer_of_the_kernel_keeps_its_words(number: int, kind: str) -> None:
    """An OSError names the operation, the file and the kernel's words, and its errno decides the kind."""
    error = to_corral_error(OSError(number, "Some Words", "/a/file"), "list")
    assert error.kind == kind
    assert str(error) == "list: /a/file: some words"
    assert error.errno == number


def test_a_defect_names_its_place() -> None:
    """Anything else is a defect of Corral: type, text on one line, and where it happened as the hint."""
    try:
        raise ValueError("two\nlines")
    except ValueError as exc:
        error = to_corral_error(exc, "plan create")
    assert error.kind == "internal"
    assert str(error) == "plan create: ValueError: two lines"
    assert error.hint.startswith("this is a defect of Corral (")
    assert "test_border.py:" in error.hint


def test_an_error_of_corral_passes_unchanged() -> None:
    """What already has a kind and a hint keeps them."""
    error = InvalidArgument("read x: y", hint="z")
    assert to_corral_error(error, "plan create") is error
