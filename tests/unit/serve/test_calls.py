"""Verbs as calls: what a client may send, and what it is told otherwise."""

from __future__ import annotations

import pytest

from corral import errors
from corral.engine.verbs import VERBS
from corral.errors import CorralError, InvalidArgument, NotFound
from corral.serve.calls import calls, find_call
from corral.serve.openapi import document
from corral.serve.problems import STATUS, body_of, status_of, to_error

LOCAL = {"cp", "cp_from_tar", "cp_to_tar", "exec", "export", "logs", "due"}


def test_every_verb_is_a_call_but_those_that_need_descriptors() -> None:
    """The table of the engine is the table of the service."""
    assert set(VERBS) - LOCAL == set(calls())


def test_arguments_are_taken_by_name_and_by_position() -> None:
    """``args`` fills the first parameters, names the others."""
    call = find_call("stop")
    assert {"reference": "web", "timeout_s": 3} == call.arguments({"args": ["web"], "timeout_s": 3})
    assert {"reference": "web", "timeout_s": None} == call.arguments({"reference": "web", "timeout_s": None})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "call stop: the body is no JSON object"),
        ({}, "call stop: 'reference' is missing"),
        ({"args": ["a"], "reference": "b"}, "call stop: 'reference' is given twice"),
        ({"args": "a"}, "call stop: 'args' is no list of at most 3 values"),
        ({"args": [1, 2, 3, 4]}, "call stop: 'args' is no list of at most 3 values"),
        ({"reference": 1}, "call stop: 'reference' is int"),
        ({"reference": None}, "call stop: 'reference' is NoneType"),
        ({"reference": "a", "timeout_s": True}, "call stop: 'timeout_s' is bool"),
        ({"reference": "a", "timeout_s": float("nan")}, "call stop: 'timeout_s' is no number of seconds"),
        ({"reference": "a", "timeout_s": float("inf")}, "call stop: 'timeout_s' is no number of seconds"),
        ({"reference": "a", "timeout_s": -(10**400)}, "call stop: 'timeout_s' is no number of seconds"),
        ({"reference": "a", "timeout": 1}, "call stop: no parameter 'timeout'"),
        ({"reference": "a", "places": {}}, "call stop: no parameter 'places'"),
    ],
)
def test_a_wrong_body_is_refused_in_words(body: object, said: str) -> None:
    """Nothing reaches a verb that its signature does not have."""
    with pytest.raises(InvalidArgument) as caught:
        find_call("stop").arguments(body)
    assert said == caught.value.message


def test_lists_are_checked_item_by_item() -> None:
    """A list of something else is refused."""
    with pytest.raises(InvalidArgument, match="'filters' is list"):
        find_call("ps").arguments({"filters": ["a=b", 3]})


def test_an_unknown_verb_is_not_found() -> None:
    """Also one that there is, but not for clients."""
    for verb in ("launch", "due", "__class__"):
        with pytest.raises(NotFound):
            find_call(verb)


def test_every_kind_of_error_has_a_status_code() -> None:
    """The one table of codes is complete."""
    kinds = {cls.kind for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, CorralError)}
    assert kinds == set(STATUS)


def test_an_error_keeps_all_that_it_knows() -> None:
    """The body has message, hint, path and errno; empty fields are left out."""
    error = NotFound("open x: no such file", hint="make it", path="/x", errno=2)
    told = {"kind": "not-found", "message": "open x: no such file", "hint": "make it", "path": "/x", "errno": 2}
    assert ({"error": told}, 404) == (body_of(error), status_of(error))


def test_an_unexpected_exception_becomes_an_internal_error() -> None:
    """Words instead of a traceback; an OSError names its file."""
    assert "POST x: ValueError: odd" == to_error(ValueError("odd"), "POST x").message
    assert (
        "POST x /f: no space left on device" == to_error(OSError(28, "No space left on device", "/f"), "POST x").message
    )


def test_the_document_describes_each_call_and_its_parameters() -> None:
    """OpenAPI: one path a verb, with types, defaults and what is required."""
    paths = document()["paths"]
    assert {f"/v1/{verb}" for verb in calls()} <= set(paths)
    schema = paths["/v1/ps"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"type": ["array", "null"], "items": {"type": "string"}, "default": None} == schema["properties"]["filters"]
    assert "required" not in schema
